"""Goals, searches by a model that the solver guards, and the solves as a new dataset version."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import zarr
from typer.testing import CliRunner

from flows.inverse import optimise as command
from mno.core.config import validate
from mno.core.errors import InputError
from mno.data.asked import write_asked
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.reading import read_split
from mno.inverse.goal import Goal, Wanted
from mno.inverse.optimise import optimise
from mno.inverse.run import Run
from mno.nn.config import ModelConfig
from mno.scenarios.batch_furnace import BatchFurnace, BatchFurnaceParameters
from mno.scenarios.darcy import Darcy, DarcyParameters
from mno.scenarios.part import PartOfScenario
from mno.sensors.inputs import from_store, read_whole
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.fit import train
from tests.support import furnace_runs

SIDE, RUN = 8, 50
ROOT = Path(__file__).parents[2]
EVEN = {"permeability": {"within": [4.0, 12.0], "alike": True}}
PARAMETERS = validate(DarcyParameters, {"sampling": "lognormal"})


def silent(what, done, total):
    pass


def darcy_plan(root, **changes):
    split = {"train": 0.7, "validation": 0.2, "test": 0.1}
    config = {"samples": 120, "resolution": SIDE, "shard_size": 60, "seed": 0, "split": split}
    return make_plan(Darcy, PARAMETERS, GenerateConfig(**{**config, **changes}), "", root)


def released(plan, root):
    return generate(plan, root / "work", root / "data", ExecutionConfig(workers=1))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A dataset of smooth permeabilities, and a small model of it."""
    root = tmp_path_factory.mktemp("optimum")
    released(darcy_plan(root), root)
    surrogate, _ = train(
        read_split(root / "data", "train"), read_split(root / "data", "validation"),
        model=ModelConfig(width=16, layers=2), seed=0, work=root / "fit", quiet=True,
        config=TrainConfig(epochs=25, batch_size=8, threads=1),
    )  # fmt: skip
    (root / "model").mkdir()
    surrogate.save(root / "model")
    return root, surrogate


def wanted_of(workspace, surrogate=None, **goal):
    root, trained = workspace
    surrogate = surrogate or trained
    run = Run(surrogate, from_store(surrogate, root / "data", RUN))
    return Wanted(validate(Goal, goal), run, 0)


def even(pressure):
    """Return the permeability, the same everywhere, at which the greatest pressure is this."""
    ones = np.ones((SIDE, SIDE), np.float32)
    return float(Darcy(PARAMETERS, SIDE).solve({"permeability": ones})["pressure"].max()) / pressure


def test_an_active_bound_is_found_and_held_as_the_solver_sees_it(workspace):
    limit = 0.008
    wanted = wanted_of(
        workspace, vary=EVEN, maximize={"of": "pressure"},
        subject_to=[{"of": "pressure", "at_most": limit}],
    )  # fmt: skip
    best = optimise(wanted, read_split(workspace[0] / "data", "train"), 12, 0, silent)
    assert best.worth.violation == 0.0 and best.solves <= 12
    (found,) = wanted.settings(best.x)["permeability"]
    assert even(limit) <= found == pytest.approx(even(limit), rel=0.01)
    assert wanted.missed(best.worth) == {"pressure": 0.0}
    assert float(best.worth.objective) == pytest.approx(float(best.promised.objective), rel=0.02)


def test_a_wrong_model_costs_solves_and_no_truth(workspace):
    root, surrogate = workspace
    description = surrogate.description
    off = replace(
        description.normaliser,
        std={
            n: s * (1.5 if n == "pressure" else 1.0) for n, s in description.normaliser.std.items()
        },
    )
    wrong = Surrogate(replace(description, normaliser=off), surrogate.operator)
    limit = 0.008
    goal = {
        "vary": EVEN, "maximize": {"of": "pressure"},
        "subject_to": [{"of": "pressure", "at_most": limit}],
    }  # fmt: skip
    wanted = wanted_of(workspace, wrong, **goal)
    believed = optimise(wanted, None, 0, 0, silent)
    assert not believed.tried
    (far,) = wanted.settings(believed.x)["permeability"]
    assert far > 1.1 * even(limit)  # what a model that says too much makes of it
    best = optimise(wanted, None, 12, 0, silent)
    (found,) = wanted.settings(best.x)["permeability"]
    assert best.worth.violation == 0.0
    assert found == pytest.approx(even(limit), rel=0.01)


