"""Getting data out: datasets and predictions as NetCDF, VTK or npz."""

from __future__ import annotations

from mno.imports.export.exporting import FORMATS, Exported, Wanted, export_store

__all__ = ["FORMATS", "Exported", "Wanted", "export_store"]
