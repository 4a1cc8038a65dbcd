"""NumPy's files: what their arrays become, and what is refused."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping as Dictionary
from copy import copy
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened import fields_of, mapped, refusal, rules
from pytest import MonkeyPatch

from mno.core.errors import InputError
from mno.imports import npz as npy
from mno.imports.importer import importer_class
from mno.imports.mapping import MappedFile, Mapping

RNG = np.random.default_rng(0)
SAVERS = {"stored": np.savez, "compressed": np.savez_compressed}


def values(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def opened(path: Path, mapping: Mapping | None = None) -> MappedFile:
    return mapped("npz", path, mapping)


def saved(folder: Path, mapping: Mapping | None = None, /, **arrays: Any) -> MappedFile:
    np.savez(folder / "file.npz", **arrays)
    return opened(folder / "file.npz", mapping)


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">i2", "u1", "?", "<f2"])
def test_values_are_as_saved(tmp_path, save, order, dtype):
    given = {
        "a": (100 * values(7, 5, 6, 3)).astype(dtype),
        "sol": (100 * values(7, 5, 6, 3)).astype(dtype),
        "nu": (100 * values(7)).astype(dtype),
    }
    save(tmp_path / "file.npz", **{name: np.asarray(v, order=order) for name, v in given.items()})
    file = opened(tmp_path / "file.npz")
    space = ("x", "y", "z")
    assert fields_of(file.contents) == {
        "a": ("input", space), "sol": ("output", space), "nu": ("input", ()),
    }  # fmt: skip
    for name, expected in given.items():
        for start, stop in ((0, 7), (2, 5), (6, 7)):
            part = file.read(name, start, stop)
            assert part.dtype == np.float32
            np.testing.assert_array_equal(part, expected[start:stop].astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(shape=st.lists(st.integers(1, 7), min_size=2, max_size=4), tile=st.integers(1, 400))
def test_arrays_in_fortran_order_are_turned_round(shape, tile):
    expected = values(*shape)
    with TemporaryFile() as file, MonkeyPatch.context() as patch:
        patch.setattr("mno.imports.tiles._BOX_BYTES", tile)
        np.save(file, np.asfortranarray(expected))
        size = file.tell()
        file.seek(0)
        header = npy.read_header(Path("file"), "u", file, size)
        turned = npy.Rows(file, header, header.length).tiles(Path("file"))
        np.testing.assert_array_equal(turned.read(0, shape[0]), expected)
        np.testing.assert_array_equal(turned.read(shape[0] - 1, shape[0]), expected[-1:])


XY, TXY = ("x", "y"), ("time", "x", "y")
PLACE, STATE, INPUT = ({"role": role} for role in ("coordinate", "state", "input"))
# Arrays, rules, and for each field: of which part of which array, role and axes.
LAID_OUT = {
    "names tell inputs from outputs, and reserved ones are replaced": (
        {"x": values(4, 8, 8), "y": values(4, 8, 8)}, rules(),
        {"input": ("x", ..., "input", XY), "output": ("y", ..., "output", XY)},
    ),
    "an axis of one channel vanishes": (
        {"inputs": values(4, 1, 8, 9), "outputs": values(4, 8, 9)}, rules(),
        {"inputs": ("inputs", np.s_[:, 0], "input", XY), "outputs": ("outputs", ..., "output", XY)},
    ),
    "channels become fields": (
        {"a": values(4, 2, 8, 9), "u": values(4, 8, 9)}, rules(),
        {"a_0": ("a", np.s_[:, 0], "input", XY), "a_1": ("a", np.s_[:, 1], "input", XY),
         "u": ("u", ..., "output", XY)},
    ),
    "as many channels as places are places": (
        {"a": values(4, 16, 16), "u": values(4, 16, 16)}, rules(),
        {"a": ("a", ..., "input", XY), "u": ("u", ..., "output", XY)},
    ),
    "frames are told by the mapping": (
        {"w": values(4, 5, 8, 9), "t": np.arange(5) / 2, "force": values(4, 5),
         "heat": values(4, 5, 8, 9)},
        rules(w=STATE, force=INPUT, heat=INPUT),
        {"w": ("w", ..., "state", TXY), "force": ("force", ..., "input", ("time",)),
         "heat": ("heat", ..., "input", TXY)},
    ),
    "states may have channels": (
        {"w": values(4, 5, 2, 8, 9)}, rules(w=STATE),
        {f"w_{i}": ("w", np.s_[:, :, i], "state", TXY) for i in range(2)},
    ),
    "points have coordinates where the mapping says so": (
        {"x": values(4, 30), "y": values(4, 30), "a": values(4, 30), "u": values(4, 30)},
        rules(x=PLACE, y=PLACE),
        {name: (name, ..., role, ("point",)) for name, role in
         {"x": "coordinate", "y": "coordinate", "a": "input", "u": "output"}.items()},
    ),
    "what is dropped may be anything": (
        {"a": values(4, 8), "u": values(4, 8), "note": np.array("text"), "other": values(5, 9),
         "objects": np.array([{}])},
        rules(**dict.fromkeys(("note", "other", "objects"), {"drop": True})),
        {"a": ("a", ..., "input", ("x",)), "u": ("u", ..., "output", ("x",))},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LAID_OUT)
def test_arrays_become_fields(tmp_path, case):
    arrays, mapping, expected = LAID_OUT[case]
    file = saved(tmp_path, mapping, **arrays)
    assert fields_of(file.contents) == {name: told[2:] for name, told in expected.items()}
    for name, (source, index, _, _) in expected.items():
        assert file.contents.sources[name] == source
        np.testing.assert_array_equal(file.read(name, 0, 4), arrays[source][index])


def test_channels_are_remarked_on_and_times_are_read(tmp_path):
    arrays, mapping, _ = LAID_OUT["channels become fields"]
    assert "2 fields" in saved(tmp_path, mapping, **arrays).contents.remarks[0]
    arrays, mapping, _ = LAID_OUT["frames are told by the mapping"]
    axes = saved(tmp_path, mapping, **arrays).contents.axes
    np.testing.assert_array_equal(axes[0].points, np.arange(5) / 2)


def test_a_rule_for_an_array_holds_for_all_its_channels(tmp_path):
    mapping = rules(q={"role": "input", "units": "W"}, q_1={"units": "V"})
    file = saved(tmp_path, mapping, q=values(4, 2, 8, 9), u=values(4, 8, 9))
    units = {field.name: field.units for field in file.contents.fields}
    assert units == {"q_0": "W", "q_1": "V", "u": "1"}


def test_vectors_are_coordinates_numbers_or_parameters(tmp_path):
    x = np.linspace(0.1, 0.9, 8)
    file = saved(
        tmp_path, a=values(4, 8), u=values(4, 8), x=x, nu=values(4), dt=0.5, steps=np.array([3]),
        group=np.array([0, 0, 1, 1]), start=np.arange(4.0),
    )  # fmt: skip
    (axis,) = file.contents.axes
    np.testing.assert_array_equal(axis.points, x)
    assert axis.extent == pytest.approx((0.1 - 0.4 / 7, 0.9 + 0.4 / 7))
    assert fields_of(file.contents)["nu"] == ("input", ())
    assert file.contents.parameters == {"dt": 0.5, "steps": 3}
    assert file.contents.groups is not None and file.contents.starts is not None
    assert file.contents.groups.tolist() == [0, 0, 1, 1]
    assert file.contents.starts.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_single_array_is_a_state_if_the_mapping_says_so(tmp_path):
    given = values(4, 5, 8)
    np.save(tmp_path / "run-7.npy", given)
    file = opened(tmp_path / "run-7.npy", rules(run_7={"role": "state"}))
    assert fields_of(file.contents) == {"run_7": ("state", ("time", "x"))}
    np.testing.assert_array_equal(file.read("run_7", 0, 4), given)


ODD: dict[str, tuple[Dictionary[str, Any], Mapping, str]] = {
    "unknown role": (
        {"foo": values(4, 8, 8), "u": values(4, 8, 8)}, Mapping(),
        r"it cannot be told whether foo, of shape \(4, 8, 8\).*`fields: \{foo: \{role: input\}\}`",
    ),
    "other number of samples": (
        {"a": values(4, 8), "u": values(5, 8)}, Mapping(), "differ in their number of samples",
    ),
    "other grid": (
        {"a": values(4, 8, 8), "u": values(4, 9, 9)}, Mapping(), "no grid in common",
    ),
    "samples or places": (
        {"a": values(8, 8), "u": values(8, 8), "x": np.arange(8.0)}, Mapping(),
        "as many as there are samples and places along x.*role: coordinate",
    ),
    "fits nothing": (
        {"a": values(4, 8), "u": values(4, 8), "q": values(3)}, Mapping(), "fits neither",
    ),
    "coordinates out of order": (
        {"a": values(4, 8), "u": values(4, 8), "x": np.arange(8.0)[::-1]}, Mapping(),
        "does not increase",
    ),
    "coordinates of nothing": (
        {"a": values(4, 8), "u": values(4, 8), "q": values(7)}, rules(q={"role": "coordinate"}),
        "is to be a coordinate, but has 7 values",
    ),
    "states of different lengths": (
        {"a": values(4, 5, 8), "u": values(4, 6, 8)},
        rules(a={"role": "state"}, u={"role": "state"}), "differ in their number of frames",
    ),
    "a state without space": (
        {"a": values(4, 5)}, rules(a={"role": "state"}), r"expected \(samples, time, x\)",
    ),
    "no samples": ({"a": values(0, 8), "u": values(0, 8)}, Mapping(), "at least one value"),
    "no axis": ({"a": np.float32(1)}, Mapping(), "no array with an axis of samples"),
    "nothing": ({}, Mapping(), "no array with an axis of samples"),
    "text": ({"a": np.array(["b"] * 4), "u": values(4, 8)}, Mapping(), "expected real numbers"),
    "complex": ({"a": 1j * values(4, 8), "u": values(4, 8)}, Mapping(), "expected real numbers"),
    "records": ({"a": np.zeros(4, "f4,f4"), "u": values(4, 8)}, Mapping(), "real numbers"),
    "only inputs": ({"a": values(4, 8)}, Mapping(), "expected an input and an output"),
    "five axes": ({"a": values(2, 2, 2, 2, 2), "u": values(2, 2)}, Mapping(), "no grid"),
    "two of one name": (
        {"x": values(4, 8), "input": values(4, 8), "u": values(4, 8)}, Mapping(), "would both be",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_what_cannot_be_told_is_refused_in_one_line(tmp_path, case):
    arrays, mapping, message = ODD[case]
    with pytest.raises(InputError, match=message) as refused:
        saved(tmp_path, mapping, **arrays)
    assert "\n" not in str(refused.value)


class Bomb:
    ran: list[str] = []

    def __reduce__(self):
        return Bomb.ran.append, ("ran",)


def test_pickles_are_refused_and_never_run(tmp_path):
    with pytest.raises(InputError, match="pickled Python objects"):
        saved(tmp_path, a=np.array([Bomb()], dtype=object), u=values(1, 4))
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="no array of NumPy's"):
        opened(tmp_path / "plain.npy")
    assert Bomb.ran == []


def raw(shape: str, size: int, descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(size)


HOSTILE = {
    "absurd shape": (raw("(10**9, 10**9)".replace("10**9", "1000000000"), 16), "claims shape"),
    "negative length": (raw("(-4, -8)", 128), "claims shape"),
    "too short": (raw("(4, 8)", 100), "claims shape"),
    "too long": (raw("(4, 8)", 1000), "claims shape"),
    "code in the header": (raw("(__import__('os').getpid(), 8)", 128), "no array of NumPy's"),
    "no shape": (raw("'4'", 128), "no array of NumPy's"),
    "unknown type": (raw("(4, 8)", 128, "'nonsense'"), "no array of NumPy's"),
    "deep header": (raw("(" * 3000 + ")" * 3000, 128), "no array of NumPy's"),
    "long header": (raw("(" + "1, " * 20000 + ")", 4), "no array of NumPy's"),
    "future version": (b"\x93NUMPY\x09\x00" + bytes(100), "unknown version"),
    "cut header": (raw("(4, 8)", 0)[:30], "no array of NumPy's"),
    "empty": (b"", "no array of NumPy's"),
    "text": (b"x,y\n1,2\n", "no array of NumPy's"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("packed", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_false_headers_are_refused_in_one_line(tmp_path, case, packed):
    content, message = HOSTILE[case]
    path = tmp_path / "file.npz"
    if packed is None:
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w", packed) as archive:
            archive.writestr("a.npy", content)
    told = refusal("npz", path)
    assert message in told and len(told) < 400


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "file.npz"
    size = 200 * 2**20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", raw(f"(100, {size // 400})", size))
    assert "as in a zip bomb" in refusal("npz", path)


def altered(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))


def test_a_member_that_unpacks_to_more_than_it_claims_is_refused(tmp_path):
    path = tmp_path / "file.npz"
    small = len(raw("(4, 8)", 128))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.npy", "u.npy"):
            archive.writestr(name, raw("(4, 8)", 100_000))
    altered(path, struct.pack("<I", small - 128 + 100_000), struct.pack("<I", small))
    assert "cannot be read" in refusal("npz", path)


def test_members_that_overlap_are_refused(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, a=values(4, 800), u=values(4, 800))
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("b.npy", "c.npy"):  # entries that point to the bytes of a.npy
            again = copy(archive.getinfo("a.npy"))
            again.filename = name
            archive.filelist.append(again)
            archive.NameToInfo[name] = again
        archive.comment = b"written anew"
    assert "members overlap" in refusal("npz", path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_a_truncated_archive_is_refused_in_one_line(tmp_path, save, share):
    path = tmp_path / "file.npz"
    save(path, a=values(4, 800), u=values(4, 800))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "cannot be read" in refusal("npz", path)


def test_damage_inside_a_compressed_member_is_found(tmp_path):
    path = tmp_path / "file.npz"
    np.savez_compressed(path, a=values(4, 800), u=values(4, 800))
    content = bytearray(path.read_bytes())
    content[5000] ^= 0xFF
    path.write_bytes(bytes(content))
    assert "cannot be read" in refusal("npz", path)


def test_an_encrypted_or_oddly_packed_member_is_refused(tmp_path):
    path = tmp_path / "file.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", raw("(4, 8)", 128))
    assert "stored or deflated" in refusal("npz", path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", raw("(4, 8)", 128))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    assert "encrypted" in refusal("npz", path)


def test_temporary_files_vanish_with_the_importer(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    np.savez_compressed(tmp_path / "file.npz", a=values(4, 8), u=values(4, 8))
    with importer_class("npz")(tmp_path / "file.npz", Mapping()) as importer:
        importer.read("a", 0, 4)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="there.npz cannot be read"):
        opened(tmp_path / "there.npz")
