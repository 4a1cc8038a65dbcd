"""Importing a large file of PDEBench's layout: its time against a copy by h5py, and its memory."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from benchmarks.memory import peak
from benchmarks.page import Section, Table, figure
from benchmarks.timing import in_turn, median_ratio
from mno.core.memory import keep_freed_memory
from mno.imports.collection import import_files

THREADS = 1
ROUNDS = 3
SIZE = float(os.environ.get("MNO_BENCH_IMPORT_GIB", "4"))
SAMPLE = (101, 128, 128, 2)
SEED = 0
GIB = 2**30
ABOUT = """A file of `2D_diff-react`, one group `0000`, `0001`, … for each sample with `data` of
shape (101, 128, 128, 2), float32, {size} GiB. The import takes the file's checksum, reads it, takes
ranges and moments of every field, compresses, and writes with checksums of what it wrote, in one
process as `mno import` does. The copy reads each array and writes it to another file by h5py. Both
find the file in the system's cache. CPU seconds are those of all threads, the system's part
included: they tell what the work is where other programs use the machine. Memory is the process's
peak, Python and libraries included. Under 1 GiB and three times the copy's time are asked for."""


def run() -> Section:
    keep_freed_memory()  # as every command does
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = root / "2D_diff-react_NA_NA.h5"
        make(source, SIZE)
        peaks: list[int] = []
        used: dict[str, list[float]] = {"copy": [], "import": []}
        sides: dict[str, Callable[[], object]] = {
            "copy": lambda: used["copy"].append(
                processor_seconds(lambda: copy(source, root / "copy.h5"))
            ),
            "import": lambda: used["import"].append(
                processor_seconds(lambda: peaks.append(peak(lambda: import_(source, root))))
            ),
        }
        times = in_turn(sides, ROUNDS, warm_up=0)
        rows = [
            (
                name,
                figure(statistics.median(times[name])),
                figure(median_ratio(times, name, "copy")),
                figure(statistics.median(used[name])),
                figure(median_ratio(used, name, "copy")),
                figure(max(peaks) / GIB) if name == "import" else "",
            )
            for name in sides
        ]
        size = figure(source.stat().st_size / GIB)
    columns = ("side", "s", "by the copy's", "CPU s", "by the copy's", "peak of memory, GiB")
    return Section("Importing", (ABOUT.format(size=size), Table(columns, rows)))


def make(path: Path, gib: float) -> None:
    """Write a file of that size, each sample with values of its own."""
    rng = np.random.default_rng(SEED)
    frames, n = np.arange(SAMPLE[0])[:, None, None, None], np.arange(SAMPLE[1])
    waves = rng.normal(size=(4, 1, 1, 1, SAMPLE[-1]))
    x, y = n[:, None, None] / SAMPLE[1], n[None, :, None] / SAMPLE[2]
    sample = np.zeros(SAMPLE)
    for k in range(4):
        phase = 2 * np.pi * ((k + 1) * x - (k + 2) * y) + frames * (k + 1) / 50
        sample += waves[k] * np.sin(phase)
    sample = sample.astype(np.float32)
    with h5py.File(path, "w") as file:
        for number in range(max(1, round(gib * GIB / sample.nbytes))):
            group = file.create_group(f"{number:04}")
            group["data"] = sample * np.float32(1 + number / 1000)
            group["grid/x"] = group["grid/y"] = np.float32((n + 0.5) / SAMPLE[1] * 2 - 1)
            group["grid/t"] = np.linspace(0, 5, SAMPLE[0], dtype=np.float32)


def copy(source: Path, destination: Path) -> None:
    """Copy all arrays, one after the other, and remove the copy."""

    def put(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            copied[name] = item[()]

    with h5py.File(source) as given, h5py.File(destination, "w") as copied:
        given.visititems(put)
    destination.unlink()


def import_(source: Path, root: Path) -> None:
    """Import the file as `mno import` does, its checksum included, and remove what was made."""
    folder = root / "imported"
    import_files(folder, [source], "pdebench", None)
    shutil.rmtree(folder)


def processor_seconds(function: Callable[[], object]) -> float:
    """Call a function and return what this process spent on it on all cores, in seconds."""
    start = time.process_time()
    function()
    return time.process_time() - start
