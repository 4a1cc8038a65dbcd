"""The child in which files are read: what it may take, and how it ends."""

import ctypes
import os
import re
import socket
import sys
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from opened import assert_cuts_are_refused, caged_contents_and_values, contents_and_values, refusal

from mno.core.errors import InputError, MnoError
from mno.imports import cage as cages
from mno.imports.cage import Cage
from mno.imports.collection import caged_import, caged_look, import_files
from mno.imports.mapping import FieldRule, Mapping
from tests.imports import test_cage as known
from tests.support.file_hashes import hashes

FILE = Path("strange.h5")


def add(a, b, progress):
    progress({"so": "far"})
    print("not a word of the answer")
    return a + b


def take(gib, progress):
    return len(bytearray(gib * 2**30))


def crash(progress):
    ctypes.string_at(0)


def wait(progress):
    time.sleep(600)


def refuse(kind, progress):
    raise {"input": InputError, "other": MnoError}[kind]("so it is")


def stumble(progress):
    raise IndexError("of \x1b[2J\na name")


def call_out(address, progress):
    try:
        socket.create_connection(address, timeout=5)
    except OSError as error:
        return type(error).__name__
    return "connected"


def interfaces(progress):
    return [name for _, name in socket.if_nameindex()]


def test_a_call_answers_and_tells_its_progress():
    told: list = []
    with Cage() as cage:
        assert cage.call(known.add, {"a": 1, "b": 2}, [FILE], told.append) == 3
        assert cage.call(known.add, {"a": 3, "b": 4}, [FILE]) == 7
    assert told == [{"so": "far"}]


def test_more_memory_than_allowed_is_one_line_and_what_follows_goes_on():
    with Cage() as cage:
        with pytest.raises(InputError, match="strange.h5 .*1024 MiB of memory"):
            cage.call(known.take, {"gib": 2}, [FILE])
        assert cage.call(known.add, {"a": 1, "b": 2}, [FILE]) == 3


def test_a_crash_is_one_line_and_what_follows_goes_on():
    with Cage() as cage:
        with pytest.raises(InputError, match="strange.h5 cannot be read: .*SIGSEGV") as caught:
            cage.call(known.crash, {}, [FILE])
        assert "\n" not in str(caught.value)
        assert cage.call(known.add, {"a": 1, "b": 2}, [FILE]) == 3


def test_what_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(cages, "_SECONDS", 3)
    with Cage() as cage, pytest.raises(InputError, match="took more than 3 s"):
        cage.call(known.wait, {}, [FILE])


@pytest.mark.parametrize(("kind", "error"), [("input", InputError), ("other", MnoError)])
def test_errors_come_back_as_they_are(kind, error):
    with Cage() as cage, pytest.raises(error, match="^so it is$") as caught:
        cage.call(known.refuse, {"kind": kind}, [FILE])
    assert type(caught.value) is error


def test_what_nobody_thought_of_is_one_line_that_commands_no_terminal():
    with Cage() as cage:
        with pytest.raises(InputError) as caught:
            cage.call(known.stumble, {}, [FILE])
        assert str(caught.value) == (
            "strange.h5 cannot be read (IndexError: of \ufffd[2J a name); expected an undamaged "
            "file: get it anew"
        )
        assert cage.call(known.add, {"a": 1, "b": 2}, [FILE]) == 3


def test_names_of_a_file_command_no_terminal(tmp_path):
    name = "coeff\x1b[2J"
    np.savez(tmp_path / "a.npz", **{name: np.ones((3, 4, 4)), "sol": np.ones((3, 4, 4))})
    mapping = Mapping(fields={name: FieldRule(role="input")})
    (found,) = caged_look([tmp_path / "a.npz"], "npz", mapping)
    assert "coeff\ufffd[2J → coeff_2J [1], input" in found["lines"][0]


def test_there_is_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server, Cage() as cage:
        address = list(server.getsockname())
        assert cage.call(known.call_out, {"address": address}, [FILE]) != "connected"
        if sys.platform == "linux" and os.geteuid() == 0:  # C libraries, too
            assert cage.call(known.interfaces, {}, [FILE]) == ["lo"]


def test_an_import_in_a_cage_makes_the_same_bytes(tmp_path):
    coeff = np.random.default_rng(0).random((20, 6, 6), dtype=np.float32)
    np.savez(tmp_path / "a.npz", coeff=coeff, sol=2 * coeff)
    steps: list = []
    here = import_files(tmp_path / "here/plant", [tmp_path / "a.npz"], "npz", None)
    there = caged_import(tmp_path / "there/plant", [tmp_path / "a.npz"], "npz", None, steps.append)
    assert there == here and steps[-1].done == steps[-1].total == 20
    assert hashes(tmp_path / "there") == hashes(tmp_path / "here")


