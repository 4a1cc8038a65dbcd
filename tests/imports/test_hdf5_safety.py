from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from opened import assert_cuts_are_refused, contents_and_values, refusal

KINDS = ["pdebench", "the-well", "fno-mat", "netcdf"]
Spoil = Callable[[h5py.File], None]


def burgers(path: Path, **options: object) -> np.ndarray:
    """Write a sound file, to be spoilt."""
    tensor = np.random.default_rng(0).random((6, 5, 32)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("tensor", data=tensor, **options)
        file["x-coordinate"] = np.linspace(0, 1, 32)
        file["t-coordinate"] = np.linspace(0, 1, 5)
    return tensor


def put(name: str, value: object, **options: Any) -> Spoil:
    """Put something in the place of what is there; a shape is that of an array to be made."""

    def spoil(file: h5py.File) -> None:
        if name in file:
            del file[name]
        if options:
            file.create_dataset(name, value, **options)
        else:
            file[name] = value

    return spoil


def written(spoil: Spoil, name: str, rows: int, *columns: int) -> Spoil:
    """Write ones into the first rows of what was made."""

    def both(file: h5py.File) -> None:
        spoil(file)
        file[name][(slice(rows), *map(slice, columns))] = 1

    return both


def soft_link(file: h5py.File) -> None:
    file.move("tensor", "values")
    file["tensor"] = h5py.SoftLink("/values")


def soft_loop(file: h5py.File) -> None:
    file["again"] = h5py.SoftLink("/forth")
    file["forth"] = h5py.SoftLink("/again")


def virtual(file: h5py.File) -> None:
    del file["tensor"]
    layout = h5py.VirtualLayout((6, 5, 32), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "tensor", (6, 5, 32))
    file.create_virtual_dataset("tensor", layout)


def references(file: h5py.File) -> None:
    put("tensor", np.array([[file.ref]], dtype=h5py.ref_dtype))(file)


def nothing(file: h5py.File) -> None:
    for name in list(file):
        del file[name]


def a_group(file: h5py.File) -> None:
    nothing(file)
    file.create_group("tensor")


def cycle(file: h5py.File) -> None:
    nothing(file)
    file.create_group("0000")["0000"] = file["/"]


def missing_coordinates(file: h5py.File) -> None:
    file["x-coordinate"][3] = np.nan


UNWRITTEN = put("tensor", (10**6, 10**4, 32), dtype="f4", chunks=(1, 100, 32))
HUGE_SAMPLE = put("tensor", (2, 10**7, 32), dtype="f4", chunks=(1, 5000, 32))
MANY_SAMPLES = put("tensor", (2 * 10**7, 5, 32), dtype="f4", chunks=(10**3, 5, 32))
LONG_COORDINATES = put("x-coordinate", (10**9,), dtype="f8", chunks=(10**6,))
ELSEWHERE = "is a link to something elsewhere"
TEXT = np.array([["one", "two"]], dtype=h5py.string_dtype())
RECORDS = np.zeros((2, 3, 4), dtype=[("a", "f4"), ("b", "f4")])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (put("tensor", h5py.ExternalLink("/etc/passwd", "/tensor")), f"tensor {ELSEWHERE}"),
        (put("other", h5py.ExternalLink("other.h5", "/")), f"other {ELSEWHERE}"),
        (soft_link, f"tensor {ELSEWHERE}"),
        (soft_loop, ELSEWHERE),
        (put("nowhere", h5py.SoftLink("/nothing")), f"nowhere {ELSEWHERE}"),
        (
            put("tensor", (6, 5, 32), dtype="f4", external=[("/etc/passwd", 0, 3840)]),
            "the values of tensor are in other files",
        ),
        (virtual, "the values of tensor are in other files"),
        (put("tensor", TEXT), "tensor holds object; expected real numbers"),
        (put("tensor", np.array([[b"1.0", b"2.0"]])), "expected real numbers"),
        (references, "tensor holds object; expected real numbers"),
        (put("tensor", RECORDS), "expected real numbers"),
        (put("tensor", (2, 3), dtype=h5py.vlen_dtype(np.float32)), "expected real numbers"),
        (put("tensor", np.ones((2, 3, 32), "c8")), "holds complex64; expected real numbers"),
        (UNWRITTEN, "tensor claims 1280000000000 bytes .* holds 0 of them"),
        (
            written(UNWRITTEN, "tensor", 1, 100),
            "tensor claims 1280000000000 bytes .* holds 12800 of them",
        ),
        (written(HUGE_SAMPLE, "tensor", 1, 25_000), "expected at most .* 256 MiB each"),
        (written(MANY_SAMPLES, "tensor", 25 * 10**3), "tensor claims 20000000 samples"),
        (put("tensor", np.ones((0, 5, 32))), "0 samples .*; expected at least one"),
        (put("tensor", 1.0), "has no arrays of values"),
        (a_group, "/tensor has no array data; it has nothing"),
        (nothing, "is empty; expected tensor, or groups with data"),
        (cycle, "/0000 has no array data; it has 0000"),
        (
            written(LONG_COORDINATES, "x-coordinate", 10**6),
            "x-coordinate .* holds|x-coordinate has shape",
        ),
        (put("x-coordinate", "from 0 to 1"), "x-coordinate holds object; expected real numbers"),
        (missing_coordinates, "x-coordinate does not increase"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path: Path, spoil: Spoil, told: str):
    path = tmp_path / "spoilt.hdf5"
    burgers(path)
    with h5py.File(path, "a") as file:
        spoil(file)
    assert re.search(told, refusal("pdebench", path, caged=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "content", [b"", b"x, y\n1, 2\n" * 60, b"\x89HDF\r\n\x1a\n" + b"\0" * 600], ids=len
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, kind: str, content: bytes):
    path = tmp_path / "file"
    path.write_bytes(content)
    refusal(kind, path, caged=True)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "chunks": (2, 5, 32)}])
