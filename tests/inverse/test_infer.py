"""Unknowns, readings and posteriors of Darcy flow: by a small model, and by the solver."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import scipy.special
import torch
import typer
import zarr
from typer.testing import CliRunner

from flows.inverse import infer as command
from mno.core.config import validate
from mno.core.distributions import Distribution
from mno.core.errors import InputError, MnoError
from mno.core.fields import LOG
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.reading import read_split
from mno.imports.mapping import Mapping
from mno.inverse.infer import Posterior, arviz, infer, rows_of
from mno.inverse.page import helpful
from mno.inverse.question import Question, Unknowns, read_observations
from mno.inverse.run import Run
from mno.inverse.solving import Solvers, solve_all, solvers
from mno.nn.config import ModelConfig
from mno.scenarios.batch_furnace import BatchFurnace, BatchFurnaceParameters
from mno.scenarios.darcy import Darcy, DarcyParameters
from mno.sensors.inputs import from_store
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig
from mno.training.fit import train
from tests.support import furnace_runs

SIDE, NOISE, RUN, HERE = 8, 0.002, 50, Solvers()
POINTS = [(1, 1), (3, 5), (6, 4), (4, 2)]
QUESTION = {"karhunen_loeve": {"permeability": 0.4}, "noise": {"pressure": NOISE}}


def silent(what, done, total):
    pass


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A dataset of smooth permeabilities, a small model of it, and readings of one of its runs."""
    root = tmp_path_factory.mktemp("inverse")
    parameters = validate(DarcyParameters, {"sampling": "lognormal"})
    split = {"train": 0.7, "validation": 0.2, "test": 0.1}
    config = GenerateConfig(samples=120, resolution=SIDE, shard_size=60, seed=0, split=split)
    plan = make_plan(Darcy, parameters, config, "")
    generate(plan, root / "work", root / "data", ExecutionConfig(workers=1))
    training, validation = (read_split(root / "data", name) for name in ("train", "validation"))
    surrogate, _ = train(
        training, validation, model=ModelConfig(width=16, layers=2),
        config=TrainConfig(epochs=25, batch_size=8, threads=1), seed=0, work=root / "fit",
        quiet=True,
    )  # fmt: skip
    (root / "model").mkdir()
    surrogate.save(root / "model")
    given = from_store(surrogate, root / "data", RUN).inputs["permeability"][0]
    pressure = Darcy(parameters, SIDE).solve({"permeability": given})["pressure"]
    rng = np.random.default_rng(0)
    rows = ["time,x,y,quantity,value"]
    for i, j in POINTS:
        value = pressure[i, j] + NOISE * rng.standard_normal()
        rows.append(f"0,{(i + 0.5) / SIDE},{(j + 0.5) / SIDE},pressure,{value}")
    (root / "readings.csv").write_text("\n".join(rows) + "\n")
    (root / "prior.yaml").write_text(json.dumps(QUESTION))
    return root, surrogate


def posterior_of(workspace, by=HERE, **changes):
    root, surrogate = workspace
    question = validate(Question, {**QUESTION, **changes})
    run = Run(surrogate, from_store(surrogate, root / "data", RUN))
    run.solvers = by
    observed = read_observations(root / "readings.csv", Mapping(), run, question.noise)
    return Posterior(run, Unknowns(question, run), observed)


def draw(posterior, count, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, posterior.unknowns.count, generator=rng, dtype=torch.float64)


def test_modes_vary_as_the_training_data_do(workspace):
    root, _ = workspace
    unknowns = posterior_of(workspace, karhunen_loeve={"permeability": 1.0}).unknowns
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((20000, unknowns.count)))
    drawn = unknowns(z)["permeability"].numpy()
    data = read_split(root / "data", "train").fields["permeability"]
    assert drawn.shape == (20000, SIDE, SIDE)
    assert np.allclose(drawn.mean(axis=0), data.mean(axis=0), atol=0.1 * data.std())
    assert np.allclose(drawn.std(axis=0), data.std(axis=0, ddof=1), rtol=0.05)
    assert posterior_of(workspace).unknowns.count < unknowns.count < len(data)


