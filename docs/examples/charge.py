"""A charge of `plants/car_bottom.yaml`: made, held against the plant, as models take it.

charge.py make           solve it on fine cells, and write what sensors read: `charge.csv`, and
                         what is the same all the time: `charge.yaml`, beside this file
charge.py check          solve what the two say as the plant's file has it, and say how far off
charge.py store FOLDER   write what a model is given, for `mno compare` and `mno predict`

The last two take the wear of the lining, m, behind the rest; a new one without.
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
PLANT = {"plant": "car_bottom"}


def make(seed: int = 118) -> None:
    """Solve a charge on fine cells, and write what its sensors read, and what they do not."""
    furnace: Any = make_scenario("batch_furnace", 8, {**PLANT, "cells_per_point": 0.5})
    rng = np.random.default_rng(seed)
    run = furnace.sample(rng)
    solved = furnace.solve(run)
    read = {name: s.read(solved[name], rng) for name, s in furnace.plant.sensors.items()}
    columns = {"time": furnace.axes[0].points.astype(int)}
    for name, values in {"setpoint": run["setpoint"], **read}.items():
        for place, column in zip(places(furnace)[name], values.T, strict=True):
            columns[f"{name}.{place}"] = np.round(column, -4 if name == "zone_energy" else 1)
    pandas.DataFrame(columns).to_csv(HERE / "charge.csv", index=False)
    known = [name for name in run if name.startswith(("ambient", "piece", "thermocouple_lag"))]
    given = {name: np.round(run[name].astype(float), 2).tolist() for name in known}
    lines = (f"{name}: {values}\n".replace("nan", "null") for name, values in given.items())
    write_text(HERE / "charge.yaml", "".join(lines))


def places(furnace: Any) -> dict[str, tuple[str, ...]]:
    """Return what the places of each field are called."""
    axes = {axis.name: axis.labels for axis in furnace.axes}
    return {field.name: axes[field.dims[-1]] for field in furnace.fields if field.dims}


def told(wear: float) -> tuple[Any, pandas.DataFrame, dict[str, np.ndarray]]:
    """Return the plant, the log, and the run; the lining begins as warm as it is read."""
    furnace = make_scenario("batch_furnace", 8, PLANT)
    log, given = pandas.read_csv(HERE / "charge.csv"), read_yaml(HERE / "charge.yaml")
    given["setpoint"] = log.filter(like="setpoint.")
    given["lining_temperature"] = log.filter(like="thermocouple_temperature.").iloc[0].mean()
    given["wear"] = wear
    run = {name: np.array(values, np.float32) for name, values in given.items()}
    return furnace, log, furnace.completed(run)


def check(wear: float = 0.0) -> dict[str, float]:
    """Print, and return, the root mean square of solved less read for each column of the log."""
    furnace, log, run = told(float(wear))
    solved, found = furnace.solve(run), {}
    for name in furnace.plant.sensors:
        for place, column in zip(places(furnace)[name], solved[name].T, strict=True):
            off = column - log[f"{name}.{place}"]
            found[f"{name}.{place}"] = float(np.sqrt(np.nanmean(off**2)))
            print(f"{f'{name}.{place}':36} {found[f'{name}.{place}']:.3g}")
    return found


def store(folder: Path | str, wear: float = 0.0) -> None:
    """Write what a model is given of the charge."""
    furnace, log, run = told(float(wear))
    arrays = {}
    for field in (field for field in furnace.fields if field.name in run):
        values = run[field.name][None]
        if field.role == "state":  # only its first frame is given
            values = np.full((1, len(log), *values.shape[1:]), np.nan, np.float32)
            values[:, 0] = run[field.name]
        arrays[field.name] = (("sample", *field.dims), values, {"units": field.units})
    points = {axis.name: (axis.name, axis.points, axis.flags) for axis in furnace.axes}
    xarray.Dataset(arrays, points).to_zarr(folder, consolidated=False)


if __name__ == "__main__":
    does: dict[str, Any] = {"make": make, "check": check, "store": store}
    does[sys.argv[1]](*sys.argv[2:])
