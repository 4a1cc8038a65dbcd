"""Datasets: the Zarr store, its generation, and reading it for training."""

from typing import TYPE_CHECKING

from mno.core.lazy import loaded_on_use

if TYPE_CHECKING:
    from mno.core.batch import Batch
    from mno.data.loading import Loader
    from mno.data.samples import Samples

__all__ = ["Batch", "Loader", "Samples"]

_PUBLIC = {"Batch": "mno.core.batch", "Loader": "mno.data.loading", "Samples": "mno.data.samples"}
__getattr__ = loaded_on_use(__name__, _PUBLIC)
