"""Robustness: errors of a surrogate on data unlike those that it was trained on.

Each kind of difference is one module, and yields a curve beside those of guesses without a model
(`curve`), or one line that says why it was not tried (`reasons`). `measure` tries them all, `trial`
asks and scores, `solved` has the scenario solve what no dataset holds.
"""