def test_what_is_predicted_is_what_the_model_predicts_where_sensors_are(workspace):
    _, surrogate = workspace
    posterior = posterior_of(workspace)
    z = draw(posterior, 3)
    fields = posterior.unknowns(z)["permeability"].numpy().astype(np.float32)
    expected = surrogate.predict({"permeability": fields})["pressure"]
    found = posterior.predicted(z).detach().numpy()
    assert np.allclose(found, [[one[at] for at in POINTS] for one in expected], rtol=1e-4)


def test_what_is_solved_is_what_the_solver_says_there(workspace):
    posterior = posterior_of(workspace)
    at = np.zeros(posterior.unknowns.count)
    given = posterior.unknowns(torch.from_numpy(at)[None])["permeability"][0].numpy()
    solver = Darcy(DarcyParameters(sampling="lognormal"), SIDE)
    solved = solver.solve({"permeability": given.astype(np.float32)})["pressure"]
    (found,) = posterior.solved(at[None])
    assert np.allclose(found, [solved[point] for point in POINTS], rtol=1e-6)
    apart = (found - posterior.observations.value) / NOISE
    assert posterior.exact(at[None])[0] == pytest.approx(-0.5 * (apart**2).sum(), rel=1e-6)


def test_a_sensor_between_points_reads_what_lies_between(workspace, tmp_path):
    root, surrogate = workspace
    (tmp_path / "one.csv").write_text(
        "time,x,y,quantity,value,uncertainty\n"
        + 2 * f"0,{2 / SIDE},{1.5 / SIDE},pressure,1.0,0.1\n"
        + "0,2.0,0.5,pressure,1.0,0.1\n"
    )  # one is read twice, one outside
    given = from_store(surrogate, root / "data", RUN)
    found = read_observations(tmp_path / "one.csv", Mapping(), Run(surrogate, given), {})
    assert (len(found.value), found.left_out, found.noise.tolist()) == (1, 2, [0.1])
    field = torch.arange(float(SIDE**2)).reshape(1, SIDE, SIDE)
    assert float(found.of({"pressure": field})) == pytest.approx(1.5 * SIDE + 1)


def test_a_table_is_read_as_its_mapping_says(workspace, tmp_path, monkeypatch):
    root, surrogate = workspace
    (tmp_path / "log.csv").write_text("time,x,y,quantity,value\n0,0.5,0.5,my gauge,50\n")
    rule = {"name": "pressure", "units": "1", "given_in": "percent"}
    mapping = Mapping.model_validate({"fields": {"my_gauge": rule}})
    run = Run(surrogate, from_store(surrogate, root / "data", RUN))
    found = read_observations(tmp_path / "log.csv", mapping, run, {"pressure": 0.1})
    assert found.value == pytest.approx([0.5]) and found.noise.tolist() == [0.1]
    monkeypatch.setattr("mno.inverse.question._MOST_READINGS", 3)
    with pytest.raises(InputError, match="4 readings; expected at most 3"):
        posterior_of(workspace)


def test_the_slope_of_a_likelihood_is_that_of_its_values(workspace):
    posterior, rng = posterior_of(workspace), np.random.default_rng(0)
    at = draw(posterior, 5 * posterior.unknowns.count)
    errors = 0.1 * rng.standard_normal((at.shape[1], len(POINTS)))
    errors = at.numpy() @ errors + 0.01 * rng.standard_normal((len(at), len(POINTS)))
    posterior.learn_error(errors, at, draw(posterior, 20))
    z = draw(posterior, 1).requires_grad_()
    (slope,) = torch.autograd.grad(posterior.likelihood(z).sum(), z)
    step = 1e-2 * torch.eye(posterior.unknowns.count, dtype=torch.float64)
    with torch.no_grad():
        ends = [posterior.likelihood(z + sign * step) for sign in (1, -1)]
    assert torch.allclose((ends[0] - ends[1]) / 2e-2, slope[0], rtol=0.02, atol=0.02)


