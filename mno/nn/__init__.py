"""Neural operators: mixers, backbones, and `build_operator`, which assembles them.

The public names are loaded on first use, so that reading a configuration does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.grid import Grid
    from mno.nn.build import build_operator
    from mno.nn.config import ModelConfig
    from mno.nn.mixers.mamba import MambaMixer

_PUBLIC = {
    "Grid": "mno.grid",
    "MambaMixer": "mno.nn.mixers.mamba",
    "ModelConfig": "mno.nn.config",
    "build_operator": "mno.nn.build",
}

__all__ = ["Grid", "MambaMixer", "ModelConfig", "build_operator"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
