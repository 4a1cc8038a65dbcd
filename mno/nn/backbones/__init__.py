"""Backbones: the architectures that mixers are put into."""
