"""Memory stays flat while files larger than it are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.lib import format as npy_format

pytestmark = pytest.mark.slow

SHAPE = (3000, 320, 320)  # 1.1 GiB of float32
READ = """
import sys
from pathlib import Path
from mno.imports.importer import importer_class
from mno.imports.mapping import FieldRule, Mapping
mapping = Mapping(fields={"u": FieldRule(role="input")})
with importer_class(sys.argv[1])(Path(sys.argv[2]), mapping) as importer:
    for start in range(0, 3000, 64):
        importer.read("u", start, min(start + 64, 3000))
(peak,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM"))
print(int(peak.split()[1]) / 2**10)
"""


def peak(kind: str, path: Path) -> float:
    """Return the largest memory of a process that reads a whole file, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", READ, kind, str(path)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.parametrize("fortran", [False, True])
def test_of_a_numpy_file(tmp_path, fortran):
    path = tmp_path / "u.npy"
    header = {"shape": SHAPE, "fortran_order": fortran, "descr": "<f4"}
    with path.open("wb") as file:
        npy_format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * int(np.prod(SHAPE)))
    assert peak("npz", path) < 600


def test_of_a_zarr_group_whose_chunks_hold_many_samples(tmp_path):
    group = zarr.create_group(tmp_path / "g")
    names = ("sample", "x", "y")
    group.create_array(
        "u", shape=SHAPE, dtype="f4", chunks=(3000, 32, 320), dimension_names=names,
        config={"write_empty_chunks": True},
    )[:, :32] = 1.0  # fmt: skip
    assert peak("zarr", tmp_path / "g") < 900