def test_errors_become_noise(workspace):
    root, _ = workspace
    posterior = posterior_of(workspace)
    z = draw(posterior, 1)
    sharp = float(posterior.likelihood(z).detach())
    errors = posterior.errors_on(read_split(root / "data", "validation"))
    assert errors.shape == (24, len(POINTS))
    posterior.learn_error(errors, None, draw(posterior, 20))
    assert sharp < float(posterior.likelihood(z).detach()) < 0.0


def test_errors_that_go_with_the_unknowns_are_made_good(workspace):
    posterior = posterior_of(workspace)
    at, z = draw(posterior, 5 * posterior.unknowns.count), draw(posterior, 3)
    slopes = np.random.default_rng(0).standard_normal((at.shape[1], len(POINTS)))
    posterior.learn_error(0.3 + at.numpy() @ slopes, at, draw(posterior, 20))
    with torch.no_grad():
        apart = posterior.predicted(z).numpy() + 0.3 + z.numpy() @ slopes
        found = posterior.likelihood(z).numpy()
    apart = (apart - posterior.observations.value) / posterior.observations.noise
    assert found == pytest.approx(-0.5 * (apart**2).sum(axis=1), rel=1e-6)


def test_answers_are_as_far_off_as_they_say_though_errors_are_few_and_alike(workspace):
    """Errors that go along with one another, in place of what one is asked about, and few."""
    posterior = posterior_of(workspace, karhunen_loeve={"permeability": 0.2})
    rng = np.random.default_rng(0)
    shared = np.ones(len(POINTS)) + 0.3 * rng.standard_normal(len(POINTS))
    errors = 0.1 * rng.standard_normal((300, 1)) * shared
    errors += 0.01 * rng.standard_normal(errors.shape)
    posterior.learn_error(errors[:40], None, draw(posterior, 50))
    with torch.no_grad():
        moves = posterior.predicted(draw(posterior, 2)).numpy()
    weights = np.linalg.solve((posterior._root @ posterior._root.mT).numpy(), moves[1] - moves[0])
    said = weights @ (moves[1] - moves[0])  # inverse of the variance of the share that was moved
    apart = (errors[40:] - errors[:40].mean(0)) @ weights
    off = (apart**2).mean() + ((weights * NOISE) ** 2).sum()
    assert 0.4 < off / said < 1.6


def test_solved_chains_draw_the_solvers_posterior(workspace):
    """Of one unknown, against a quadrature of the solver's likelihood."""
    posterior = posterior_of(workspace, karhunen_loeve={"permeability": 0.2})
    assert posterior.unknowns.count == 1
    found = infer(posterior, None, 100, 1200, 0, silent)
    assert found.is_exact and 1100 < found.solves <= 1200 and found.has_converged
    grid = np.linspace(-4.0, 4.0, 161)
    logs = posterior.exact(grid[:, None]) - 0.5 * grid**2
    weights = np.exp(logs - logs.max())
    fields = posterior.unknowns(torch.from_numpy(grid)[:, None])["permeability"].numpy()
    mean = np.average(fields, weights=weights, axis=0)
    spread = np.sqrt(np.average((fields - mean) ** 2, weights=weights, axis=0))
    drawn = found.draws.posterior["permeability"].to_numpy().reshape(-1, SIDE, SIDE)
    assert (abs(drawn.mean(axis=0) - mean) < 4 * spread / np.sqrt(found.effective)).all()
    assert np.allclose(drawn.std(axis=0), spread, rtol=0.15)
    (row,) = rows_of(found)
    assert row["name"] == "permeability" and 0.0 < row["learned"] <= 1.0


