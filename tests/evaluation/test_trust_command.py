"""`mno predict` as a person calls it: what it writes and says beside the fields."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from click.testing import Result
from trusted import darcy_model, darcy_splits, trust_of
from typer.testing import CliRunner

from flows.cli import app
from mno.core.errors import InputError
from mno.lineage.record import candidate_digest


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its trust, and inputs of which one has four times the usual permeability."""
    folder = tmp_path_factory.mktemp("workspace")
    surrogate, splits = darcy_model(tmp_path_factory.mktemp("work")), darcy_splits()
    candidate = folder / "models/candidate"
    candidate.mkdir(parents=True)
    surrogate.save(candidate)
    trust = trust_of(surrogate, splits).model_copy(
        update={"model_sha256": candidate_digest(candidate)}
    )
    (folder / "reports").mkdir()
    (folder / "reports/trust.json").write_text(json.dumps(trust.to_json()))
    permeability = splits[2].fields["permeability"][:5].copy()
    permeability[3] *= 4.0
    group = zarr.open_group(str(folder / "in.zarr"), mode="w")
    group.create_array("permeability", data=permeability, dimension_names=("sample", "x", "y"))
    return folder


def predict(folder: Path, *options: str, to: Path) -> Result:
    arguments = [str(folder / name) for name in ("models/candidate", "in.zarr")]
    return CliRunner().invoke(app, ["predict", *arguments, str(to), *options])


def test_bounds_residual_and_flag_are_written_with_units_and_names(workspace, tmp_path):
    done = predict(workspace, to=tmp_path / "out.zarr")
    assert done.exit_code == 0, done.output
    assert "1 of 5 inputs is unlike the training data, most by: permeability" in done.output
    assert "typical error bound" in done.output
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = xarray.open_zarr(tmp_path / "out.zarr").load()
    assert found["unlike_training"].values.tolist() == [0, 0, 0, 1, 0]
    for name in ("rmse", "max_error", "relative_l2"):
        bound = found[f"pressure_{name}_bound"]
        assert np.isfinite(bound).all()
        assert bound.attrs["units"] == "1" and "pressure" in bound.attrs["long_name"]
    assert "answered_by" not in found
    assert found["equation_residual"].dims == ("sample",)


def test_the_solver_answers_what_is_flagged_and_export_takes_the_store(workspace, tmp_path):
    done = predict(workspace, "--fallback", "solver", "--json", to=tmp_path / "out.zarr")
    trust = json.loads(done.output)["trust"]
    assert (trust["solved"], trust["not_solved"]) == (1, {})
    assert 0 <= trust["iterations"] <= trust["iterations_from_zero"]
    found = xarray.open_zarr(tmp_path / "out.zarr").load()
    assert found["answered_by"].values.tolist() == [0, 0, 0, 1, 0]
    exported = CliRunner().invoke(
        app, ["export", str(tmp_path / "out.zarr"), str(tmp_path / "o.nc")]
    )
    assert exported.exit_code == 0, exported.output
    again = xarray.open_dataset(tmp_path / "o.nc")
    np.testing.assert_array_equal(again["pressure"], found["pressure"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fallback", "oracle"), "--fallback oracle: expected solver, or none"),
        (("--fallback-above", "5%"), "give --fallback solver, too"),
        (("--fallback", "solver", "--fallback-above", "much"), "expected a number above 0"),
    ],
)
def test_wrong_use_is_refused_before_any_work(workspace, tmp_path, options, message):
    done = predict(workspace, *options, to=tmp_path / "out.zarr")
    assert isinstance(done.exception, InputError) and message in str(done.exception)
    assert not (tmp_path / "out.zarr").exists()


def test_without_an_estimate_of_this_very_model_it_predicts_and_says_why(workspace, tmp_path):
    other = tmp_path / "other"
    (other / "models/candidate").mkdir(parents=True)
    darcy = workspace / "models/candidate"
    for path in darcy.iterdir():
        (other / "models/candidate" / path.name).write_bytes(path.read_bytes())
    (other / "in.zarr").symlink_to(workspace / "in.zarr")
    done = predict(other, to=tmp_path / "a.zarr")
    assert "no error estimate: there is no" in done.output
    assert sorted(zarr.open_group(str(tmp_path / "a.zarr"))) == ["pressure"]
    (other / "reports").mkdir()
    content = json.loads((workspace / "reports/trust.json").read_text())
    (other / "reports/trust.json").write_text(json.dumps(content | {"model_sha256": "1" * 64}))
    done = predict(other, to=tmp_path / "b.zarr")
    assert "is of another model; make a new one with: mno evaluate" in done.output
    done = predict(other, "--fallback", "solver", to=tmp_path / "c.zarr")
    assert "needs an error estimate" in str(done.exception)
