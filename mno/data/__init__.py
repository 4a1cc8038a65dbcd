"""Datasets: the Zarr store, its generation, and reading it for training.

The public names are loaded on first use, so that generating data does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.core.batch import Batch
    from mno.data.config import ExecutionConfig, GenerateConfig
    from mno.data.loading import Loader
    from mno.data.normalise import Normaliser
    from mno.data.plan import DatasetPlan
    from mno.data.reading import read_schema, read_split, verify
    from mno.data.samples import Samples

_PUBLIC = {
    "Batch": "mno.core.batch",
    "DatasetPlan": "mno.data.plan",
    "ExecutionConfig": "mno.data.config",
    "GenerateConfig": "mno.data.config",
    "Loader": "mno.data.loading",
    "Normaliser": "mno.data.normalise",
    "Samples": "mno.data.samples",
    "read_schema": "mno.data.reading",
    "read_split": "mno.data.reading",
    "verify": "mno.data.reading",
}

__all__ = [
    "Batch",
    "DatasetPlan",
    "ExecutionConfig",
    "GenerateConfig",
    "Loader",
    "Normaliser",
    "Samples",
    "read_schema",
    "read_split",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
