"""Evaluation: additive statistics, metrics, measured cost, figures and the report."""
