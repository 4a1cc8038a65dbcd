"""Retraining by the clock: what is planned, why to train, and what serves it."""
