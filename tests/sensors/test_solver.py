"""Model and solver of a run that was solved, against sensors in it: real data, solvers, models."""

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import xarray
import zarr
from plant_runs import dataset, readings_of, untrained

from mno.core.errors import InputError, MnoError
from mno.sensors.compare import compare_with_readings
from mno.sensors.inputs import from_store
from mno.sensors.page import write_comparison
from mno.surrogate.surrogate import Surrogate

SAMPLE = 3
SMALL = {
    "furnace": (24, {"frames": 5, "steps_per_frame": 2, "thinnest_wall": 0.25}),
    "darcy": (16, {}),
    "darcy_ring": (16, {}),
    "diffusion_reaction": (16, {"frames": 4, "duration": 0.4}),
}


class Run(NamedTuple):
    store: Path
    surrogate: Surrogate

    def given(self, store=None):
        return from_store(self.surrogate, store or self.store, SAMPLE)

    def readings(self, folder):
        """Return readings, at some points and all frames, of what is stored."""
        whole = xarray.open_zarr(self.store).isel(sample=SAMPLE)
        rng, table = np.random.default_rng(0), []
        for name, units in self.surrogate.description.outputs.items():
            field = whole[name]
            size = {dim: n for dim, n in field.sizes.items() if dim != "time"}
            for sensor in range(6):
                at = field.isel({dim: int(rng.integers(n)) for dim, n in size.items()})
                for values in at.transpose("time", ...) if "time" in at.dims else [at]:
                    t = float(values["time"]) if "time" in values.coords else 0.0
                    x, y = float(values["x"]), float(values["y"])
                    table.append([t, f"{name}-{sensor}", x, y, name, float(values), units, None])
        return readings_of(folder, table)

    def compared(self, folder, store=None):
        return compare_with_readings(self.surrogate, self.given(store), self.readings(folder))


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    @cache
    def make(scenario):
        resolution, parameters = SMALL[scenario]
        store = dataset(tmp_path_factory.mktemp(scenario), scenario, resolution, parameters)
        return Run(store, untrained(store))

    return make


@pytest.fixture(scope="module")
def furnace(make_run):
    return make_run("furnace")


@pytest.mark.parametrize("scenario", list(SMALL))
def test_a_solver_has_no_error_on_its_own_solution_at_its_own_points(make_run, tmp_path, scenario):
    run = make_run(scenario)
    comparison, description = run.compared(tmp_path), run.surrogate.description
    assert comparison.solver_missing == ""
    frames = 1 if description.forecast is None else description.forecast.steps
    assert len(comparison.pairs) == 6 * len(description.outputs) * frames
    for scores in comparison.quantities:
        assert scores.solver["relative_l2"].value < 1e-6
        assert scores.model["relative_l2"].value > 1e-3
        assert scores.difference["rmse"].value == pytest.approx(
            scores.model["rmse"].value, rel=1e-3
        )


def test_the_model_is_what_it_predicts_at_the_points_of_sensors(furnace, tmp_path):
    pairs, given = furnace.compared(tmp_path).pairs, furnace.given()
    predicted = furnace.surrogate.predict(given.inputs)["temperature"][0]
    times = xarray.open_zarr(furnace.store)["time"].values[1:]
    points = given.axes[0].points
    for row in range(len(pairs)):
        x, y = pairs.series[pairs.of[row]].place
        frame = np.argmin(abs(times - pairs.time[row]))
        value = predicted[frame, np.argmin(abs(points - x)), np.argmin(abs(points - y))]
        assert pairs.model[row] == pytest.approx(value, rel=1e-6)


def noisy(furnace, folder):
    readings = furnace.readings(folder)
    noise = np.random.default_rng(1).normal(size=len(readings))
    read = replace(
        readings, value=readings.value + 5 * noise, uncertainty=np.full(len(readings), 5.0)
    )
    facts = {"model": "a <model>", "readings": "sensors.csv"}
    return compare_with_readings(furnace.surrogate, furnace.given(), read, facts=facts)