def test_what_is_solved_does_not_depend_on_how_many_processes_solve(workspace):
    alone = posterior_of(workspace)
    z = draw(alone, 5)
    with solvers(2) as by:
        together = posterior_of(workspace, by)
        assert np.array_equal(together.exact(z.numpy()), alone.exact(z.numpy()))
        assert np.array_equal(together.errors_at(z)[0], alone.errors_at(z)[0])
        assert all(worker.is_running for worker in by.workers)
    assert not any(worker.is_running for worker in by.workers)


def test_a_process_that_is_lost_while_it_solves_is_one_line():
    with solvers(2) as workers, pytest.raises(MnoError, match="fewer --workers"):
        solve_all(Crashing(), [{}, {}], workers)


class Crashing:
    """A solver that takes its process along."""

    def completed(self, given):
        return given

    def solve(self, run):
        os._exit(1)


def test_what_was_solved_is_not_solved_again_until_all_is_done(workspace, tmp_path, monkeypatch):
    folder, z = tmp_path / "solved", np.zeros((1, 4))
    with pytest.raises(KeyboardInterrupt), solvers(1, folder) as by:
        posterior = posterior_of(workspace, by)
        first = posterior.exact(z)
        raise KeyboardInterrupt
    (kept,) = folder.iterdir()
    with np.load(kept) as arrays:
        (name,) = arrays.files
        np.savez(kept, **{name: arrays[name] + 1.0})
    with solvers(1, folder) as by:
        posterior = posterior_of(workspace, by)
        assert posterior.exact(z) != first  # as the file says
        posterior.exact(z + 0.1)
        assert len([*folder.iterdir()]) == 2
        monkeypatch.setattr("mno.inverse.solving._CODE", "corrected")
        assert posterior.exact(z) == first
    assert not folder.exists() and posterior_of(workspace).exact(z) == first


def workers_of(process):
    with suppress(psutil.NoSuchProcess):
        return [one for one in process.children() if "spawn_main" in " ".join(one.cmdline())]
    return []


@pytest.mark.parametrize("starting", [False, True])
def test_ctrl_c_leaves_no_process_behind(workspace, starting):
    root, _ = workspace
    call = "import typer; from flows.inverse import infer; typer.run(infer)"
    line = [sys.executable, "-c", call, *given(root)]
    line += ["--solves", "1000000", "--workers", "2", "--quiet"]
    asked = subprocess.Popen(line, start_new_session=True, stderr=subprocess.PIPE, text=True)
    here = psutil.Process(asked.pid)
    solved = root / "found/.solved"
    while not (workers_of(here) if starting else [*solved.glob("*.npz")]):
        assert asked.poll() is None, asked.communicate()[1]
        time.sleep(0.001)
    at_work = here.children(recursive=True)
    assert starting or len(at_work) == 3  # one tracks resources
    os.killpg(asked.pid, signal.SIGINT)
    said = asked.communicate(timeout=60)[1]
    assert said.strip() == "interrupted; what was solved is kept, run again to go on"
    assert asked.returncode == 130
    assert starting or [*solved.glob("*.npz")]
    assert not psutil.wait_procs(at_work, timeout=10)[1]


def given(root):
    asked = [root / "model", root / "readings.csv", "--prior", root / "prior.yaml"]
    asked += ["--inputs", root / "data", "--sample", RUN, "--output", root / "found"]
    return [str(part) for part in asked]


def asked(root, *options):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [*given(root), *map(str, options)])


def test_the_command_keeps_draws_that_arviz_reads(workspace):
    root, _ = workspace
    done = asked(root, "--json", "--draws", 1000)
    assert done.exit_code == 0, done.exception
    told = json.loads(done.stdout)
    assert told["converged"] and not told["exact"] and told["solves"] == 0
    assert told["readings"] == len(POINTS) and told["left_out"] == 0
    kept = arviz.from_netcdf(told["draws"])
    assert kept.posterior["permeability"].shape == (16, 1000, SIDE, SIDE)
    assert {"prior", "sample_stats", "observed_data"} <= set(kept.groups())
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "by the model alone" in page.lower() and "have not converged" not in page
    assert page.count("data:image/png") == 4  # the field, and the ranks, for page and telephone


