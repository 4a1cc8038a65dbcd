"""Neural operators: mixers, backbones, and `build_operator`, which assembles them.

The public names are loaded on first use, so that reading a configuration does not load torch.
"""

from typing import TYPE_CHECKING

from mno.core.lazy import loaded_on_use

if TYPE_CHECKING:
    from mno.core.grid import Grid as Grid
    from mno.core.points import Points as Points
    from mno.nn.build import build_operator as build_operator
    from mno.nn.build import match_parameters_to as match_parameters_to
    from mno.nn.config import ModelConfig as ModelConfig
    from mno.nn.kernel_view import EffectiveKernel as EffectiveKernel
    from mno.nn.kernel_view import effective_kernel as effective_kernel
    from mno.nn.mixers import build_mixer as build_mixer
    from mno.nn.mixers.mamba import MambaCrossMixer as MambaCrossMixer
    from mno.nn.mixers.mamba import MambaMixer as MambaMixer
    from mno.nn.mixers.ssd import SsdCrossMixer as SsdCrossMixer
    from mno.nn.mixers.ssd import SsdMixer as SsdMixer
    from mno.nn.operator import count_parameters as count_parameters
    from mno.nn.replace import replace_mixer as replace_mixer

_PUBLIC = {
    "mno.core.grid": ("Grid",),
    "mno.core.points": ("Points",),
    "mno.nn.build": ("build_operator", "match_parameters_to"),
    "mno.nn.config": ("ModelConfig",),
    "mno.nn.kernel_view": ("EffectiveKernel", "effective_kernel"),
    "mno.nn.mixers": ("build_mixer",),
    "mno.nn.mixers.mamba": ("MambaCrossMixer", "MambaMixer"),
    "mno.nn.mixers.ssd": ("SsdCrossMixer", "SsdMixer"),
    "mno.nn.operator": ("count_parameters",),
    "mno.nn.replace": ("replace_mixer",),
}
__getattr__ = loaded_on_use(
    __name__, {name: module for module, names in _PUBLIC.items() for name in names}
)
