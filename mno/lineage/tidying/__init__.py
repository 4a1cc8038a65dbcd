"""Tidying without lying: what no model, certificate or workspace needs may go, nothing else."""
