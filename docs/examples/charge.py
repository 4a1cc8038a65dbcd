"""A charge of `plants/electric_annealing.yaml`: made, and as `mno compare` takes it.

`charge.py make` solves the charge on fine cells, reads it as the plant's file says of sensors, and
writes `charge.csv` and `charge.yaml` beside itself. `charge.py store FOLDER` makes of the two a
Zarr store of what a model of readings is given.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import xarray

from mno.core.config import read_yaml
from mno.core.files import write_text
from mno.scenarios.base import make_scenario

HERE = Path(__file__).parent
PLANT = {"plant": "electric_annealing"}


def make(seed: int = 118) -> None:
    """Solve a charge on fine cells, and write what its sensors read, and what they do not."""
    furnace: Any = make_scenario("batch_furnace", 8, {**PLANT, "cells_per_point": 0.5})
    rng = np.random.default_rng(seed)
    run = furnace.sample(rng)
    solved, axes = furnace.solve(run), {axis.name: axis for axis in furnace.axes}
    labels = {f.name: axes[f.dims[-1]].labels for f in furnace.fields if f.dims}
    read = {name: s.read(solved[name], rng) for name, s in furnace.plant.sensors.items()}
    columns = {"time": axes["time"].points.astype(int)}
    for name, values in {"setpoint": run["setpoint"], **read}.items():
        for place, column in zip(labels[name], values.T, strict=True):
            columns[f"{name}.{place}"] = np.round(column, -4 if name == "zone_energy" else 1)
    pandas.DataFrame(columns).to_csv(HERE / "charge.csv", index=False)
    known = [name for name in run if name.startswith(("ambient", "piece", "thermocouple_lag"))]
    given = {name: np.round(run[name].astype(float), 2).tolist() for name in known}
    lines = (f"{name}: {values}\n".replace("nan", "null") for name, values in given.items())
    write_text(HERE / "charge.yaml", "".join(lines))


def store(folder: Path) -> None:
    """Write what a model is given of the charge; guess a new lining, as warm as it is read."""
    furnace = make_scenario("batch_furnace", 8, PLANT)
    log, given = pandas.read_csv(HERE / "charge.csv"), read_yaml(HERE / "charge.yaml")
    given["setpoint"] = log.filter(like="setpoint.")
    given["lining_temperature"] = log.filter(like="thermocouple_temperature.").iloc[0].mean()
    given["wear"] = 0.0
    run = furnace.completed({name: np.array(v, np.float32) for name, v in given.items()})
    arrays, axes = {}, {axis.name: axis for axis in furnace.axes}
    for field in (field for field in furnace.fields if field.name in run):
        values, told = run[field.name][None], {"units": field.units}
        if field.role == "state":  # only its first frame is given
            values = np.full((1, len(log), *values.shape[1:]), np.nan, np.float32)
            values[:, 0] = run[field.name]
        arrays[field.name] = (("sample", *field.dims), values, told)
    points = {name: (name, axis.points, axis.flags) for name, axis in axes.items()}
    xarray.Dataset(arrays, points).to_zarr(folder, consolidated=False)


if __name__ == "__main__":
    if sys.argv[1:] == ["make"]:
        make()
    else:
        store(Path(sys.argv[2]))
