"""Mixers: layers in which the points of a grid exchange information."""
