"""Tensors saved by torch, as neuraloperator's data sets are."""

import zipfile
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from opened import (
    assert_cuts_are_refused,
    assert_flips_do_no_harm,
    assert_values,
    contents_and_values,
    fields_of,
    mapped,
    refusal,
    rules,
)

from mno.core.errors import InputError
from mno.imports.mapping import FieldRule, Mapping


def opened(path, mapping=None):
    return mapped("neuralop", path, mapping)


def saved(folder, content, **options):
    torch.save(content, folder / "darcy_train_16.pt", **options)  # type: ignore[arg-type]
    return folder / "darcy_train_16.pt"


X, Y = torch.rand(6, 16, 16) > 0.5, torch.rand(6, 16, 16)


@pytest.mark.parametrize("content", [{"x": X, "y": Y}, (X, Y), [X, Y[:, None]]])
def test_the_published_layouts_are_read(tmp_path, content):
    file = opened(saved(tmp_path, content))
    assert {f.name: (f.role, f.dims) for f in file.contents.fields} == {
        "input": ("input", ("x", "y")),
        "output": ("output", ("x", "y")),
    }
    np.testing.assert_array_equal(file.read("input", 1, 4), X[1:4].numpy().astype(np.float32))
    np.testing.assert_array_equal(file.read("output", 0, 6), Y.numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_numbers_of_any_kind_are_read(tmp_path, dtype):
    given = (100 * torch.rand(3, 8)).to(dtype)
    file = opened(saved(tmp_path, {"x": given, "y": given}))
    np.testing.assert_array_equal(file.read("input", 0, 3), given.float().numpy())


def test_tensors_that_are_views_are_read(tmp_path):
    whole = torch.rand(8, 8, 4)
    given = {"x": whole.permute(1, 0, 2), "y": whole}
    file = opened(saved(tmp_path, given))
    np.testing.assert_array_equal(file.read("input", 1, 5), given["x"][1:5].numpy())
    np.testing.assert_array_equal(file.read("output", 1, 5), given["y"][1:5].numpy())


def test_the_mapping_renames_and_makes_states(tmp_path):
    given = torch.rand(3, 5, 8, 8)
    mapping = Mapping(fields={"w": FieldRule(name="vorticity", role="state")})
    file = opened(saved(tmp_path, {"w": given}), mapping)
    (field,) = file.contents.fields
    assert (field.name, field.dims) == ("vorticity", ("time", "x", "y"))
    np.testing.assert_array_equal(file.read("vorticity", 0, 3), given.numpy())


def test_values_stay_right_when_the_file_is_mapped_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("mno.imports.neuralop._MOST_MAPPED", 1000)
    file = opened(saved(tmp_path, {"x": X, "y": Y}))
    for row in range(6):
        np.testing.assert_array_equal(file.read("output", row, row + 1), Y[row : row + 1].numpy())


class Bomb:
    ran: list[str] = []

    def __reduce__(self):
        return Bomb.ran.append, ("ran",)


REFUSED = {
    "code": ({"x": Bomb(), "y": Y}, "Weights only load failed"),
    "a model": (torch.nn.Linear(2, 2), "cannot be read"),
    "three tensors": ((X, Y, Y), "holds one tuple"),
    "one tensor": (Y, "holds one Tensor"),
    "an empty dict": ({}, "holds one dict"),
    "numbers under names": ({"x": [1.0], "y": Y}, "holds a list under 'x'"),
    "names that are none": ({1: X, 2: Y}, "under '1'"),
    "sparse": ({"x": Y.to_sparse(), "y": Y}, "sparse_coo Tensor under 'x'"),
    "no values": ({"x": torch.empty(0, 8), "y": torch.empty(0, 8)}, "at least one value"),
    "absurd sample": (
        {"x": torch.zeros(1).expand(2, 10**5, 10**5), "y": torch.zeros(1).expand(2, 10**5, 10**5)},
        "expected at most",
    ),
    "complex": ({"x": torch.complex(Y, Y), "y": Y}, "expected real numbers"),
    "other samples": ({"x": X, "y": Y[:3]}, "number of samples"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_in_one_line(tmp_path, case):
    content, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as refused:
        opened(saved(tmp_path, content))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 450
    assert Bomb.ran == []


def test_files_of_an_old_torch_are_refused_with_the_remedy(tmp_path):
    path = saved(tmp_path, {"x": X, "y": Y}, _use_new_zipfile_serialization=False)
    assert "_use_new_zipfile_serialization" in refusal("neuralop", path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, share):
    path = saved(tmp_path, {"x": X, "y": Y})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"darcy_train_16.pt cannot be read"):
        opened(path)


def test_other_archives_are_refused(tmp_path):
    path = tmp_path / "file.pt"
    np.savez(path.with_suffix(".npz"), x=X.numpy())
    path.with_suffix(".npz").rename(path)
    assert "cannot be read" in refusal("neuralop", path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"(" * 10**6)
    assert "cannot be read" in refusal("neuralop", path)


@pytest.mark.parametrize("pickle", [b"(" * 10**5 + b".", b"garbage", b""])
def test_a_pickle_that_is_none_is_refused(tmp_path, pickle):
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickle)
        archive.writestr("archive/version", b"3\n")
    assert "cannot be read" in refusal("neuralop", path)


RNG = np.random.default_rng(0)
XY, INPUT = ("x", "y"), {"role": "input"}


def version_6(path, arrays):
    scipy.io.savemat(path, arrays, do_compression=False)


def version_7(path, arrays):
    scipy.io.savemat(path, arrays, do_compression=True)


def version_7_3(path, arrays):
    """Write what MATLAB does: a header of 512 bytes, axes reversed, a class for each variable."""
    classes = {"f8": "double", "f4": "single", "i4": "int32", "u1": "uint8"}
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            values = np.atleast_2d(array)
            kind = classes[values.dtype.str[1:]]
            data = file.create_dataset(
                name, data=values.T, compression="gzip" if values.size > 1 else None
            )
            data.attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


versions = pytest.mark.parametrize("write", [version_6, version_7, version_7_3])


@versions
@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "u1"])
def test_darcy_flow_comes_back_as_it_was_written(tmp_path, write, dtype):
    path = tmp_path / "piececonst_r21_N10_smooth1.mat"
    coeff = (RNG.random((10, 21, 17)) * 100).astype(dtype)
    sol = (RNG.random((10, 21, 17)) * 100).astype(dtype)
    write(path, {"coeff": coeff, "Kcoeff": coeff + 1, "sol": sol})
    contents, values = contents_and_values("fno-mat", path)
    assert contents.samples == 10
    assert fields_of(contents) == {"permeability": ("input", XY), "pressure": ("output", XY)}
    assert_values(values, permeability=coeff, pressure=sol)
    assert contents.remarks == (
        "left out: Kcoeff; what is to be kept needs a role in a mapping file",
    )
    # Points on both ends: cells of a twentieth reach half a cell beyond them.
    np.testing.assert_allclose(contents.axes[0].points, np.linspace(0, 1, 21))
    np.testing.assert_allclose(contents.axes[0].extent, (-0.025, 1.025))


