"""Compiled kernels: the inner loops of the solvers."""