def test_the_page_is_complete_in_itself_and_its_numbers_lie_beside_it(furnace, tmp_path):
    comparison = noisy(furnace, tmp_path)
    folder = tmp_path / "reports" / "against"
    folder.mkdir(parents=True)
    (folder / "series_flow_worst.png").write_bytes(b"of an earlier comparison")
    html = write_comparison(comparison, folder).read_text(encoding="utf-8")
    assert {path.name for path in folder.iterdir()} == {
        *("index.html", "comparison.json"),
        *("parity_temperature.png", "series_temperature_worst.png"),
    }
    assert "http" not in html.replace("http-equiv", "") and "<model>" not in html
    assert html.count("<img") == 2 == html.count('src="data:image/png')
    for shown in ("RMSE in uncertainties", "Model less solver", "temperature-3", "is worse"):
        assert shown in html
    numbers = json.loads((folder / "comparison.json").read_text())
    assert numbers == json.loads(json.dumps(comparison.to_dict()))
    solver = numbers["quantities"]["temperature"]["solver"]
    assert solver["rmse_in_uncertainties"]["value"] == pytest.approx(1.0, abs=0.35)
    assert numbers["quantities"]["temperature"]["told_apart"] is True


def test_the_same_comparison_gives_the_same_bytes(furnace, tmp_path):
    pages = [
        write_comparison(noisy(furnace, tmp_path), tmp_path / name).read_bytes() for name in "ab"
    ]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("elsewhere", {"scenario": "darcy"}, "holds samples of darcy, but the model is of furnace"),
        ("coarse", {"generate": {"resolution": 28}}, "works on other points"),
        ("broken", {"parameters": {"frames": "many"}}, "cannot solve"),
        ("bare", {"generate": {}}, "does not record the parameters and the resolution"),
    ],
)
def test_where_nothing_can_be_solved_it_is_said_why(furnace, tmp_path, name, change, why):
    copy = furnace.store.with_name(name)
    shutil.copytree(furnace.store, copy)
    zarr.open_group(copy, mode="r+").attrs.update(change)
    comparison = furnace.compared(tmp_path, copy)
    assert why in comparison.solver_missing and comparison.pairs.solver is None
    assert comparison.quantities[0].solver is None
    assert why in write_comparison(comparison, tmp_path / "page").read_text(encoding="utf-8")


def test_a_store_of_inputs_alone_is_enough_for_the_model(furnace, tmp_path):
    surrogate, whole = furnace.surrogate, furnace.given()
    group = zarr.create_group(tmp_path / "inputs")
    for name, values in whole.inputs.items():
        group.create_array(name, data=values)
    given = from_store(surrogate, tmp_path / "inputs", None)
    side = surrogate.description.extent[0]
    assert [axis.extent for axis in given.axes] == [pytest.approx((0.0, side))] * 2
    np.testing.assert_allclose(given.axes[0].points, whole.axes[0].points, rtol=1e-6)
    readings = furnace.readings(tmp_path)
    ours, known = (compare_with_readings(surrogate, g, readings) for g in (given, whole))
    assert "does not record" in ours.solver_missing
    np.testing.assert_allclose(ours.pairs.model, known.pairs.model, rtol=1e-5)


def test_which_sample_must_be_said_where_there_are_several(furnace):
    store, surrogate = furnace
    with pytest.raises(
        InputError, match="holds 4 samples; say which .* --sample NUMBER, from 0 to 3"
    ):
        from_store(surrogate, store, None)
    with pytest.raises(InputError, match="--sample 4: .* holds 4 samples"):
        from_store(surrogate, store, 4)


def test_a_damaged_sample_is_not_compared(furnace, tmp_path):
    store, surrogate = furnace
    copy = tmp_path / "damaged"
    shutil.copytree(store, copy)
    shard = copy / "power/c/1/0/0/0"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    from_store(surrogate, copy, 0)  # of another shard
    with pytest.raises(MnoError, match="power/c/1/0/0/0 is missing or altered"):
        from_store(surrogate, copy, SAMPLE)


def test_what_is_no_store_is_refused(furnace, tmp_path):
    with pytest.raises(InputError, match="--inputs"):
        from_store(furnace[1], tmp_path / "nothing", 0)