def test_a_further_sensor_leaves_as_much_as_was_told(workspace, tmp_path):
    root, surrogate = workspace
    posterior = posterior_of(workspace)
    before = infer(posterior, None, 200, 0, 0, silent)
    places = helpful(posterior, before)
    left = [one["left"] for one in places]
    assert len(left) == SIDE**2 and left == sorted(left) and left[0] > 0.0 and left[-1] <= 1.0
    i, j = divmod(places[0]["place"], SIDE)
    x, y = (i + 0.5) / SIDE, (j + 0.5) / SIDE
    assert posterior.run.place_named("pressure", places[0]["place"]) == f"x {x:.3g}, y {y:.3g}"
    given = from_store(surrogate, root / "data", RUN)
    value = surrogate.predict(given.inputs)["pressure"][0, i, j]
    rows = (root / "readings.csv").read_text() + f"0,{x},{y},pressure,{value}\n"
    (tmp_path / "readings.csv").write_text(rows)
    observed = read_observations(
        tmp_path / "readings.csv", Mapping(), Run(surrogate, given), QUESTION["noise"]
    )
    more = Posterior(Run(surrogate, given), posterior.unknowns, observed)
    after = infer(more, None, 200, 0, 0, silent)
    ratio = after.z.var((0, 1)) / before.z.var((0, 1))
    assert ratio.mean() == pytest.approx(left[0], abs=0.15)  # it is reckoned as if linear
    assert ratio.mean() < 0.9


