"""Predictions against readings of sensors: the step from simulation to plant.

`given` finds what the model is given, `predicted` asks model and solver, `pairs` brings both to the
place and time of each reading, `scores` measures the errors, `comparison` is the outcome, `page`
writes it.
"""
