"""The report of a model of readings: the plant, curves of its places by name, what weighs most."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mno.core.bodies import Body
from mno.data.config import GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.reading import read_schema
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import evaluate, mean_fields
from mno.evaluation.influence import influence
from mno.evaluation.solver import solver_of
from mno.evaluation.trust import largest_errors
from mno.report.document import SECTIONS
from mno.report.language import Words
from mno.report.page import Results
from mno.report.readings import example_figures
from mno.report.scene import _seen, draw_scene
from tests.support.furnace_runs import furnace, runs, trusted

SPLIT = SplitConfig(train=0.5, validation=0.25, test=0.25)
PLACES = ["zone front", "zone rear", "thermocouple roof front", "thermocouple hearth"]


@pytest.fixture(scope="module")
def results():
    return results_of("readings")


def results_of(part):
    surrogate, trust = trusted(part)
    test, train = runs("test", 2, part=part), runs("train", 0, part=part)
    found = evaluate(surrogate, test, mean_fields(train), EvaluateConfig())
    middle = found.example("median")
    return Results(
        scenario="batch_furnace",
        schema=test.schema,
        evaluation=found,
        metrics=found.metrics(),
        influence=influence(surrogate, middle),
        bounds=largest_errors(trust, surrogate.description, found.examples),
        bodies=solver_of(test.schema).bodies(middle.inputs),
    )


def drawn(results, section, language="en"):
    found = SECTIONS[section](results, Words.of(language, section))
    return {figure.name: figure for figure in found.figures}


def said(results, section):
    return str(SECTIONS[section](results, Words.of("en", section)).body)


@pytest.fixture(scope="module")
def figures(results):
    return drawn(results, "figures")


def test_the_plant_is_drawn_with_the_pieces_of_the_median_run(results, figures):
    figure = drawn(results, "decision")["plant"]
    assert "plant" not in figures
    inputs = results.evaluation.example("median").inputs
    count = int(np.isfinite(inputs["piece_x"]).sum())
    told = re.findall(r"piece (\d) (\d+) K \((-?\d+) K predicted\)", figure.caption)
    assert [int(number) for number, *_ in told] == list(range(1, count + 1))
    wide, narrow = (Image.open(io.BytesIO(png)) for png in (figure.png, figure.narrow))
    assert wide.width > narrow.width
    assert len(np.unique(np.asarray(wide).reshape(-1, 3), axis=0)) > 100


def test_curves_are_called_by_the_plants_names_and_pieces_by_number(results, figures):
    for example in results.evaluation.examples[1:]:
        name = "_".join(["example", *example.ranks])
        assert all(place in figures[name].alt for place in (*PLACES, "whole plant"))
        assert "piece 1" in figures[f"{name}_numbered"].alt
        count = int(np.isfinite(example.inputs["piece_x"]).sum())
        assert f"piece {count + 1}" not in figures[f"{name}_numbered"].alt


def test_fields_are_drawn_in_space_beside_the_readings(figures):
    results = results_of("both")
    found = drawn(results, "figures")
    assert {*figures, "example_median_space"} <= set(found)
    assert "temperature" in found["example_median_space"].alt
    assert "set-point" not in found["example_median_space"].alt
    assert all(place in found["example_median"].alt for place in PLACES)
    weights = drawn(results, "explainability")["influence"]
    assert re.search(r"of x = \S+ m, y = \S+ m, z = \S+ m", weights.alt)


def test_bounds_are_drawn_where_there_are_any(results):
    example = results.evaluation.example("median")
    bounds = results.bounds[example.index]
    assert bounds["thermocouple_temperature"].shape == (24,)
    assert np.isfinite(bounds["thermocouple_temperature"]).all()
    with_, without = (
        next(example_figures(example, results.schema, given, "median", Words.of("en", "figures")))
        for given in (bounds, {})
    )
    assert with_.png != without.png


def test_what_weighs_most_is_named_by_field_and_place(results):
    figure = drawn(results, "explainability")["influence"]
    assert "set-point, zone" in figure.alt
    assert re.search(r"of zone (front|rear)", figure.alt)
    assert "points" not in said(results, "explainability")  # which readings are none of


def test_japanese_has_words_for_all_that_is_read(results):
    words = Words.of("ja")
    names = [field.long_name for field in results.schema.fields]
    assert [
        name for name in (*names, "zone", "piece", "thermocouple") if words.name(name) == name
    ] == []
    example = results.evaluation.example("median")
    words = Words.of("ja", "figures")
    assert "ゾーン front" in next(example_figures(example, results.schema, {}, "", words)).alt


def test_a_dataset_without_names_numbers_its_places(results):
    axes = tuple(replace(axis, labels=()) for axis in results.schema.axes)
    example, schema = results.evaluation.example("median"), replace(results.schema, axes=axes)
    (figure,) = example_figures(example, schema, {}, "median", Words.of("en", "figures"))
    assert "zone 2" in figure.alt and "thermocouple 4" in figure.alt and "piece 1" in figure.alt


def test_names_outlive_being_stored_and_may_be_missing(tmp_path):
    scenario = furnace()
    config = GenerateConfig(samples=4, resolution=8, shard_size=4, seed=0, split=SPLIT)
    plan = DatasetPlan(type(scenario), scenario.parameters, config, code="")
    plan.create_store(tmp_path / "data")
    root = json.loads((tmp_path / "data" / "zarr.json").read_text())
    root["attributes"]["shards"] = {}
    (tmp_path / "data" / "zarr.json").write_text(json.dumps(root))
    names = {axis.name: axis.labels for axis in read_schema(tmp_path / "data").axes}
    assert names["zone"] == ("front", "rear") and names["piece"] == ()
    assert names["thermocouple"] == ("roof_front", "roof_rear", "wall", "hearth")
    path = tmp_path / "data" / "zone" / "zarr.json"
    array = json.loads(path.read_text())
    del array["attributes"]["flag_meanings"], array["attributes"]["flag_values"]
    path.write_text(json.dumps(array))
    axes = read_schema(tmp_path / "data").axes
    assert next(axis for axis in axes if axis.name == "zone").labels == ()


def test_boxes_are_drawn_from_behind_and_none_hides_the_chamber():
    def box(kind, *corner):
        return Body(kind, kind, corner, (1.0, 1.0, 1.0))

    zone = Body("zone", "zone", (0.0, 0.0, 0.0), (5.0, 3.0, 5.0))
    near, far = box("piece", 0.0, 0.0, 2.0), box("piece", 3.0, 0.0, 2.5)
    stacked, aside = box("piece", 3.0, 1.0, 2.5), box("piece", 4.0, 0.0, 0.0)
    roof = Body("brick", "lining", (0.0, 3.0, 0.0), (5.0, 1.0, 5.0))
    floor = Body("brick", "lining", (0.0, -1.0, 0.0), (5.0, 1.0, 5.0))
    order = _seen([aside, near, stacked, zone, roof, far, floor])
    assert roof not in order and zone not in order and order[0] == floor
    assert order.index(far) < order.index(near) and order.index(far) < order.index(stacked)


def test_a_scene_without_readings_is_plain():
    zone = Body("zone", "zone", (0.0, 0.0, 0.0), (2.0, 1.0, 2.0))
    piece = Body("1", "piece", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    wide, narrow = draw_scene([zone, piece], {}, "temperature", {})
    assert wide.startswith(b"\x89PNG") and narrow.startswith(b"\x89PNG")
