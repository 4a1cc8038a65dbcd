"""Importers of files that others have made, by kind; each is one module of this package."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from mno.core.errors import InputError
from mno.imports.base import Importer

KINDS = ("pdebench", "the-well", "fno-mat", "neuralop", "npz", "zarr", "netcdf", "csv")


def importer_class(kind: str) -> type[Importer]:
    """Return the importer of a kind.

    Raises:
        InputError: There is none.
    """
    if kind not in KINDS:
        raise InputError(f"import {kind!r}: expected one of {', '.join(KINDS)}")
    return import_module(f"{__name__}.{kind.replace('-', '_')}").IMPORTER


def code_files() -> list[Path]:
    """Return the sources of all importers, in order."""
    return sorted(Path(__file__).parent.rglob("*.py"))