def test_without_bounds_all_values_go_where_they_are_best(workspace):
    wanted = wanted_of(
        workspace, vary={"permeability": {"within": [3.0, 12.0]}}, minimize={"of": "pressure"}
    )
    assert wanted.count == SIDE**2
    best = optimise(wanted, None, 6, 0, silent)
    highest = np.full((SIDE, SIDE), 12.0, np.float32)
    least = Darcy(PARAMETERS, SIDE).solve({"permeability": highest})["pressure"].mean()
    assert float(best.worth.objective) == pytest.approx(least, rel=0.1)
    assert float(best.worth.objective) >= least * (1 - 1e-6)
    before = best.tried[1].solved
    assert before and float(best.worth.objective) < float(before.objective)


def test_the_model_that_was_asked_is_not_changed(workspace):
    before = {n: w.clone() for n, w in workspace[1].operator.state_dict().items()}
    wanted = wanted_of(workspace, vary=EVEN, minimize={"of": "pressure"})
    optimise(wanted, read_split(workspace[0] / "data", "train"), 4, 0, silent)
    after = workspace[1].operator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ({"vary": EVEN}, "either minimize or maximize"),
        ({"vary": {}, "minimize": {"of": "pressure"}}, "vary"),
        ({"vary": {"permeability": {"within": [2.0, 1.0]}}, "minimize": {"of": "pressure"}},
         "expected least and greatest"),
        ({"vary": EVEN, "minimize": {"of": "heat"}}, "the model predicts pressure"),
        ({"vary": {"heat": {"within": [1, 2]}}, "minimize": {"of": "pressure"}},
         "expected some of what the model is given: permeability"),
        ({"vary": EVEN, "minimize": {"of": "pressure", "at": 3.0}}, "has no times"),
        ({"vary": {"permeability": {"within": [1, 2], "times": [0, 1]}},
          "minimize": {"of": "pressure"}}, "no input over time"),
        ({"vary": EVEN, "minimize": {"of": "pressure"},
          "subject_to": [{"of": "pressure", "at_least": 2, "at_most": 1}]}, "the first below"),
        ({"vary": EVEN, "minimize": {"of": "pressure"},
          "uncertain": {"permeability": {"uniform": [1, 2]}}}, "set and uncertain"),
    ],
)  # fmt: skip
def test_goals_that_cannot_be_are_refused_in_one_line(workspace, goal, said):
    with pytest.raises(InputError, match=said):
        wanted_of(workspace, **goal)


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    """A few runs of a batch furnace, and a model that has learned nothing of them."""
    root = tmp_path_factory.mktemp("plant")
    split = {"train": 0.5, "validation": 0.25, "test": 0.25}
    config = GenerateConfig(
        samples=4, resolution=furnace_runs.RESOLUTION, shard_size=4, seed=0, split=split
    )
    own = validate(BatchFurnaceParameters, furnace_runs.QUICK)
    plan = make_plan(BatchFurnace, own, config, "", ROOT)
    released(plan, root)
    return root, furnace_runs.trusted()[0]


