"""What a surrogate costs, measured on the machine that evaluates it, beside its solver.

Only `mno.evaluation.cost.measuring` is meant to be called from outside; the rest are its parts.
"""
