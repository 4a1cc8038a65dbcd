"""Memory stays flat while files larger than it are read; MATLAB's version 5 is read as a whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
import zarr
from numpy.lib import format as npy_format

pytestmark = pytest.mark.slow

MIB, GIB = 2**20, 2**30
SHAPE = (3000, 320, 320)  # 1.1 GiB of float32
READ = """
import sys
from pathlib import Path
from mno.imports.importer import importer_class
from mno.imports.mapping import FieldRule, Mapping

kind, path, *inputs = sys.argv[1:]
mapping = Mapping(fields={name: FieldRule(role="input") for name in inputs})
with importer_class(kind)(Path(path), mapping) as importer:
    contents = importer.contents
    for field in contents.fields:
        for start in range(0, contents.samples, 16):
            importer.read(field.name, start, min(start + 16, contents.samples))
# The operating system's own maximum would include the process that started this one.
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) * 2**10)
"""


def peak(kind: str, path: Path, *inputs: str) -> int:
    """Return the most memory that reading a whole file in blocks took, in bytes."""
    command = [sys.executable, "-c", READ, kind, str(path), *inputs]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("fortran", [False, True])
def test_of_a_numpy_file(tmp_path, fortran):
    path = tmp_path / "u.npy"
    header = {"shape": SHAPE, "fortran_order": fortran, "descr": "<f4"}
    with path.open("wb") as file:
        npy_format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * int(np.prod(SHAPE)))
    assert peak("npz", path, "u") < 600 * MIB


def test_of_a_zarr_group_whose_chunks_hold_many_samples(tmp_path):
    group = zarr.create_group(tmp_path / "g")
    names = ("sample", "x", "y")
    group.create_array(
        "u", shape=SHAPE, dtype="f4", chunks=(3000, 32, 320), dimension_names=names,
        config={"write_empty_chunks": True},
    )[:, :32] = 1.0  # fmt: skip
    assert peak("zarr", tmp_path / "g", "u") < 900 * MIB


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "f4"},
        {"dtype": "f8", "chunks": (1, 1, 512, 512), "compression": "gzip"},
        {"dtype": "f4", "chunks": (100, 1, 64, 64), "compression": "lzf"},
    ],
    ids=str,
)
def test_memory_stays_below_one_gib_for_larger_files(tmp_path: Path, options: dict):
    path = tmp_path / "large.hdf5"
    chunks = options.get("chunks")
    with h5py.File(path, "w") as file:
        for name, shape in {"tensor": (600, 1, 512, 512), "nu": (600, 512, 512)}.items():
            if chunks:
                options["chunks"] = chunks if name == "tensor" else (chunks[0], *chunks[2:])
            data = file.create_dataset(name, shape, **options)
            block = np.zeros((100, *shape[1:]), dtype=options["dtype"])
            for start in range(0, 600, 100):
                data[start : start + 100] = block
    assert 600 * 512**2 * 8 > 2**30
    assert peak("pdebench", path) < 0.7 * GIB


@pytest.mark.nightly
def test_memory_stays_below_one_gib_for_larger_files_of_matlab_7_3(tmp_path: Path):
    path = tmp_path / "large73.mat"
    with h5py.File(path, "w") as file:
        for name in ("a", "u"):
            data = file.create_dataset(
                name, (512, 512, 600), "f8", chunks=(8, 8, 600), compression="gzip"
            )
            for start in range(0, 512, 64):
                data[start : start + 64] = np.zeros((64, 512, 600))
    assert peak("fno-mat", path) < 0.7 * GIB


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
@pytest.mark.nightly
def test_memory_stays_below_one_gib_for_larger_netcdf_files(tmp_path: Path, engine: str):
    path = tmp_path / "large.nc"
    zeros = np.zeros((80, 20, 448, 448), dtype="f4")
    xarray.Dataset({"u": (("sample", "time", "x", "y"), zeros)}).to_netcdf(
        path, engine=engine, format="NETCDF4" if engine == "h5netcdf" else "NETCDF3_64BIT"
    )
    assert path.stat().st_size > 2**30
    assert peak("netcdf", path) < 0.7 * GIB