def test_settings_over_time_hold_for_every_member_of_a_plant(plant):
    root, surrogate = plant
    given = from_store(surrogate, root / "data", 1)
    goal = {
        "vary": {"setpoint": {"within": [500.0, 1500.0], "times": [0, 21600, 43200]}},
        "minimize": {"of": "zone_energy", "at": 43200, "take": "sum"},
        "subject_to": [{"of": "zone_temperature.front", "at": [36000, 43200], "at_least": 600.0}],
        "uncertain": {"wear": {"uniform": [0.0, 0.04]}},
        "members": 2,
    }
    wanted = Wanted(validate(Goal, goal), Run(surrogate, given), 0)
    assert wanted.count == 6  # three times in two zones
    x = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.2, 0.4], dtype=torch.float64)
    own = wanted.inputs(x)
    assert own["setpoint"].shape == (2, 25, 2) and own["wear"].shape == (2,)
    assert own["wear"][0] != own["wear"][1]
    assert own["setpoint"][0, [0, 6, 12, 24], 0].tolist() == [500.0, 1000.0, 1500.0, 700.0]
    best = optimise(wanted, None, 6, 0, silent)
    assert best.worth.violation == 0.0
    own = wanted.inputs(best.x)
    energies = []
    for member in range(2):
        (found,) = wanted.run.solved([{n: v[member].numpy() for n, v in own.items()}])
        assert found
        energies.append(float(found["zone_energy"][0, -1, :2].sum()))
        assert (found["zone_temperature"][0, -5:, 0] >= 600.0).all()
    assert float(best.worth.objective) == pytest.approx(np.mean(energies), rel=1e-6)
    many = {"setpoint": {"within": [500.0, 1500.0], "times": [*range(0, 43200, 200)]}}
    with pytest.raises(InputError, match="432 numbers may be set; expected 300 at most"):
        Wanted(validate(Goal, {**goal, "vary": many}), Run(surrogate, given), 0)
    set_to, drawn = {"within": [0.1, 0.5]}, {"uniform": [0.1, 0.5]}
    for changes in ({"vary": {"piece_width": set_to}}, {"uncertain": {"piece_width": drawn}}):
        with pytest.raises(InputError, match="piece_width has places without a value in this run"):
            Wanted(validate(Goal, {**goal, **changes}), Run(surrogate, given), 0)
    none = {"subject_to": [{"of": "core_temperature.4", "at_least": 1.0}], "uncertain": {}}
    with pytest.raises(InputError, match="its places are 1, 2, 3"):
        Wanted(validate(Goal, {**goal, **none}), Run(surrogate, given), 0)
    late = {"minimize": {"of": "zone_energy", "at": 50000}}
    with pytest.raises(InputError, match="expected a time, or two in order, from 1800 to 43200"):
        Wanted(validate(Goal, {**goal, **late}), Run(surrogate, given), 0)


def test_a_plant_that_was_changed_since_is_no_solver(plant, tmp_path, monkeypatch):
    root, surrogate = plant
    given = from_store(surrogate, root / "data", 1)
    said = (ROOT / "plants/car_bottom.yaml").read_text(encoding="utf-8")
    (tmp_path / "plants").mkdir()
    monkeypatch.chdir(tmp_path)
    for power, is_same in (("6.0e+5", True), ("3.0e+5", False)):
        text = "# a comment\n" + said.replace("power: 6.0e+5", f"power: {power}")
        (tmp_path / "plants/car_bottom.yaml").write_text(text, encoding="utf-8")
        assert isinstance(Run(surrogate, given).solver, PartOfScenario) is is_same
    goal = {"vary": {"wear": {"within": [0.0, 0.04]}}, "minimize": {"of": "hall_loss"}}
    wanted = Wanted(validate(Goal, goal), Run(surrogate, given), 0)
    with pytest.raises(InputError, match="car_bottom.yaml is another plant .* say --solves 0"):
        optimise(wanted, None, 3, 0, silent)


