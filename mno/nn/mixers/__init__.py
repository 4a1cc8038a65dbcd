"""Mixers: layers in which points exchange information, all behind one interface.

A mixer is called as `mixer(x, place)`, a cross mixer as `mixer(x, source, place)`.
"""