def test_every_truncation_is_refused(tmp_path: Path, options: dict):
    burgers(tmp_path / "whole.hdf5", **options)
    assert_cuts_are_refused("pdebench", tmp_path / "whole.hdf5", 301)


def test_a_damaged_chunk_is_refused_when_it_is_read(tmp_path: Path):
    path = tmp_path / "damaged.hdf5"
    burgers(path, compression="gzip", fletcher32=True, chunks=(2, 5, 32))
    with h5py.File(path) as file:
        place = file["tensor"].id.get_chunk_info(1).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place + 40)
        raw.write(b"\x55" * 20)
    assert "tensor cannot be read" in refusal("pdebench", path, caged=True)


def write_chunk(path: Path, chunk: bytes, size: int) -> None:
    """Write an array of one compressed chunk of `size` float32 values."""
    with h5py.File(path, "w") as file:
        tensor = file.create_dataset(
            "tensor", (1, 1, size), "f4", chunks=(1, 1, size), compression="gzip"
        )
        tensor.id.write_direct_chunk((0, 0, 0), chunk)


def test_a_chunk_that_unpacks_without_end_is_refused_before_it_does(tmp_path: Path):
    path = tmp_path / "bomb.hdf5"
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(60)) + packer.flush()
    assert len(bomb) < 2**20
    write_chunk(path, bomb, 2**18)
    assert "tensor cannot be read" in refusal(
        "pdebench", path, caged=True
    )  # the cage has less memory than that


def test_a_chunk_larger_than_what_it_is_to_hold_is_refused(tmp_path: Path):
    path = tmp_path / "bomb.hdf5"
    write_chunk(path, zlib.compress(bytes(2**28)), 2**10)
    assert "a chunk of tensor unpacks to more than its 4096 bytes" in refusal(
        "pdebench", path, caged=True
    )


def test_large_chunks_that_are_sound_are_read(tmp_path: Path):
    path = tmp_path / "large.hdf5"
    values = np.random.default_rng(0).random((2, 1, 2**19)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "tensor",
            data=values,
            chunks=(1, 1, 2**19),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            fletcher32=True,
        )
    _, found = contents_and_values("pdebench", path)
    np.testing.assert_array_equal(found["velocity"], values)


@pytest.mark.parametrize("filters", [{"scaleoffset": 3}, {"compression": "szip"}])
def test_filters_that_are_not_known_are_refused(tmp_path: Path, filters: dict):
    path = tmp_path / "filtered.hdf5"
    try:
        burgers(path, **filters)
    except ValueError:
        pytest.skip("this HDF5 library cannot write it")
    assert "expected gzip (1) or lzf (32000)" in refusal("pdebench", path, caged=True)