def test_a_number_may_be_set(plant):
    root, surrogate = plant
    goal = {
        "vary": {"wear": {"within": [0.0, 0.04]}},
        "minimize": {"of": "stored_heat", "at": 43200, "take": "sum"},
        "subject_to": [{"of": "core_temperature", "at": 36000, "at_least": 3000.0}],
    }
    wanted = Wanted(
        validate(Goal, goal), Run(surrogate, from_store(surrogate, root / "data", 1)), 0
    )
    data = zarr.open_group(root / "data", mode="r")
    own = float(np.asarray(data["wear"][1]))
    assert wanted.settings(wanted.nearest()) == {"wear": [pytest.approx(own, rel=1e-5)]}
    best = optimise(wanted, None, 3, 0, silent)
    assert best.solves == 3 and wanted.missed(best.worth)["core_temperature"] > 1000.0
    over_time = {"uncertain": {"setpoint": {"normal": [900.0, 10.0]}}, "members": 2}
    given = Wanted(validate(Goal, {**goal, **over_time}), wanted.run, 0).inputs(best.x)["setpoint"]
    assert given.shape == (2, 25, 2)
    assert all(wanted.run.solved([{"setpoint": one.numpy()} for one in given]))


def asked(root, monkeypatch, goal, *options):
    monkeypatch.chdir(root)
    (root / "goal.yaml").write_text(json.dumps(goal))
    app = typer.Typer()
    app.command()(command)
    arguments = ["model", "goal.yaml", "--inputs", "data", "--sample", str(RUN), *options]
    return CliRunner().invoke(app, arguments)


def test_what_was_solved_becomes_a_version_of_the_dataset(workspace, tmp_path, monkeypatch):
    goal = {"vary": EVEN, "minimize": {"of": "pressure"}}
    done = asked(workspace[0], monkeypatch, goal, "--solves", "3", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["solves"] == 2 and told["value"] <= told["before"]
    kept = json.loads((workspace[0] / "reports/optimum/optimum.json").read_text())
    assert kept["goal"] == goal and kept["set"] == told["set"]
    plan = darcy_plan(workspace[0], asked=told["asked"])
    report = released(plan, tmp_path)
    assert report.samples == 122
    old, new = (zarr.open_group(r / "data", mode="r") for r in (workspace[0], tmp_path))
    assert np.array_equal(new["pressure"][:120], old["pressure"][:])
    assert new["split"][:120].tolist() == old["split"][:].tolist()
    trained_on = read_split(tmp_path / "data", "train").indices.tolist()
    assert trained_on[-2:] == [120, 121]
    assert len(np.unique(new["permeability"][120])) == 1
    assert json.loads(new.attrs["question"])["minimize"] == {"of": "pressure"}
    path = workspace[0] / "build/asked" / f"{told['asked']}.npz"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match="missing or altered"):
        make_plan(Darcy, PARAMETERS, plan.config, "", workspace[0]).samples  # noqa: B018
    path.write_bytes(content)
    with pytest.raises(InputError, match="other inputs than darcy"):
        darcy_plan(workspace[0], asked=told["asked"], resolution=16).samples  # noqa: B018


def test_the_run_itself_is_not_asked_for_again(workspace, tmp_path, monkeypatch):
    goal = {"vary": {"permeability": {"within": [1e-3, 100.0]}}, "minimize": {"of": "pressure"}}
    done = asked(workspace[0], monkeypatch, goal, "--solves", "2", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["solves"] == 2
    assert released(darcy_plan(workspace[0], asked=told["asked"]), tmp_path).samples == 121
    known = read_whole(from_store(workspace[1], workspace[0] / "data", RUN).origin)
    assert write_asked(tmp_path, {n: a[None] for n, a in known.items()}, "", known) is None


def test_a_goal_that_nothing_meets_says_by_how_much(workspace, monkeypatch):
    goal = {
        "vary": EVEN, "minimize": {"of": "pressure"},
        "subject_to": [{"of": "pressure", "at_least": 1.0}],
    }  # fmt: skip
    done = asked(workspace[0], monkeypatch, goal, "--solves", "2")
    assert done.exit_code == 1 and "misses its bound" in done.stderr
    assert "pressure: misses its bound by 0.99" in done.stdout
