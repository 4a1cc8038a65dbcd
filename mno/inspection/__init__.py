"""What is in a dataset: measured shard by shard, drawn, and written as a page.

`inspect_store` works on any released dataset, without a workspace:

    from pathlib import Path
    from mno.inspection import inspect_store, write_inspection

    inspection = inspect_store(Path("data"))
    print(inspection.findings)
    write_inspection(inspection, Path("reports/inspection"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.inspection.page import write_inspection
    from mno.inspection.result import Inspection
    from mno.inspection.survey import inspect_store

_PUBLIC = {
    "Inspection": "mno.inspection.result",
    "inspect_store": "mno.inspection.survey",
    "write_inspection": "mno.inspection.page",
}

__all__ = ["Inspection", "inspect_store", "write_inspection"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
