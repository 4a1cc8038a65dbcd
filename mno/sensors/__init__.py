"""Predictions against readings of sensors: the step from simulation to plant."""
