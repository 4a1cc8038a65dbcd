"""Calibrating what `mno.surrogate.trust` states of single predictions, and what came of it."""
