"""Surrogates: a trained operator that predicts named numpy arrays in physical units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.core.lazy import loaded_on_use

if TYPE_CHECKING:
    from mno.surrogate.description import Description as Description
    from mno.surrogate.surrogate import Surrogate as Surrogate

_PUBLIC = {"Description": "mno.surrogate.description", "Surrogate": "mno.surrogate.surrogate"}
__getattr__ = loaded_on_use(__name__, _PUBLIC)