@versions
def test_a_role_in_the_mapping_keeps_another_variable(tmp_path, write):
    path = tmp_path / "darcy.mat"
    arrays = {name: RNG.random((4, 5, 6)) for name in ("coeff", "Kcoeff", "sol")}
    write(path, arrays)
    _, values = contents_and_values("fno-mat", path, rules(Kcoeff=INPUT, coeff={"drop": True}))
    assert set(values) == {"Kcoeff", "pressure"}
    assert_values(values, Kcoeff=arrays["Kcoeff"])


@versions
def test_given_and_sought_of_one_dimension(tmp_path, write):
    path = tmp_path / "burgers_data_R10.mat"
    a, u = RNG.random((8, 32)), RNG.random((8, 32))
    write(path, {"a": a, "u": u, "a_smooth": a})
    contents, values = contents_and_values("fno-mat", path)
    assert fields_of(contents) == {"input": ("input", ("x",)), "output": ("output", ("x",))}
    assert_values(values, input=a, output=u)
    np.testing.assert_allclose(contents.axes[0].points, (np.arange(32) + 0.5) / 32)


def flow(frames):
    return RNG.random((7, 8, 8)), RNG.random((7, 8, 8, frames))


@versions
def test_navier_stokes_becomes_a_state_that_begins_with_a(tmp_path, write):
    path = tmp_path / "ns_data_V1e-3_N5000_T50.mat"
    a, u = flow(5)
    write(path, {"a": a, "u": u, "t": np.arange(1.0, 6.0)})
    contents, values = contents_and_values("fno-mat", path)
    assert fields_of(contents) == {"vorticity": ("state", ("time", *XY))}
    np.testing.assert_array_equal(contents.axes[0].points, np.arange(6))
    assert_values(values, vorticity=np.concatenate([a[:, None], np.moveaxis(u, -1, 1)], axis=1))


