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
from opened import mapped, rules
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


def read(file: MappedFile) -> dict[str, np.ndarray]:
    samples = file.contents.samples
    return {field.name: file.read(field.name, 0, samples) for field in file.contents.fields}


def dims(file: MappedFile) -> dict[str, tuple[str, ...]]:
    return {field.name: field.dims for field in file.contents.fields}


def roles(file: MappedFile) -> dict[str, str]:
    return {field.name: field.role for field in file.contents.fields}


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
    assert dims(file) == {"a": ("x", "y", "z"), "sol": ("x", "y", "z"), "nu": ()}
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


def test_names_tell_inputs_from_outputs_and_reserved_ones_are_replaced(tmp_path):
    file = saved(tmp_path, x=values(4, 8, 8), y=values(4, 8, 8))
    assert roles(file) == {"input": "input", "output": "output"}
    assert file.contents.sources == {"input": "x", "output": "y"}


def test_an_axis_of_one_channel_vanishes(tmp_path):
    given = values(4, 1, 8, 9)
    file = saved(tmp_path, inputs=given, outputs=given[:, 0])
    assert dims(file) == {"inputs": ("x", "y"), "outputs": ("x", "y")}
    np.testing.assert_array_equal(read(file)["inputs"], given[:, 0])


def test_channels_become_fields(tmp_path):
    given = values(4, 2, 8, 9)
    file = saved(tmp_path, a=given, u=values(4, 8, 9))
    assert dims(file) == dict.fromkeys(("a_0", "a_1", "u"), ("x", "y"))
    np.testing.assert_array_equal(read(file)["a_1"], given[:, 1])
    assert "2 fields" in file.contents.remarks[0]


def test_a_rule_for_an_array_holds_for_all_its_channels(tmp_path):
    mapping = rules(q={"role": "input", "units": "W"}, q_1={"units": "V"})
    file = saved(tmp_path, mapping, q=values(4, 2, 8, 9), u=values(4, 8, 9))
    units = {field.name: field.units for field in file.contents.fields}
    assert units == {"q_0": "W", "q_1": "1", "u": "1"} | {"q_1": "V"}


def test_as_many_channels_as_places_are_places(tmp_path):
    file = saved(tmp_path, a=values(4, 16, 16), u=values(4, 16, 16))
    assert dims(file) == {"a": ("x", "y"), "u": ("x", "y")}


def test_frames_are_told_by_the_mapping(tmp_path):
    given = values(4, 5, 8, 9)
    force, heat = values(4, 5), values(4, 5, 8, 9)
    mapping = rules(w={"role": "state"}, force={"role": "input"}, heat={"role": "input"})
    file = saved(tmp_path, mapping, w=given, t=np.arange(5) / 2, force=force, heat=heat)
    over = ("time", "x", "y")
    assert dims(file) == {"w": over, "force": ("time",), "heat": over}
    np.testing.assert_array_equal(file.contents.axes[0].points, np.arange(5) / 2)
    for name, expected in {"w": given, "force": force, "heat": heat}.items():
        np.testing.assert_array_equal(read(file)[name], expected)


def test_states_may_have_channels(tmp_path):
    given = values(4, 5, 2, 8, 9)
    file = saved(tmp_path, rules(w={"role": "state"}), w=given)
    assert dims(file) == dict.fromkeys(("w_0", "w_1"), ("time", "x", "y"))
    np.testing.assert_array_equal(read(file)["w_1"], given[:, :, 1])


def test_vectors_are_coordinates_numbers_or_parameters(tmp_path):
    x = np.linspace(0.1, 0.9, 8)
    file = saved(
        tmp_path, a=values(4, 8), u=values(4, 8), x=x, nu=values(4), dt=0.5, steps=np.array([3]),
        group=np.array([0, 0, 1, 1]), start=np.arange(4.0),
    )  # fmt: skip
    (axis,) = file.contents.axes
    np.testing.assert_array_equal(axis.points, x)
    assert axis.extent == pytest.approx((0.1 - 0.4 / 7, 0.9 + 0.4 / 7))
    assert dims(file)["nu"] == () and roles(file)["nu"] == "input"
    assert file.contents.parameters == {"dt": 0.5, "steps": 3}
    assert file.contents.groups is not None and file.contents.starts is not None
    assert file.contents.groups.tolist() == [0, 0, 1, 1]
    assert file.contents.starts.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_points_have_coordinates_where_the_mapping_says_so(tmp_path):
    place = {"role": "coordinate"}
    given = {"x": values(4, 30), "y": values(4, 30), "a": values(4, 30), "u": values(4, 30)}
    file = saved(tmp_path, rules(x=place, y=place), **given)
    assert dims(file) == dict.fromkeys(given, ("point",))
    assert roles(file) == {"x": "coordinate", "y": "coordinate", "a": "input", "u": "output"}
    np.testing.assert_array_equal(read(file)["x"], given["x"])


def test_a_single_array_is_a_state_if_the_mapping_says_so(tmp_path):
    given = values(4, 5, 8)
    np.save(tmp_path / "run-7.npy", given)
    file = opened(tmp_path / "run-7.npy", rules(run_7={"role": "state"}))
    assert dims(file) == {"run_7": ("time", "x")}
    np.testing.assert_array_equal(read(file)["run_7"], given)


def test_what_is_dropped_may_be_anything(tmp_path):
    drop = {"drop": True}
    file = saved(
        tmp_path, rules(note=drop, other=drop, objects=drop), a=values(4, 8), u=values(4, 8),
        note=np.array("text"), other=values(5, 9), objects=np.array([{}]),
    )  # fmt: skip
    assert set(dims(file)) == {"a", "u"}


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
    with pytest.raises(InputError, match=message) as refused:
        opened(path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "file.npz"
    size = 200 * 2**20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", raw(f"(100, {size // 400})", size))
    with pytest.raises(InputError, match="as in a zip bomb"):
        opened(path)


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
    with pytest.raises(InputError, match="cannot be read"):
        opened(path).read("a", 0, 4)


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
    with pytest.raises(InputError, match="members overlap"):
        opened(path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_a_truncated_archive_is_refused_in_one_line(tmp_path, save, share):
    path = tmp_path / "file.npz"
    save(path, a=values(4, 800), u=values(4, 800))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="cannot be read") as refused:
        opened(path)
    assert "\n" not in str(refused.value)


def test_damage_inside_a_compressed_member_is_found(tmp_path):
    path = tmp_path / "file.npz"
    np.savez_compressed(path, a=values(4, 800), u=values(4, 800))
    content = bytearray(path.read_bytes())
    content[5000] ^= 0xFF
    path.write_bytes(bytes(content))
    file = opened(path)
    with pytest.raises(InputError, match="cannot be read"):
        file.read("a", 0, 4)


def test_an_encrypted_or_oddly_packed_member_is_refused(tmp_path):
    path = tmp_path / "file.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", raw("(4, 8)", 128))
    with pytest.raises(InputError, match="stored or deflated"):
        opened(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", raw("(4, 8)", 128))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="encrypted"):
        opened(path)


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