def test_an_interrupt_ends_the_child(tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    with Cage() as cage:
        with pytest.raises(KeyboardInterrupt):
            cage.call(known.add, {"a": 1, "b": 2}, [FILE], interrupt)
        assert cage.call(known.add, {"a": 1, "b": 2}, [FILE]) == 3


KINDS = ["pdebench", "the-well", "fno-mat", "netcdf"]


def burgers(path, **options):
    tensor = np.random.default_rng(0).random((6, 5, 32)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("tensor", data=tensor, **options)
        file["x-coordinate"] = np.linspace(0, 1, 32)
        file["t-coordinate"] = np.linspace(0, 1, 5)
    return tensor


def put(name, value, **options):
    """Put something in the place of what is there; a shape is that of an array to be made."""

    def spoil(file):
        if name in file:
            del file[name]
        if options:
            file.create_dataset(name, value, **options)
        else:
            file[name] = value

    return spoil


def written(spoil, name, rows, *columns):
    def both(file):
        spoil(file)
        file[name][(slice(rows), *map(slice, columns))] = 1

    return both


def soft_link(file):
    file.move("tensor", "values")
    file["tensor"] = h5py.SoftLink("/values")


def soft_loop(file):
    file["again"] = h5py.SoftLink("/forth")
    file["forth"] = h5py.SoftLink("/again")


def virtual(file):
    del file["tensor"]
    layout = h5py.VirtualLayout((6, 5, 32), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "tensor", (6, 5, 32))
    file.create_virtual_dataset("tensor", layout)


def references(file):
    put("tensor", np.array([[file.ref]], dtype=h5py.ref_dtype))(file)


def nothing(file):
    for name in list(file):
        del file[name]


def a_group(file):
    nothing(file)
    file.create_group("tensor")


def cycle(file):
    nothing(file)
    file.create_group("0000")["0000"] = file["/"]


def missing_coordinates(file):
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
            "x-coordinate cannot be read .*allocate",
        ),
        (put("x-coordinate", "from 0 to 1"), "x-coordinate holds object; expected real numbers"),
        (missing_coordinates, "x-coordinate does not increase"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path, spoil, told):
    path = tmp_path / "spoilt.hdf5"
    burgers(path)
    with h5py.File(path, "a") as file:
        spoil(file)
    assert re.search(told, refusal("pdebench", path, caged=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "content", [b"", b"x, y\n1, 2\n" * 60, b"\x89HDF\r\n\x1a\n" + b"\0" * 600], ids=len
)
def test_what_is_no_such_file_is_refused(tmp_path, kind, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    refusal(kind, path, caged=True)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "chunks": (2, 5, 32)}])
def test_every_truncation_is_refused(tmp_path, options):
    burgers(tmp_path / "whole.hdf5", **options)
    assert_cuts_are_refused("pdebench", tmp_path / "whole.hdf5", 301)


def test_a_damaged_chunk_is_refused_when_it_is_read(tmp_path):
    path = tmp_path / "damaged.hdf5"
    burgers(path, compression="gzip", fletcher32=True, chunks=(2, 5, 32))
    with h5py.File(path) as file:
        place = file["tensor"].id.get_chunk_info(1).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place + 40)
        raw.write(b"\x55" * 20)
    assert "tensor cannot be read" in refusal("pdebench", path, caged=True)


def write_chunk(path, chunk, size):
    """Write an array of one compressed chunk of `size` float32 values."""
    with h5py.File(path, "w") as file:
        tensor = file.create_dataset(
            "tensor", (1, 1, size), "f4", chunks=(1, 1, size), compression="gzip"
        )
        tensor.id.write_direct_chunk((0, 0, 0), chunk)


def test_a_chunk_that_unpacks_without_end_is_refused_before_it_does(tmp_path):
    path = tmp_path / "bomb.hdf5"
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(60)) + packer.flush()
    assert len(bomb) < 2**20
    write_chunk(path, bomb, 2**18)
    told = refusal("pdebench", path, caged=True)  # the cage has less memory than that
    assert "tensor cannot be read" in told


def test_a_chunk_larger_than_what_it_is_to_hold_does_no_harm(tmp_path):
    path = tmp_path / "bomb.hdf5"
    write_chunk(path, zlib.compress(bytes(2**28)), 2**10)
    _, values = caged_contents_and_values("pdebench", path)
    assert values["velocity"].shape == (1, 1, 2**10) and not values["velocity"].any()


def test_large_chunks_that_are_sound_are_read(tmp_path):
    path = tmp_path / "large.hdf5"
    values = np.random.default_rng(0).random((2, 1, 2**19)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "tensor", data=values, chunks=(1, 1, 2**19), compression="gzip", compression_opts=1,
            shuffle=True, fletcher32=True,
        )  # fmt: skip
    _, found = contents_and_values("pdebench", path)
    np.testing.assert_array_equal(found["velocity"], values)