def test_a_is_left_out_where_u_begins_at_time_zero(tmp_path):
    path = tmp_path / "ns.mat"
    a, u = flow(5)
    version_7(path, {"a": a, "u": u, "t": np.arange(5.0)})
    contents, values = contents_and_values("fno-mat", path)
    assert "u begins at time 0; a is left out" in contents.remarks
    assert_values(values, vorticity=np.moveaxis(u, -1, 1))


def test_frames_are_numbered_where_times_are_missing(tmp_path):
    path = tmp_path / "ns.mat"
    a, u = flow(5)
    version_7(path, {"a": a, "u": u})
    for said in (rules(), rules(u={"role": "state"})):  # as a written mapping says, too
        contents, _ = contents_and_values("fno-mat", path, said)
        np.testing.assert_array_equal(contents.axes[0].points, np.arange(6))
    version_7(path, {"u": u})
    contents, values = contents_and_values("fno-mat", path)
    np.testing.assert_array_equal(contents.axes[0].points, np.arange(5))
    assert values["vorticity"].shape == (7, 5, 8, 8)


def test_roles_in_the_mapping_keep_given_and_sought_apart(tmp_path):
    path = tmp_path / "ns.mat"
    a, u = flow(5)
    version_7(path, {"a": a, "u": u})
    contents, values = contents_and_values("fno-mat", path, rules(a=INPUT))
    assert fields_of(contents) == {"input": ("input", XY), "output": ("output", ("time", *XY))}
    assert_values(values, output=np.moveaxis(u, -1, 1))


@versions
def test_one_number_of_each_sample_is_kept(tmp_path, write):
    path = tmp_path / "burgers.mat"
    nu = RNG.random((8, 1))
    write(path, {"a": RNG.random((8, 32)), "u": RNG.random((8, 32)), "nu": nu})
    contents, values = contents_and_values("fno-mat", path, rules(nu=INPUT))
    assert [f.name for f in contents.fields if f.is_scalar] == ["nu"]
    assert_values(values, nu=nu[:, 0])


def test_big_endian_files_are_read(tmp_path):
    path = tmp_path / "big.mat"
    a, u = RNG.random((8, 32)), RNG.random((8, 32))

    def element(kind, data):
        tag = kind.to_bytes(4, "big") + len(data).to_bytes(4, "big")
        return tag + data.ljust(-(-len(data) // 8) * 8, b"\0")

    raw = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    for name, array in {"a": a, "u": u}.items():
        matrix = element(6, (6).to_bytes(4, "big") + bytes(4))
        matrix += element(5, np.array(array.shape, ">i4").tobytes())
        matrix += element(1, name.encode())
        matrix += element(9, array.astype(">f8").tobytes(order="F"))
        packed = zlib.compress(element(14, matrix))
        raw += (15).to_bytes(4, "big") + len(packed).to_bytes(4, "big") + packed
    path.write_bytes(raw)
    _, values = contents_and_values("fno-mat", path)
    assert_values(values, output=u)


@pytest.mark.parametrize("write", [version_6, version_7])
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, write):
    write(tmp_path / "whole.mat", {"a": RNG.random((8, 32)), "u": RNG.random((8, 32))})
    assert_cuts_are_refused("fno-mat", tmp_path / "whole.mat", 97)
    write(tmp_path / "whole.mat", {"a": RNG.random((3, 8)), "u": RNG.random((3, 8))})
    size = (tmp_path / "whole.mat").stat().st_size
    assert_flips_do_no_harm("fno-mat", tmp_path / "whole.mat", range(128, min(size, 600)), 20)


def test_other_variables_and_other_files_are_named(tmp_path):
    path = tmp_path / "other.mat"
    cell = np.array([1, "two"], dtype=object)
    scipy.io.savemat(path, {"p": np.ones((3, 4)), "cell": cell, "text": "abc", "z": 1j})
    assert "has p, z, cell, text; expected coeff and sol, or a and u" in refusal("fno-mat", path)
    none = "MATLAB file of version 5, 7 or 7.3"
    path.write_text("a, u\n1, 2\n" * 100)
    assert none in refusal("fno-mat", path)
    scipy.io.savemat(path, {"a": np.ones((3, 4))}, format="4")
    assert none in refusal("fno-mat", path)
    assert "is not a file" in refusal("fno-mat", tmp_path)


def test_a_shape_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "darcy.mat"
    scipy.io.savemat(path, {"coeff": np.ones((4, 5, 5)), "sol": np.ones((3, 5, 5))})
    assert "sol has shape (3, 5, 5); expected (4, 5, 5)" in refusal("fno-mat", path)
