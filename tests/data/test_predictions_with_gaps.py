"""Predictions of a store in which values are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from mno.core.errors import InputError
from mno.surrogate.predictions import predict_store
from mno.surrogate.surrogate import Surrogate

SAVED = Path(__file__).parents[1] / "surrogate/formats/gaps"
POINT, TIME = ("sample", "point"), ("sample", "time", "point")
DIMS = {"cover": POINT, "loss": ("sample",), "temperature": TIME, "x": POINT, "y": POINT}


def make_store(folder: Path, **changes: tuple) -> tuple[Path, dict[str, np.ndarray]]:
    """Write what the saved model was given, some values changed: by name, where and to what."""
    known = dict(np.load(SAVED / "prediction.npz"))
    given = {name: known.get(f"given {name}", known[name]).copy() for name in DIMS}
    for name, (where, value) in changes.items():
        given[name][where] = value
    group = zarr.open_group(str(folder), mode="w")
    for name, values in given.items():
        group.create_array(name, data=values, dimension_names=DIMS[name])
    return folder, given


def test_a_store_with_gaps_is_predicted_as_a_whole(tmp_path):
    source, given = make_store(tmp_path / "in.zarr")
    surrogate = Surrogate.load(SAVED)
    assert predict_store(surrogate, source, tmp_path / "out.zarr", 1, lambda *_: None) == 2
    out = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    for name, expected in surrogate.predict(given, 1).items():
        found = np.asarray(out[name][:])
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_gap_that_the_model_does_not_know_leaves_nothing_behind(tmp_path):
    source, _ = make_store(tmp_path / "in.zarr", y=((1, 4), np.nan))
    with pytest.raises(InputError, match="in.zarr, from 1 on: field y has a value that is miss"):
        predict_store(Surrogate.load(SAVED), source, tmp_path / "out.zarr", 1, lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]
