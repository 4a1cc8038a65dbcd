"""MNO: Mamba neural operators and the production line that makes them."""

__version__ = "0.1.0"
