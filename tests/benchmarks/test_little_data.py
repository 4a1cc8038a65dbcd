"""The studies of little data: solves that are paid for, cells that are kept, their tables."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.little_data import another_plant, another_problem, derivatives, fidelities, page
from benchmarks.little_data.cells import Cell, paid_for
from benchmarks.little_data.questions import QUESTIONS
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.data.reading import Schema, Split
from mno.nn.config import ModelConfig
from mno.scenarios.chamber.plant import Plant
from mno.surrogate.surrogate import Surrogate
from mno.training.problem import describe


@pytest.fixture
def pool():
    axis = Axis("x", "1", "x", np.arange(3.0), (0.0, 3.0))
    schema = Schema("rod", (Field("u", "1", "u", "output", ("x",)),), (axis,))
    values = np.arange(60, dtype=np.float32).reshape(20, 3)
    rates = {"u": values[:, None]}
    return Split("train", schema, {"u": values}, np.arange(20), rates)


def test_solves_are_parted_without_overlap_and_rates_go_with_them(pool):
    learned, chooses = paid_for(pool, 10, seed=0)
    assert (len(learned), len(chooses)) == (8, 2)
    assert not set(learned.indices) & set(chooses.indices)
    np.testing.assert_array_equal(learned.rates["u"][:, 0], learned.fields["u"])
    more = paid_for(pool, 20, seed=0)
    assert {*learned.indices, *chooses.indices} < {*more[0].indices, *more[1].indices}
    assert {*paid_for(pool, 10, seed=1)[0].indices} != {*learned.indices}


def test_derivatives_are_paid_for_in_solves():
    few = Cell(derivatives.QUESTION, "darcy_ring", derivatives.FEW, derivatives.WITH, 0)
    cost = derivatives.costs()["darcy_ring"]["solves"]
    count = derivatives.samples_of(few)
    assert 0.8 * count * cost + 0.2 * count == pytest.approx(derivatives.FEW, abs=cost)
    plain = Cell(derivatives.QUESTION, "darcy_ring", derivatives.FEW, derivatives.WITHOUT, 0)
    assert derivatives.samples_of(plain) == derivatives.FEW


@pytest.mark.parametrize("arm", fidelities.ARMS)
def test_whatever_is_bought_costs_as_many_seconds(arm):
    fine, coarse = fidelities.bought(Cell(fidelities.QUESTION, "car_bottom", 50, arm, 0))
    ratio = fidelities.costs()["car_bottom"]["ratio"]
    assert fine + coarse / ratio == pytest.approx(50, abs=0.1)


def test_a_model_of_both_is_told_how_each_sample_was_solved(pool):
    fine, coarse = fidelities._told(pool, 0.0), fidelities._told(pool.take(np.arange(3)), 1.0)
    joined = fidelities._joined(fine, coarse)
    assert [field.name for field in joined.schema.inputs] == ["fidelity"] and len(joined) == 23
    np.testing.assert_array_equal(joined.fields["fidelity"], [0.0] * 20 + [1.0] * 3)
    np.testing.assert_array_equal(joined.fields["u"][20:], pool.fields["u"][:3])


def test_a_cell_that_was_made_otherwise_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.little_data.cells.RESULTS", tmp_path)
    cell = Cell("plant", "relined", 25, "trained further", 0)
    cell.write({"steps": (1, 2)}, {"errors": [0.1]})
    assert cell.read({"steps": (1, 2)})["errors"] == [0.1]
    assert cell.read({"steps": (1, 3)}) is None


def test_the_other_furnaces_are_plants(tmp_path):
    for name in another_plant.OTHERS:
        another_plant.write_plant(tmp_path, name)
        plant = Plant.read(name, tmp_path)
        first = Plant.read("car_bottom", another_plant.ROOT)
        same = len(plant.zones) == len(first.zones)
        assert same == (len(plant.thermocouples) == len(first.thermocouples))
        assert plant.schedule == first.schedule


def _in_time(name, scalar, samples=2):
    axes = [Axis(n, "1", n, np.arange(8.0), (-0.5, 7.5)) for n in ("time", "x", "y")]
    fields = (
        Field(scalar, "1", scalar, "input", ()),
        Field(name, "1", name, "state", ("time", "x", "y")),
    )
    rng = np.random.default_rng(len(name))
    values = {scalar: rng.random(samples), name: rng.random((samples, 8, 8, 8))}
    split = Split(
        "train", Schema(name, fields, tuple(axes)),
        {n: v.astype(np.float32) for n, v in values.items()}, np.arange(samples),
    )  # fmt: skip
    return split, another_problem.on_the_grid(split)


def test_problems_in_time_are_from_their_first_frame_to_their_last():
    split, flat = _in_time("heat", "viscosity")
    assert [f.name for f in flat.schema.inputs] == ["viscosity", "heat"]
    np.testing.assert_array_equal(flat.fields["heat at the end"], split.fields["heat"][:, -1])
    np.testing.assert_array_equal(flat.fields["viscosity"][:, 3, 4], split.fields["viscosity"])


def test_a_field_of_several_problems_has_one_unit():
    one, other = _in_time("heat", "viscosity")[1], _in_time("depth", "viscosity")[1]
    first, *rest = other.schema.fields
    schema = replace(other.schema, fields=(replace(first, units="Pa s"), *rest))
    with pytest.raises(InputError, match=r"viscosity \[1\] and viscosity \[Pa s\] are one name"):
        another_problem.joined([one, replace(other, schema=schema)], "train")


def test_a_model_of_several_problems_gives_what_has_the_same_place():
    one, other = _in_time("heat", "viscosity")[1], _in_time("depth", "viscosity", 3)[1]
    both = another_problem.joined([one, other], "train")
    assert np.isnan(both.fields["depth"][:2]).all() and np.isnan(both.fields["heat"][2:]).all()
    np.testing.assert_array_equal(
        both.fields["depth at the end"][2:], other.fields["depth at the end"]
    )
    options = {**another_problem.MODEL, "width": 8, "layers": 2, "heads": 2, "patch": 2}
    model = ModelConfig.model_validate(options)
    source, fresh = (
        Surrogate(description, description.build())
        for split in (both, other)
        for description in [describe(split, model, another_problem.TASK)]
    )
    before = fresh.operator.state_dict()["lattice.local.0.weight"].clone()
    found, count = another_problem.given_on(source, fresh)
    theirs, ours = source.operator.state_dict(), found.operator.state_dict()
    assert 0.5 < count / found.num_parameters < 1
    np.testing.assert_array_equal(theirs["lattice.down.weight"], ours["lattice.down.weight"])
    inward = "lattice.local.0.weight"  # viscosity, depth, two axes; heat is not among ours
    inputs = list(source.description.inputs)
    for place, name in enumerate(found.description.inputs):
        np.testing.assert_array_equal(
            ours[inward][:, place], theirs[inward][:, 2 * inputs.index(name)]
        )
    assert not np.array_equal(before, ours[inward])


def test_the_page_is_that_of_the_cells():
    kept = {
        name: [found for cell in module.cells() if (found := cell.read(module.made_with(cell)))]
        for name, module in QUESTIONS.items()
    }
    text = page.PAGE.read_text(encoding="utf-8")
    for name, lines in page.parts(kept).items():
        assert f"<!-- {name} -->\n{lines}\n<!-- end of {name} -->" in text
