"""Surrogates: a trained operator that predicts named numpy arrays in physical units.

The public names are loaded on first use, so that reading a configuration does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.surrogate.description import Description
    from mno.surrogate.surrogate import Surrogate

_PUBLIC = {"Description": "mno.surrogate.description", "Surrogate": "mno.surrogate.surrogate"}

__all__ = ["Description", "Surrogate"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
