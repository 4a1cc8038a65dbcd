"""Tensors saved by torch, as neuraloperator's data sets are."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from opened import mapped, refusal

from mno.core.errors import InputError
from mno.imports.mapping import FieldRule, MappedFile, Mapping


def opened(path: Path, mapping: Mapping | None = None) -> MappedFile:
    return mapped("neuralop", path, mapping)


def saved(folder: Path, content: object, **options: object) -> Path:
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
    "a model": (torch.nn.Linear(2, 2), "cannot be loaded"),
    "three tensors": ((X, Y, Y), "holds a tuple of 3"),
    "one tensor": (Y, "holds a strided Tensor"),
    "an empty dict": ({}, "holds a dict of 0"),
    "numbers under names": ({"x": [1.0], "y": Y}, "holds a list of 1 under 'x'"),
    "names that are none": ({1: X, 2: Y}, "under '1'"),
    "sparse": ({"x": Y.to_sparse(), "y": Y}, "holds a sparse_coo Tensor"),
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
    assert "loaded with torch and saved again" in refusal("neuralop", path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, share):
    path = saved(tmp_path, {"x": X, "y": Y})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"darcy_train_16.pt (cannot be read|is no file)"):
        opened(path)


def test_other_archives_are_refused(tmp_path):
    path = tmp_path / "file.pt"
    np.savez(path.with_suffix(".npz"), x=X.numpy())
    path.with_suffix(".npz").rename(path)
    assert "archive of another kind" in refusal("neuralop", path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"(" * 10**6)
    assert "archive of another kind" in refusal("neuralop", path)


@pytest.mark.parametrize("pickle", [b"(" * 10**5 + b".", b"garbage", b""])
def test_a_pickle_that_is_none_is_refused(tmp_path, pickle):
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickle)
        archive.writestr("archive/version", b"3\n")
    assert "cannot be loaded" in refusal("neuralop", path)