def test_chains_that_have_not_converged_are_called_so_and_kept(workspace):
    root, _ = workspace
    done = asked(root, "--solves", 60, "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == told["exit_code"] == 1 and not told["converged"]
    assert "have not converged" in told["error"] and "--solves" in told["error"]
    assert told["error"] in done.stderr
    kept = arviz.from_netcdf(root / "found/draws.nc")
    assert kept.posterior.sizes["chain"] == 4


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({}, "the unknowns are none; .*: permeability"),
        ({"unknown": {"porosity": {"uniform": [0.0, 1.0]}}}, "porosity"),
        (
            {"unknown": {"permeability": {"normal": [1.0, 1.0]}}, **QUESTION},
            "permeability, permeability; .* each once",
        ),
        ({"unknown": {"permeability": {"normal": [1.0, 1.0]}}}, "no uncertainty; add .*noise"),
        ({"unknown": {"permeability": {"normal": [1.0, -1.0]}}}, r"normal: \[1, -1\]"),
        ({"karhunen_loeve": {"permeability": 0.0}}, "karhunen_loeve"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_line(workspace, question, message):
    root, surrogate = workspace
    given = from_store(surrogate, root / "data", RUN)
    with pytest.raises(InputError, match=message) as refused:
        asked = validate(Question, question)
        run = Run(surrogate, given)
        Unknowns(asked, run)
        read_observations(root / "readings.csv", Mapping(), run, asked.noise)
    assert "\n" not in str(refused.value)


def test_what_may_be_zero_is_refused_of_an_input_whose_logarithm_is_taken(workspace):
    root, surrogate = workspace
    description = surrogate.description
    normaliser = replace(description.normaliser, scales={"permeability": LOG})
    of_logs = Surrogate(replace(description, normaliser=normaliser), surrogate.operator)
    run = Run(of_logs, from_store(surrogate, root / "data", RUN))
    for said, refused in (("normal", True), ("uniform", True), ("lognormal", False)):
        asked = validate(Question, {"unknown": {"permeability": {said: [0.0, 1.0]}}})
        with pytest.raises(InputError, match="takes its logarithm") if refused else nullcontext():
            Unknowns(asked, run)


def test_modes_of_another_grid_are_refused(workspace):
    root, surrogate = workspace
    finer = {"permeability": np.ones((1, 16, 16), np.float32)}
    with pytest.raises(InputError, match="on another grid than the run"):
        given = replace(from_store(surrogate, root / "data", RUN), inputs=finer)
        Unknowns(validate(Question, QUESTION), Run(surrogate, given))


def test_readings_of_nothing_that_is_predicted_are_refused(workspace, tmp_path):
    root, surrogate = workspace
    given = from_store(surrogate, root / "data", RUN)
    (tmp_path / "far.csv").write_text(
        "time,x,y,quantity,value,uncertainty\n0,5,5,pressure,1,0.1\n0,0.5,0.5,humidity,1,0.1\n"
    )
    with pytest.raises(InputError, match="none of 2 readings, of pressure, humidity, is of"):
        read_observations(tmp_path / "far.csv", Mapping(), Run(surrogate, given), {})


def test_numbers_of_a_distribution_are_distributed_so():
    z = torch.linspace(-3, 3, 7, dtype=torch.float64)

    def drawn(**said):
        return Distribution(**said).of_normal(z, torch.special.ndtr, torch.exp)

    flat = drawn(uniform=[2.0, 4.0])
    assert flat[3] == 3.0 and 2.0 < flat[0] < 2.01 and 3.99 < flat[-1] < 4.0
    assert float(drawn(loguniform=[0.01, 1.0])[3]) == pytest.approx(0.1)
    assert float(drawn(lognormal=[1.0, 0.5])[4].log()) == pytest.approx(1.5)


def test_readings_of_a_plant_are_solved_as_the_model_is_given_them(tmp_path):
    root = Path(__file__).parents[2]
    split = {"train": 0.5, "validation": 0.25, "test": 0.25}
    config = GenerateConfig(
        samples=4, resolution=furnace_runs.RESOLUTION, shard_size=4, seed=0, split=split
    )
    own = validate(BatchFurnaceParameters, furnace_runs.QUICK)
    plan = make_plan(BatchFurnace, own, config, "", root)
    generate(plan, tmp_path / "work", tmp_path / "data", ExecutionConfig(workers=1))
    data, run = zarr.open_group(tmp_path / "data", mode="r"), 2
    surrogate, _ = furnace_runs.trusted()
    place = surrogate.description.places("thermocouple_temperature")[1]
    time = float(data["time"][3])
    named = f"thermocouple_temperature.{place}"
    tables = [
        f"time,quantity,value,unit,uncertainty\n{time},{named},20,degC,2\n",
        f"time,quantity,sensor,value\n{time},thermocouple_temperature,{place},293.15\n",
        f"time,{named}\n{time},293.15\n",
    ]
    given = from_store(surrogate, tmp_path / "data", run)
    question = validate(Question, {"unknown": {"wear": {"uniform": [0.0, 0.05]}}})
    whole = Run(surrogate, given)
    for table in tables:
        (tmp_path / "log.csv").write_text(table)
        observed = read_observations(tmp_path / "log.csv", Mapping(), whole, {named: 2.0})
        assert observed.value == pytest.approx([293.15]) and observed.noise.tolist() == [2.0]
    posterior = Posterior(whole, Unknowns(question, whole), observed)
    wear = float(data["wear"][run])
    z = np.array([scipy.special.ndtri(wear / 0.05)])
    stored = float(data["thermocouple_temperature"][run, 3, 1])
    assert posterior.solved(z[None])[0] == pytest.approx([stored], rel=1e-5)
    assert float(posterior.predicted(torch.from_numpy(z)[None])) > 0.0


ANOTHER_WAS_FIRST = """
import pathlib

replace, noted = pathlib.Path.replace, []

def late(self, target):
    if not noted and "daily_warning" in self.name:
        noted.append(target)
        replace(self, target)
    return replace(self, target)

pathlib.Path.replace = late
import mno.inverse.infer
assert noted and mno.inverse.infer.arviz.__version__
"""


def test_two_processes_may_be_the_first_of_a_day(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", ANOTHER_WAS_FIRST], env=environment, check=True)
