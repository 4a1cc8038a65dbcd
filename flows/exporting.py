"""`mno export`: fields of a dataset or of predictions, for other programs."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.progress import progress_bar
from mno.core.errors import InputError
from mno.imports.export import Wanted, export_store

_MOST_SAMPLES = 10_000_000


def export(wanted: Wanted, quiet: bool) -> dict[str, Any]:
    """Export what is wanted.

    Args:
        wanted: What, and where to.
        quiet: Draw no progress.

    Returns:
        `source`, `destination`, `format`, `samples`, `fields`, `files`, `bytes`, `seconds`.

    Raises:
        InputError: The source, the fields, the samples or the destination cannot be used.
        MnoError: The destination cannot be written to.
    """
    begun = time.monotonic()
    with progress_bar(quiet, "parts") as show:
        done = export_store(wanted, lambda part, parts: show("exporting", part, parts))
    return {
        "source": str(wanted.source),
        "destination": str(wanted.destination),
        "format": done.format,
        "samples": done.samples,
        "fields": list(done.fields),
        "files": done.files,
        "bytes": done.nbytes,
        "seconds": round(time.monotonic() - begun, 2),
    }


def print_export(result: dict[str, Any], console: Console) -> None:
    """Say what was written, and how to open it."""
    files = f" in {result['files']} files" if result["files"] > 1 else ""
    samples = f"{result['samples']} sample{'s' if result['samples'] > 1 else ''}"
    console.print(
        f"{samples} of {', '.join(result['fields'])} written in {result['seconds']:.1f} s: "
        f"{result['destination']} ({_size(result['bytes'])}{files})"
    )
    console.print(f"Next: {_next_step(result)}")


def sample_numbers(given: Sequence[str] | None) -> list[int] | None:
    """Return the samples that options name: numbers, and ranges without their ends.

    Args:
        given: For example `["3", "10:20"]`; all samples if there are none.

    Raises:
        InputError: One is neither.
    """
    if not given:
        return None
    numbers: dict[int, None] = {}
    for text in given:
        match = re.fullmatch(r"(\d{1,8})(?::(\d{1,8}))?", text)
        start = int(match[1]) if match else 0
        stop = int(match[2] or start + 1) if match else 0
        if not start < stop <= _MOST_SAMPLES:
            raise InputError(
                f"--sample {text} is neither a number nor a range; expected as in --sample 3 or "
                "--sample 0:10, which ends with sample 9"
            )
        numbers.update(dict.fromkeys(range(start, stop)))
    return list(numbers)


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f} MiB" if nbytes >= 2**20 else f"{nbytes / 2**10:.1f} KiB"


def _next_step(result: dict[str, Any]) -> str:
    path = Path(result["destination"])
    if result["format"] == "netcdf":
        return f"python -c \"import xarray; print(xarray.open_dataset('{path}'))\""
    if result["format"] == "npz":
        return f"python -c \"import numpy; print(numpy.load('{path}'))\""
    first = min(path.glob("*.pvd"), default=path) if path.is_dir() else path
    return f"paraview {first}    (there: Apply, then colour by a field)"
