from __future__ import annotations

import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from opened import caged_contents_and_values, contents_and_values

from mno.core.errors import InputError

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


def refusal(path: Path, kind: str = "pdebench") -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(InputError) as error:
        caged_contents_and_values(kind, path)
    message = str(error.value)
    assert "\n" not in message and message.startswith(str(path))
    return message


def external_link(file: h5py.File) -> None:
    del file["tensor"]
    file["tensor"] = h5py.ExternalLink("/etc/passwd", "/tensor")


def unrelated_external_link(file: h5py.File) -> None:
    file["other"] = h5py.ExternalLink("other.h5", "/")


def soft_link(file: h5py.File) -> None:
    file.move("tensor", "values")
    file["tensor"] = h5py.SoftLink("/values")


def soft_loop(file: h5py.File) -> None:
    file["again"] = h5py.SoftLink("/forth")
    file["forth"] = h5py.SoftLink("/again")


def dangling_link(file: h5py.File) -> None:
    file["nowhere"] = h5py.SoftLink("/nothing")


def external_storage(file: h5py.File) -> None:
    del file["tensor"]
    file.create_dataset("tensor", (6, 5, 32), "f4", external=[("/etc/passwd", 0, 3840)])


def virtual(file: h5py.File) -> None:
    del file["tensor"]
    layout = h5py.VirtualLayout((6, 5, 32), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "tensor", (6, 5, 32))
    file.create_virtual_dataset("tensor", layout)


def texts(file: h5py.File) -> None:
    del file["tensor"]
    file["tensor"] = np.array([["one", "two"]], dtype=h5py.string_dtype())


def fixed_texts(file: h5py.File) -> None:
    del file["tensor"]
    file["tensor"] = np.array([[b"1.0", b"2.0"]])


def references(file: h5py.File) -> None:
    del file["tensor"]
    file["tensor"] = np.array([[file.ref]], dtype=h5py.ref_dtype)


def records(file: h5py.File) -> None:
    del file["tensor"]
    file["tensor"] = np.zeros((2, 3, 4), dtype=[("a", "f4"), ("b", "f4")])


def ragged(file: h5py.File) -> None:
    del file["tensor"]
    file.create_dataset("tensor", (2, 3), h5py.vlen_dtype(np.float32))


def complex_numbers(file: h5py.File) -> None:
    del file["tensor"]
    file["tensor"] = np.ones((2, 3, 32), dtype="c8")


def huge_and_unwritten(file: h5py.File) -> None:
    del file["tensor"]
    file.create_dataset("tensor", (10**6, 10**4, 32), "f4", chunks=(1, 100, 32))


def huge_and_hardly_written(file: h5py.File) -> None:
    huge_and_unwritten(file)
    file["tensor"][0, :100] = 1


def huge_sample(file: h5py.File) -> None:
    del file["tensor"]
    data = file.create_dataset("tensor", (2, 10**7, 32), "f4", chunks=(1, 5000, 32))
    data[0, :25_000] = np.ones((25_000, 32))


def many_samples(file: h5py.File) -> None:
    del file["tensor"]
    data = file.create_dataset("tensor", (2 * 10**7, 5, 32), "f4", chunks=(10**3, 5, 32))
    data[: 25 * 10**3] = np.ones((25 * 10**3, 5, 32))


def no_samples(file: h5py.File) -> None:
    del file["tensor"]
    file["tensor"] = np.ones((0, 5, 32))


def one_number(file: h5py.File) -> None:
    del file["tensor"]
    file["tensor"] = 1.0


def a_group(file: h5py.File) -> None:
    for name in list(file):
        del file[name]
    file.create_group("tensor")


def nothing(file: h5py.File) -> None:
    for name in list(file):
        del file[name]


def cycle(file: h5py.File) -> None:
    nothing(file)
    file.create_group("0000")["0000"] = file["/"]


def long_coordinates(file: h5py.File) -> None:
    del file["x-coordinate"]
    file.create_dataset("x-coordinate", (10**9,), "f8", chunks=(10**6,))[: 10**6] = np.arange(10**6)


def coordinates_of_text(file: h5py.File) -> None:
    del file["x-coordinate"]
    file["x-coordinate"] = "from 0 to 1"


