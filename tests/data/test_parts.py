"""Fields and readings of one dataset, as operators are given them."""

import json

import numpy as np
import pytest
import zarr

from mno.core.absent import Absent
from mno.core.config import dataset_name, model_subject
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.forecast import TaskConfig
from mno.core.readings import Layout, from_points, to_points
from mno.data.parts import seen
from mno.data.reading import Schema, Split
from mno.evaluation.equal_error import equal_error
from mno.nn.config import ModelConfig
from mno.registry.packaging import load_model, save_package
from mno.scenarios.base import make_scenario
from mno.scenarios.part import part_of
from mno.surrogate.predictions import predict_store
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.fit import train
from mno.training.problem import describe

FIELDS = (
    Field("porosity", "1", "porosity", "input", ("x",)),
    Field("setpoint", "K", "set-point", "input", ("time", "zone")),
    Field("ambient", "K", "ambient", "input", ()),
    Field("size", "m", "size", "input", ("piece",), gaps=True),
    Field("temperature", "K", "temperature", "state", ("time", "x")),
    Field("core", "K", "core", "state", ("time", "piece"), gaps=True),
    Field("loss", "J", "loss", "state", ("time",)),
    Field("ready", "s", "ready", "output", (), gaps=True),
)
LENGTHS = {"time": 4, "x": 5, "zone": 2, "piece": 3}
AXES = tuple(
    Axis(name, "1", name, np.arange(float(n)), (0.0, float(n))) for name, n in LENGTHS.items()
)


def split_of(samples=3, name="train", **lengths):
    rng, sizes = np.random.default_rng(0), LENGTHS | lengths
    axes = [
        Axis(name, "1", name, np.arange(float(n)), (0.0, float(n))) for name, n in sizes.items()
    ]
    fields = {
        f.name: rng.random((samples, *(sizes[d] for d in f.dims))).astype(np.float32)
        for f in FIELDS
    }
    fields["core"][:, :, 2] = np.nan
    fields["size"][:, 2] = np.nan
    return Split(name, Schema("made_up", FIELDS, tuple(axes)), fields, np.arange(samples))


def test_readings_are_points_and_come_back_as_they_were():
    split = split_of()
    points = seen(split, "readings")
    names = {field.name: field for field in points.schema.fields}
    assert set(names) == {"reading", "setpoint", "ambient", "size", "core", "loss"}
    assert names["core"].dims == ("time", "point") and names["loss"].dims == ("time", "point")
    assert points.fields["core"].shape == (3, 4, 6)  # two zones, three pieces, the plant
    assert np.isnan(points.fields["core"][..., :2]).all()
    np.testing.assert_array_equal(points.fields["core"][..., 2:5], split.fields["core"])
    np.testing.assert_array_equal(points.fields["loss"][..., 5], split.fields["loss"])
    back = from_points(points.schema.readings, points.fields)
    assert "reading" not in back
    for name, values in back.items():
        np.testing.assert_array_equal(values, split.fields[name])
    one = {name: split.fields[name][0] for name in ("core", "loss")}
    again = to_points(points.schema.readings, one, stacked=False)
    np.testing.assert_array_equal(again["core"], points.fields["core"][0])


def test_cells_are_points_behind_those_of_readings():
    split = split_of()
    both = seen(split, "both")
    assert both.schema.cells == (5,) and both.schema.grid[0].name == "x"
    assert both.fields["temperature"].shape == (3, 4, 11)
    assert np.isnan(both.fields["temperature"][..., :6]).all()
    np.testing.assert_array_equal(both.fields["porosity"][:, 6:], split.fields["porosity"])
    places = both.fields["place_1"]
    np.testing.assert_array_equal(places[0], [-1, -2, -3, -4, -5, -6, 0, 1, 2, 3, 4])
    back = from_points(both.schema.readings, both.fields, both.schema.cells)
    assert not {"place_1", "reading"} & set(back)
    for name, values in back.items():
        np.testing.assert_array_equal(values, split.fields[name])
    with pytest.raises(InputError, match=r"grid of \(4,\).* made for \(5,\)"):
        to_points(both.schema.readings, {"porosity": np.zeros((3, 4))}, both.schema.cells)


def test_fields_have_the_readings_that_are_given_as_numbers():
    split = split_of()
    grid = seen(split, "fields")
    numbers = [f"setpoint_{k}_{z}" for k in range(1, 5) for z in (1, 2)]
    names = [field.name for field in grid.schema.fields]
    assert names == ["porosity", "ambient", "temperature", *numbers]
    assert [axis.name for axis in grid.schema.axes] == ["time", "x"]
    np.testing.assert_array_equal(grid.fields["setpoint_3_2"], split.fields["setpoint"][:, 2, 1])


