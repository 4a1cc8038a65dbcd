"""Scenarios: families of PDE problems, one module each, and what their solvers compute with."""
