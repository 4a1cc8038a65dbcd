"""Everything MLflow: tracking, packaging, registration and promotion.

The public names are loaded on first use, so that training does not load what registers a model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.registry.config import RegistryConfig
    from mno.registry.reading import (
        describe_registry,
        load_surrogate,
        registered_folder,
        why_version_is_unusable,
    )
    from mno.registry.registration import register
    from mno.registry.request import Evaluated, Request
    from mno.registry.settings import prepare, registry_uri
    from mno.registry.tracking import TrainingRun

_PUBLIC = {
    "Evaluated": "mno.registry.request",
    "RegistryConfig": "mno.registry.config",
    "Request": "mno.registry.request",
    "TrainingRun": "mno.registry.tracking",
    "describe_registry": "mno.registry.reading",
    "load_surrogate": "mno.registry.reading",
    "prepare": "mno.registry.settings",
    "register": "mno.registry.registration",
    "registered_folder": "mno.registry.reading",
    "registry_uri": "mno.registry.settings",
    "why_version_is_unusable": "mno.registry.reading",
}

__all__ = [
    "Evaluated",
    "RegistryConfig",
    "Request",
    "TrainingRun",
    "describe_registry",
    "load_surrogate",
    "prepare",
    "register",
    "registered_folder",
    "registry_uri",
    "why_version_is_unusable",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
