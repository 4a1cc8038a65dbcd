"""The selective scan, the recurrence inside every Mamba mixer, and the paths it runs along.

The public names are loaded on first use, so that reading a configuration does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.scan.interface import selective_scan

_PUBLIC = {"selective_scan": "mno.scan.interface"}

__all__ = ["selective_scan"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
