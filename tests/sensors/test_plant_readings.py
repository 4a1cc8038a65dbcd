"""Readings of a plant's zones, pieces and thermocouples, against a model of them and the solver."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
import xarray
from plant_runs import dataset

from mno.core.errors import InputError
from mno.core.forecast import TaskConfig
from mno.data.parts import open_parts
from mno.imports.mapping import Mapping
from mno.nn.config import ModelConfig
from mno.sensors.compare import compare_with_file
from mno.sensors.page import sensor_rows
from mno.surrogate.surrogate import Surrogate
from mno.training.problem import describe

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
QUICK = {"rays": 16, "steps_per_frame": 1, "cells_per_point": 8.0}
SAMPLE = 2


def untrained(store):
    """Return a model of a furnace's readings that has learned nothing."""
    task = TaskConfig(part="readings", scheme="horizon")
    (train,) = open_parts(store, task, "train")
    model = ModelConfig(backbone="plain", mixer=["softmax"], width=8, layers=1, heads=2)
    torch.manual_seed(0)
    description = describe(train, model, task)
    return Surrogate(description, description.build())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("car"), "batch_furnace", 8, QUICK)


def compared(surrogate, log, data, sample=SAMPLE):
    return compare_with_file(surrogate, "a model", log, Mapping(), None, data, sample)


def columns_of(run):
    """Return what a log has of a stored run: thermocouples by name, pieces by number, losses."""
    columns = {"time": run["time"].values}
    numbered = {"thermocouple_temperature": "thermocouple", "core_temperature": "piece"}
    for name, axis in numbered.items():
        meant = run[axis].attrs.get("flag_meanings")
        places = meant.split() if meant else [str(n) for n in run[axis].values.astype(int)]
        columns |= {f"{name}.{p}": run[name].values[:, n] for n, p in enumerate(places)}
    return pandas.DataFrame({**columns, "hall_loss": run["hall_loss"].values})


def test_the_solver_has_no_error_on_its_own_readings_in_any_kind_of_table(store, tmp_path):
    surrogate = untrained(store)
    wide = columns_of(xarray.open_zarr(store).isel(sample=SAMPLE))
    wide.to_csv(tmp_path / "wide.csv", index=False)
    rows = wide.melt("time", value_name="value").dropna()
    rows[["quantity", "sensor"]] = rows["variable"].str.partition(".")[[0, 2]]
    rows.drop(columns="variable").to_csv(tmp_path / "long.csv", index=False)
    named = rows[["time", "value"]].assign(quantity=rows["variable"])
    named.to_csv(tmp_path / "named.csv", index=False)
    kinds = ("wide", "long", "named")
    found = [compared(surrogate, tmp_path / f"{kind}.csv", store) for kind in kinds]
    errors = [{(r["quantity"], r["sensor"]): r["model"]["rmse"] for r in f.sensors} for f in found]
    assert all(own == pytest.approx(errors[0]) for own in errors)
    assert found[0].solver_missing == ""
    there = int(wide.iloc[1:].drop(columns="time").notna().sum().sum())
    assert len(found[0].pairs) == there > 24 * 5
    assert {scores.quantity for scores in found[0].quantities} == {
        "thermocouple_temperature", "core_temperature", "hall_loss",
    }  # fmt: skip
    for scores in found[0].quantities:
        assert scores.solver["relative_l2"].value < 1e-6 < scores.model["relative_l2"].value


def test_a_sensor_at_no_place_of_the_plant_is_refused(store, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("time,thermocouple_temperature.roof\n1800,700\n")
    with pytest.raises(InputError, match="'roof'; expected one of roof_front, roof_rear, wall"):
        compared(untrained(store), log, store)


@pytest.fixture(scope="module")
def charge():
    spec = importlib.util.spec_from_file_location("charge", EXAMPLES / "charge.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_log_that_is_shipped_is_of_the_plant_that_is_with_a_worn_lining(charge):
    worn, new = (
        [off for name, off in charge.check(wear).items() if name.startswith("thermocouple")]
        for wear in (0.035, 0.0)
    )
    assert max(worn) < 8.0 < 80.0 < max(new)


def test_the_log_that_is_shipped_is_compared_with_a_model_of_the_plant(charge, store, tmp_path):
    charge.store(tmp_path / "charge.zarr")
    log = pandas.read_csv(EXAMPLES / "charge.csv")
    surrogate = untrained(store)
    found = compared(surrogate, EXAMPLES / "charge.csv", tmp_path / "charge.zarr", None)
    read = log.iloc[1:].drop(columns="time").drop(columns=log.filter(like="setpoint.").columns)
    assert len(found.pairs) == int(read.notna().sum().sum()) > 180
    assert {scores.quantity for scores in found.quantities} == {
        "thermocouple_temperature", "zone_temperature", "zone_energy",
    }  # fmt: skip
    assert all(np.isfinite(scores.model["rmse"].value) for scores in found.quantities)
    assert "position" not in sensor_rows(found, most=1)[0]  # their names say where they are
