"""NumPy's files: what their arrays become, and what is refused."""

import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy_format
from opened import fields_of, mapped, refusal, rules
from pytest import MonkeyPatch

from mno.core.errors import InputError
from mno.imports import stored
from mno.imports.importer import importer_class
from mno.imports.mapping import Mapping

RNG = np.random.default_rng(0)
SAVERS = {"stored": np.savez, "compressed": np.savez_compressed}


def values(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def opened(path, mapping=None):
    return mapped("npz", path, mapping)


def saved(folder, mapping=None, /, **arrays):
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
def test_arrays_in_fortran_order_are_turned_round(tmp_path_factory, shape, tile):
    expected, path = values(*shape), tmp_path_factory.mktemp("f") / "u.npy"
    np.save(path, np.asfortranarray(expected))
    with MonkeyPatch.context() as patch:
        patch.setattr("mno.imports.stored._BOX_BYTES", tile)
        patch.setattr("mno.imports.stored._KEPT_BYTES", 0)
        rule = {"role": "state" if len(shape) > 2 else "input"}
        with importer_class("npz")(path, rules(u=rule)) as importer:
            for start in (0, shape[0] - 1):
                names = [field.name for field in importer.contents.fields]
                parts = [importer.read(name, start, shape[0]) for name in names]
                found = np.stack(parts, axis=-1) if len(parts) > 1 else parts[0]
                np.testing.assert_array_equal(found, expected[start:].reshape(found.shape))


XY, TXY = ("x", "y"), ("time", "x", "y")
PLACE, STATE, INPUT = ({"role": role} for role in ("coordinate", "state", "input"))
# Arrays, rules, and for each field: of which part of which array, role and axes.
LAID_OUT = {
    "names tell inputs from outputs, and reserved ones are replaced": (
        {"x": values(4, 8, 8), "y": values(4, 8, 8), "identity": values(4)}, rules(),
        {"input": ("x", ..., "input", XY), "output": ("y", ..., "output", XY),
         "identity_value": ("identity", ..., "input", ())},
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
        tmp_path, a=values(4, 8), u=values(4, 8), x=x, nu=values(4), dt=np.nan, steps=np.array([3]),
        group=np.array([0, 0, 1, 1]), start=np.arange(4.0),
    )  # fmt: skip
    (axis,) = file.contents.axes
    np.testing.assert_array_equal(axis.points, x)
    assert axis.extent == pytest.approx((0.1 - 0.4 / 7, 0.9 + 0.4 / 7))
    assert fields_of(file.contents)["nu"] == ("input", ())
    assert file.contents.parameters == {"dt": "nan", "steps": 3}
    assert file.contents.groups.tolist() == [0, 0, 1, 1]
    assert file.contents.starts.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_single_array_is_a_state_if_the_mapping_says_so(tmp_path):
    given = values(4, 5, 8)
    np.save(tmp_path / "run-7.npy", given)
    file = opened(tmp_path / "run-7.npy", rules(run_7={"role": "state"}))
    assert fields_of(file.contents) == {"run_7": ("state", ("time", "x"))}
    np.testing.assert_array_equal(file.read("run_7", 0, 4), given)


ODD = {
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


def test_pickles_are_refused_and_never_run_and_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="there.npz cannot be read"):
        opened(tmp_path / "there.npz")
    with pytest.raises(InputError, match="pickled Python objects"):
        saved(tmp_path, a=np.array([Bomb()], dtype=object), u=values(1, 4))
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="cannot be read"):
        opened(tmp_path / "plain.npy")
    assert Bomb.ran == []


def raw(shape, size, descr="'<f4'"):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(size)


HOSTILE = {
    "absurd shape": (raw("(10**9, 10**9)".replace("10**9", "1000000000"), 16), "claims shape"),
    "negative length": (raw("(-4, -8)", 128), "claims shape"),
    "too short": (raw("(4, 8)", 100), "claims shape"),
    "too long": (raw("(4, 8)", 1000), "claims shape"),
    "code in the header": (raw("(__import__('os').getpid(), 8)", 128), "cannot be read"),
    "no shape": (raw("'4'", 128), "cannot be read"),
    "unknown type": (raw("(4, 8)", 128, "'nonsense'"), "cannot be read"),
    "deep header": (raw("(" * 3000 + ")" * 3000, 128), "cannot be read"),
    "long header": (raw("(" + "1, " * 20000 + ")", 4), "cannot be read"),
    "future version": (b"\x93NUMPY\x09\x00" + bytes(100), "cannot be read"),
    "cut header": (raw("(4, 8)", 0)[:30], "cannot be read"),
    "empty": (b"", "cannot be read"),
    "text": (b"x,y\n1,2\n", "cannot be read"),
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
    assert message in told and len(told) < 500


def test_what_unpacks_to_more_than_there_is_room_for_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "file.npz"
    size = 200 * 2**20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", raw(f"(100, {size // 400})", size))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**27}))
    assert "unpack to" in (told := refusal("npz", path)) and "TMPDIR" in told


def altered(path, old, new):
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


def test_an_encrypted_member_is_refused(tmp_path):
    path = tmp_path / "file.npz"
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


PATH = Path("data.mat")
SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(shape=SHAPES, limit=st.integers(8, 600))
def test_boxes_follow_one_another_in_a_file_of_matlab(shape, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "_BOX_BYTES", limit)
        boxes = list(stored.boxes(shape, None, 8, range(len(shape))))
    numbers = np.arange(np.prod(shape)).reshape(shape, order="F")
    found = np.concatenate([numbers[box].ravel(order="F") for box in boxes])
    np.testing.assert_array_equal(found, np.arange(numbers.size))
    assert all(8 * numbers[box].size <= limit for box in boxes)


@given(data=st.data(), shape=SHAPES, limit=st.integers(1, 600))
def test_samples_are_what_was_in_the_boxes(data, shape, limit):
    chunks = [data.draw(st.integers(1, length)) for length in shape]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "_BOX_BYTES", limit)
        boxes = list(stored.boxes(shape, chunks, 4, range(len(shape))))
    for box in boxes:  # whole chunks, so that none is unpacked twice
        assert all(part.start % chunk == 0 for part, chunk in zip(box, chunks, strict=True))
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    ordered = stored.SampleTiles(PATH, shape, ((box, values[box]) for box in boxes))
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start + 1, shape[0]))
    np.testing.assert_array_equal(ordered.read(start, stop), values[start:stop])


def test_a_full_disk_is_told_in_one_line():
    values = np.zeros((4, 2**20))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(InputError, match=r"File too large.*expected 0.0 GiB.*set TMPDIR"):
            stored.SampleTiles(PATH, values.shape, [((slice(0, 4), slice(0, 2**20)), values)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


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


def peak(kind, path, *inputs):
    """Return the most memory that reading a whole file in blocks took, in bytes."""
    command = [sys.executable, "-c", READ, kind, str(path), *inputs]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("fortran", [False, True])
def test_of_a_numpy_file(tmp_path, fortran):
    path = tmp_path / "u.npy"
    header = {"shape": SHAPE, "fortran_order": fortran, "descr": "<f4"}
    with path.open("wb") as file:
        npy_format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * int(np.prod(SHAPE)))
    assert peak("npz", path, "u") < 600 * MIB


@pytest.mark.slow
def test_of_a_zarr_group_whose_chunks_hold_many_samples(tmp_path):
    group = zarr.create_group(tmp_path / "g")
    names = ("sample", "x", "y")
    group.create_array(
        "u", shape=SHAPE, dtype="f4", chunks=(3000, 32, 320), dimension_names=names,
        config={"write_empty_chunks": True},
    )[:, :32] = 1.0  # fmt: skip
    assert peak("zarr", tmp_path / "g", "u") < 900 * MIB


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
def test_memory_stays_below_one_gib_for_larger_files(tmp_path, options):
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


@pytest.mark.slow
@pytest.mark.nightly
def test_memory_stays_below_one_gib_for_larger_files_of_matlab_7_3(tmp_path):
    path = tmp_path / "large73.mat"
    with h5py.File(path, "w") as file:
        for name in ("a", "u"):
            data = file.create_dataset(
                name, (512, 512, 600), "f8", chunks=(8, 8, 600), compression="gzip"
            )
            for start in range(0, 512, 64):
                data[start : start + 64] = np.zeros((64, 512, 600))
    assert peak("fno-mat", path) < 0.7 * GIB


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
@pytest.mark.nightly
def test_memory_stays_below_one_gib_for_larger_netcdf_files(tmp_path, engine):
    path = tmp_path / "large.nc"
    xarray.Dataset(
        {"u": (("sample", "time", "x", "y"), np.zeros((80, 20, 448, 448), dtype="f4"))}
    ).to_netcdf(path, engine=engine, format="NETCDF4" if engine == "h5netcdf" else "NETCDF3_64BIT")
    assert path.stat().st_size > 2**30
    assert peak("netcdf", path) < 0.7 * GIB
