"""Neural operators: mixers, backbones, and `build_operator`, which assembles them.

The public names are loaded on first use, so that reading a configuration does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.core.grid import Grid
    from mno.core.points import Points
    from mno.nn.build import build_operator, match_parameters_to
    from mno.nn.config import ModelConfig
    from mno.nn.kernel_view import EffectiveKernel, effective_kernel
    from mno.nn.mixers import build_mixer
    from mno.nn.mixers.mamba import MambaCrossMixer, MambaMixer
    from mno.nn.operator import count_parameters
    from mno.nn.replace import replace_mixer, trainable_stages

_PUBLIC = {
    "EffectiveKernel": "mno.nn.kernel_view",
    "Grid": "mno.core.grid",
    "MambaCrossMixer": "mno.nn.mixers.mamba",
    "MambaMixer": "mno.nn.mixers.mamba",
    "ModelConfig": "mno.nn.config",
    "Points": "mno.core.points",
    "build_mixer": "mno.nn.mixers",
    "build_operator": "mno.nn.build",
    "count_parameters": "mno.nn.operator",
    "effective_kernel": "mno.nn.kernel_view",
    "match_parameters_to": "mno.nn.build",
    "replace_mixer": "mno.nn.replace",
    "trainable_stages": "mno.nn.replace",
}

__all__ = [
    "EffectiveKernel",
    "Grid",
    "MambaCrossMixer",
    "MambaMixer",
    "ModelConfig",
    "Points",
    "build_mixer",
    "build_operator",
    "count_parameters",
    "effective_kernel",
    "match_parameters_to",
    "replace_mixer",
    "trainable_stages",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