def missing_coordinates(file: h5py.File) -> None:
    file["x-coordinate"][3] = np.nan


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (external_link, "tensor is a link to something elsewhere"),
        (unrelated_external_link, "other is a link to something elsewhere"),
        (soft_link, "tensor is a link to something elsewhere"),
        (soft_loop, "is a link to something elsewhere"),
        (dangling_link, "nowhere is a link to something elsewhere"),
        (external_storage, "the values of tensor are in other files"),
        (virtual, "the values of tensor are in other files"),
        (texts, "tensor holds object; expected real numbers"),
        (fixed_texts, "expected real numbers"),
        (references, "tensor holds object; expected real numbers"),
        (records, "expected real numbers"),
        (ragged, "expected real numbers"),
        (complex_numbers, "tensor holds complex64; expected real numbers"),
        (huge_and_unwritten, "tensor claims 1280000000000 bytes .* holds 0 of them"),
        (huge_and_hardly_written, "tensor claims 1280000000000 bytes .* holds 12800 of them"),
        (huge_sample, "expected at most .* 256 MiB each"),
        (many_samples, "tensor claims 20000000 samples"),
        (no_samples, "0 samples .*; expected at least one"),
        (one_number, "has no arrays of values"),
        (a_group, "/tensor has no array data; it has nothing"),
        (nothing, "is empty; expected tensor, or groups with data"),
        (cycle, "/0000 has no array data; it has 0000"),
        (long_coordinates, "x-coordinate .* holds|x-coordinate has shape"),
        (coordinates_of_text, "x-coordinate holds object; expected real numbers"),
        (missing_coordinates, "x-coordinate does not increase"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path: Path, spoil: Spoil, told: str):
    path = tmp_path / "spoilt.hdf5"
    burgers(path)
    with h5py.File(path, "a") as file:
        spoil(file)
    assert re.search(told, refusal(path))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "content", [b"", b"x, y\n1, 2\n" * 60, b"\x89HDF\r\n\x1a\n" + b"\0" * 600], ids=len
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, kind: str, content: bytes):
    path = tmp_path / "file"
    path.write_bytes(content)
    refusal(path, kind)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "chunks": (2, 5, 32)}])
def test_every_truncation_is_refused(tmp_path: Path, options: dict):
    whole, path = tmp_path / "whole.hdf5", tmp_path / "cut.hdf5"
    burgers(whole, **options)
    raw = whole.read_bytes()
    for length in range(0, len(raw), 301):
        path.write_bytes(raw[:length])
        refusal(path)


def test_a_damaged_chunk_is_refused_when_it_is_read(tmp_path: Path):
    path = tmp_path / "damaged.hdf5"
    burgers(path, compression="gzip", fletcher32=True, chunks=(2, 5, 32))
    with h5py.File(path) as file:
        place = file["tensor"].id.get_chunk_info(1).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place + 40)
        raw.write(b"\x55" * 20)
    assert "tensor cannot be read" in refusal(path)


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
    assert "tensor cannot be read" in refusal(path)  # the cage has less memory than that


def test_a_chunk_larger_than_what_it_is_to_hold_is_refused(tmp_path: Path):
    path = tmp_path / "bomb.hdf5"
    write_chunk(path, zlib.compress(bytes(2**28)), 2**10)
    assert "a chunk of tensor unpacks to more than its 4096 bytes" in refusal(path)


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
    assert "expected gzip (1) or lzf (32000)" in refusal(path)


READ = """
import sys
from pathlib import Path
from mno.imports.importer import importer_class
from mno.imports.mapping import Mapping

with importer_class(sys.argv[1])(Path(sys.argv[2]), Mapping()) as importer:
    contents = importer.contents
    for field in contents.fields:
        for start in range(0, contents.samples, 16):
            importer.read(field.name, start, min(start + 16, contents.samples))
# The operating system's own maximum would include the process that started this one.
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) / 2**20)
"""


def peak_gib(kind: str, path: Path) -> float:
    """Return the most memory that reading a whole file in blocks took."""
    command = [sys.executable, "-c", READ, kind, str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
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
    assert peak_gib("pdebench", path) < 0.7


@pytest.mark.slow
@pytest.mark.nightly
def test_memory_stays_below_one_gib_for_larger_matlab_files(tmp_path: Path):
    path = tmp_path / "large.mat"
    length = 512 * 512 * 600
    with path.open("wb") as file:
        file.write(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM")
        for name in (b"a", b"u"):
            head = np.array([6, 8, 6, 0, 5, 12, 600, 512, 512, 0, 1, 1], "<i4").tobytes()
            head += name.ljust(8, b"\0") + np.array([9, 8 * length], "<u4").tobytes()
            packer = zlib.compressobj(1)
            tag = np.array([14, len(head) + 8 * length], "<u4").tobytes()
            packed = [packer.compress(tag + head)]
            packed += [packer.compress(bytes(512 * 512 * 8)) for _ in range(600)]
            packed.append(packer.flush())
            size = sum(map(len, packed))
            file.write(np.array([15, size], "<u4").tobytes() + b"".join(packed))
    assert peak_gib("fno-mat", path) < 0.7


@pytest.mark.slow
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
    assert peak_gib("fno-mat", path) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
@pytest.mark.nightly
def test_memory_stays_below_one_gib_for_larger_netcdf_files(tmp_path: Path, engine: str):
    path = tmp_path / "large.nc"
    zeros = np.zeros((80, 20, 448, 448), dtype="f4")
    xarray.Dataset({"u": (("sample", "time", "x", "y"), zeros)}).to_netcdf(
        path, engine=engine, format="NETCDF4" if engine == "h5netcdf" else "NETCDF3_64BIT"
    )
    assert path.stat().st_size > 2**30
    assert peak_gib("netcdf", path) < 0.7