def test_readings_without_fields_in_space_are_not_both():
    fields = tuple(field for field in FIELDS if "x" not in field.dims)
    schema = Schema("made_up", fields, tuple(axis for axis in AXES if axis.name != "x"))
    values = {f.name: split_of().fields[f.name] for f in fields}
    with pytest.raises(InputError, match="has 0 grids.*set task.part=readings"):
        seen(Split("train", schema, values, np.arange(3)), "both")


@pytest.mark.parametrize(
    "model", [{"backbone": "plain", "mixer": ["mamba"]}, {"backbone": "latent", "cells": 4}]
)
def test_fields_listen_to_readings_by_attention_alone(model):
    split = seen(split_of(), "both")
    with pytest.raises(InputError, match=r"set model.backbone=plain and model.mixer=softmax"):
        describe(split, ModelConfig(**model), TaskConfig(part="both", scheme="horizon"))


@pytest.mark.parametrize("part", ["fields", "readings", "both"])
def test_no_samples_are_no_points(part):
    none = split_of().take(np.arange(0))
    found = seen(none, part)
    assert {len(array) for array in found.fields.values()} == {0}
    assert found.schema.fields == seen(split_of(), part).schema.fields


def test_what_has_no_readings_is_itself_and_is_asked_for_none():
    darcy = make_scenario("darcy", 16, {})
    assert part_of(darcy, "fields") is darcy
    with pytest.raises(InputError, match=r"task.part=readings, but darcy has no readings"):
        part_of(darcy, "readings")
    plain = Layout("fields", darcy.fields, darcy.axes)
    assert not plain.changes


def test_a_scenario_solves_for_its_readings_alone():
    whole = make_scenario("batch_furnace", 6, {"steps_per_frame": 2, "thermal_stress": True})
    readings = part_of(whole, "readings")
    given = readings.sample(np.random.default_rng(0))
    assert "conductivity" not in given and given["setpoint"].shape[1] == readings.layout.count
    solved = readings.solve(given)
    assert "stress" in solved
    expected = whole.solve(whole.sample(np.random.default_rng(0)))
    for name, (axis, first, last) in readings.layout.readings.items():
        if name in solved:
            own = solved[name][:, first:last] if axis else solved[name][:, first]
            np.testing.assert_array_equal(own, expected[name])
    with pytest.raises(InputError, match="ask for readings"):
        part_of(whole, "fields").solve(given)
    both = part_of(whole, "both")
    again = both.solve(both.sample(np.random.default_rng(0)))
    count = readings.layout.count
    np.testing.assert_array_equal(again["core_temperature"][:, :count], solved["core_temperature"])
    field = again["temperature"][:, count:].reshape(expected["temperature"].shape)
    np.testing.assert_array_equal(field, expected["temperature"])


@pytest.mark.parametrize("part", ["readings", "both"])
def test_they_are_compared_with_the_solver_and_predicted_as_the_dataset_has_them(tmp_path, part):
    whole = make_scenario("batch_furnace", 6, {"steps_per_frame": 6, "rays": 16})
    readings, draws = part_of(whole, part), [np.random.default_rng(n) for n in range(3)]
    made = [(given, readings.solve(given)) for given in map(readings.sample, draws)]
    fields = {
        f.name: np.stack([{**given, **solved}[f.name] for given, solved in made])
        for f in readings.fields
    }
    schema = Schema(
        "batch_furnace", readings.fields, readings.axes, parameters=whole.parameters.model_dump(),
        resolution=6, part=part, readings=readings.layout.readings, grid=readings.layout.grid,
    )  # fmt: skip
    split = Split("train", schema, fields, np.arange(3))
    model = ModelConfig(backbone="plain", mixer=["softmax"], width=8, layers=1, heads=2)
    description = describe(split, model, TaskConfig(part=part, scheme="horizon"))
    surrogate = Surrogate(description, description.build())
    assert description.part == part
    found = equal_error(surrogate, schema, 1.0, 60.0)
    assert not isinstance(found, Absent) and found["by"] == "settings"
    errors = [point["error"] for point in found["curve"]]
    assert len(errors) == 5 and errors[0] == max(errors) > errors[-1] > 0.0
    assert found["model"]["error"] > errors[0]  # it was not trained
    assert found["solver"]["how"] == "at_most"
    given = description.given(fields)
    told = from_points(schema.readings, given, schema.cells)
    answer = surrogate.predict(told)
    assert answer["core_temperature"].shape == (3, 24, 3)
    np.testing.assert_array_equal(
        answer["core_temperature"], surrogate.predict(given)["core_temperature"][..., 2:5]
    )

    (tmp_path / "candidate").mkdir()
    surrogate.save(tmp_path / "candidate")
    save_package(tmp_path / "candidate", given, tmp_path / "package")
    packaged = load_model(tmp_path / "package")
    shapes = {spec.name: spec.shape for spec in packaged.metadata.signature.inputs.inputs}
    assert shapes["core_temperature"] == (-1, 1, 3) and shapes["hall_loss"] == (-1, 1)
    assert shapes["setpoint"] == (-1, -1, 2) and not {"reading", "place_1"} & set(shapes)
    example = json.loads((tmp_path / "package/serving_input_example.json").read_text())["inputs"]
    assert set(example) == set(shapes)
    again = packaged.predict(example)["core_temperature"]
    np.testing.assert_allclose(again, answer["core_temperature"][:2], rtol=1e-5)

    group = zarr.create_group(tmp_path / "runs")
    for name, values in from_points(schema.readings, fields, schema.cells).items():
        group.create_array(name, data=values)
    predict_store(surrogate, tmp_path / "runs", tmp_path / "found", 2, lambda done, of: None)
    found = zarr.open_group(tmp_path / "found", mode="r")
    np.testing.assert_allclose(found["core_temperature"][:], answer["core_temperature"], rtol=1e-5)
    assert found["zone_energy"].metadata.dimension_names == ("sample", "time", "zone")
    assert found["hall_loss"].shape == (3, 24)
    if part == "readings":
        with pytest.raises(InputError, match="this one is of readings"):
            surrogate.predict(told, readings_alone=True)
        return
    assert found["temperature"].metadata.dimension_names == ("sample", "time", "x", "y", "z")
    assert shapes["temperature"] == (-1, 1, *schema.cells)
    np.testing.assert_allclose(found["temperature"][:], answer["temperature"], rtol=1e-5)
    without = {n: values for n, values in told.items() if n not in description.of_cells}
    for inputs in (told, without):
        alone = surrogate.predict(inputs, readings_alone=True)
        assert set(alone) == set(answer) - {"temperature"}
        for name, values in alone.items():
            np.testing.assert_allclose(values, answer[name], rtol=1e-4, equal_nan=True)


def test_models_of_readings_have_a_name_of_their_own():
    params = {"scenario": "batch_furnace", "task": {"part": "readings"}}
    assert model_subject(params) == "batch_furnace-readings"
    assert model_subject({**params, "task": {"part": "both"}}) == "batch_furnace-both"
    assert model_subject({**params, "task": {}}) == dataset_name(params) == "batch_furnace"
    own = {"scenario": "imported", "scenarios": {"imported": {"name": "plant"}}}
    assert model_subject(own) == "plant"


def test_a_model_of_readings_is_trained_further_on_a_plant_of_another_layout(tmp_path):
    model = ModelConfig(width=8, layers=1, mixer=["softmax"], heads=2)

    def trained(work, part, initial=None, **lengths):
        splits = (seen(split_of(name=n, **lengths), part) for n in ("train", "validation"))
        config = TrainConfig(epochs=1, batch_size=2)
        task = TaskConfig(part=part)
        return train(
            *splits, model=model, config=config, task=task, seed=0, work=tmp_path / work,
            initial=initial, quiet=True,
        )[0]  # fmt: skip

    first = trained("first", "readings")
    further = trained("further", "readings", first, zone=3, piece=4)
    assert further.description.readings["core"] == ("piece", 3, 7)
    assert further.description.normaliser == first.description.normaliser
    given = further.description.given(seen(split_of(zone=3, piece=4), "readings").fields)
    answer = further.predict(given)["core"]
    assert answer.shape[-1] == 8 and np.isfinite(answer[..., 3:7]).all()
    with pytest.raises(
        InputError, match=r"has shape \(3, 4, 3\); this model knows 2 of zone: give"
    ):
        to_points(first.description.readings, split_of(zone=3).fields)
    cells = trained("cells", "both")
    with pytest.raises(InputError, match=r"cells=\(5,\); expected cells=\(6,\)"):
        trained("other cells", "both", cells, x=6)
