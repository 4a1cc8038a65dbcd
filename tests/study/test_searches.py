"""Search files, the trials of a search in its database, what is written of them; one really run."""

import ast
import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from ruamel.yaml import YAML

from flows.params import edit_params
from mno.core.config import read_params, validate
from mno.core.errors import InputError, MnoError
from mno.core.files import file_sha256
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.store import seal
from mno.scenarios.batch_furnace import BatchFurnace, BatchFurnaceParameters
from mno.scenarios.darcy import Darcy, DarcyParameters
from mno.study.search_report import write_search_report
from mno.study.search_space import SearchSpec, at, default_params, search_digest, training_digest
from mno.study.trials import (
    DATABASE,
    Confirmation,
    Job,
    Outcome,
    Trials,
    preset_path,
    train_in_worker,
    write_preset,
)
from tests.support import furnace_runs
from tests.support.workspaces import end_processes_in, make_workspace

ROOT = Path(__file__).parents[2]
SPACE = {"train.learning_rate": {"type": "log", "low": 1e-4, "high": 1e-2}}


def spec_of(**changes):
    return SearchSpec.model_validate({"title": "A search", "space": SPACE, **changes})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title: [", "cannot be read as YAML"),
        ("[1, 2]", "expected a mapping"),
        ("title: A", "space is missing"),
        ("title: A\nspace: {}", "space"),
        ("title: A\nspace: {generate.samples: {type: int, low: 1, high: 2}}", "task|model|train"),
        ("title: A\nspace: {model.width: {low: 1, high: 2}}", "using discriminator 'type'"),
        ("title: A\nspace: {model.width: {type: int, low: 4, high: 2}}", "low <= high"),
        ("title: A\nspace: {train.ema_decay: {type: log, low: 0.0, high: 1.0}}", "low > 0"),
        ("title: A\nspace: {train.ema_decay: {type: float, low: 0.0, high: .inf}}", "finite"),
        (
            "title: A\nbase: {generate: {}}\n"
            "space: {train.loss: {type: choice, values: [h1, relative_l2]}}",
            "base.generate is not a parameter",
        ),
        ("title: A\ntrails: 3\nspace: {model.width: {type: int, low: 1, high: 2}}", "trails"),
        ("title: A\ntrials: 0\nspace: {model.width: {type: int, low: 1, high: 2}}", "trials=0"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, text, expected):
    path = tmp_path / "search.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        SearchSpec.read(path)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_search_that_is_not_there_is_named_with_those_that_are(tmp_path):
    (tmp_path / "studies/tune").mkdir(parents=True)
    (tmp_path / "studies/tune/own.yaml").write_text("")
    with pytest.raises(InputError, match="no search 'other'.*own"):
        SearchSpec.find(tmp_path, "other")


def test_the_searches_that_are_shipped_can_be_read():
    names = SearchSpec.names(ROOT)
    assert names
    for name in names:
        assert SearchSpec.read(SearchSpec.find(ROOT, name)).space


def test_a_search_starts_from_the_parameters_of_the_line_and_its_own():
    params = {"train": {"learning_rate": 1e-3, "warm_start": "models:/a/1#1"}, "model": {}}
    default = default_params(params, spec_of(base={"train": {"epochs": 3}}))
    assert default["train"] == {"learning_rate": 1e-3, "warm_start": None, "epochs": 3}
    assert params["train"]["warm_start"] == "models:/a/1#1"
    assert at(default, {"train.epochs": 4})["train"]["epochs"] == 4


@pytest.mark.parametrize(
    ("axis", "inside", "outside"),
    [
        ({"type": "int", "low": 2, "high": 6, "step": 2}, [2, 6], [3, 8, "a", None]),
        ({"type": "float", "low": 0, "high": 1}, [0, 0.5, 1.0], [1.5, "a", None]),
        ({"type": "choice", "values": [1, "a", True]}, [1, "a", True], [False, "b", None]),
    ],
)
def test_the_default_lies_in_the_space_or_is_said_not_to(tmp_path, axis, inside, outside):
    trials = Trials(tmp_path, "a", spec_of(space={"model.width": axis}))
    assert all(trials.first({"model.width": value}) for value in inside)
    assert not any(trials.first({"model.width": value}) for value in outside)


def test_a_search_is_told_apart_by_what_its_trials_depend_on():
    params = read_params(ROOT)

    def digest(data="data", **changes):
        spec = spec_of(**changes)
        return search_digest(ROOT, default_params(params, spec), spec, data)

    assert digest() == digest(trials=5, title="Another", confirm_seeds=1)
    others = [
        digest("other"), digest(seed=1), digest(limits={"parameters": 9}),
        digest(base={"train": {"epochs": 2}}),
        digest(space={"model.width": {"type": "int", "low": 1, "high": 2}}),
    ]  # fmt: skip
    assert len({digest(), *others}) == len(others) + 1
    assert training_digest(params, 0) != training_digest(params, 1)


@pytest.mark.parametrize("task", [{"part": "readings"}, {"part": "fields"}])
def test_a_trial_sees_a_plant_as_the_line_does(tmp_path, task):
    own = validate(BatchFurnaceParameters, furnace_runs.QUICK)
    split = {"train": 0.5, "validation": 0.25, "test": 0.25}
    config = GenerateConfig(
        samples=4, resolution=furnace_runs.RESOLUTION, shard_size=4, seed=0, split=split
    )
    generate(
        make_plan(BatchFurnace, own, config, "", ROOT), tmp_path / "work", tmp_path / "data",
        ExecutionConfig(workers=1),
    )  # fmt: skip
    params = read_params(ROOT)
    sections = {name: dict(params[name]) for name in ("task", "model", "train")}
    sections["task"] |= task
    sections["model"] |= {"width": 8, "layers": 1, "backbone": "plain", "path": "hilbert"}
    sections["train"] |= {"epochs": 1, "warm_start": None}
    job = Job(0, sections, 0, tmp_path / "fit", watched=False)
    outcome = train_in_worker(job, tmp_path / "data", tmp_path, "a", spec_of())
    assert (outcome.state, outcome.reason) == ("done", None)
    assert len(outcome.epochs) == 1


def test_a_preset_of_somebody_else_is_not_replaced(tmp_path):
    params = {"task": {}, "model": {"width": 8}, "train": {"weight_decay": 1e-5, "warm": None}}
    path = preset_path(tmp_path, "a")
    write_preset(path, "a", params, ["Trial 3."])
    assert YAML(typ="safe").load(path) == params
    assert preset_path(tmp_path, "a") == path  # its own
    path.write_text("model: {width: 8}\n")
    with pytest.raises(InputError, match="not written by this search.*rename"):
        preset_path(tmp_path, "a")


def test_no_way_leads_from_a_search_to_the_test_split():
    """Only `trials` reads data, and asks for two splits by name; `peers` is for studies alone."""
    asked, of_study = [], ROOT / "mno/study"
    of_searches = [path for path in sorted(of_study.glob("*.py")) if path.name != "peers.py"]
    for path in [*of_searches, ROOT / "flows/tune.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = {alias.name for alias in node.names}
                assert node.module != "mno.study.peers", path
                known = {"open_splits"} if path.name == "trials.py" else set()
                ways = {"open_split", "open_splits", "read_split", "zarr"}
                assert not names & ways - known, path
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open_splits":
                asked += [ast.literal_eval(name) for name in node.args[1:]]
    assert sorted(asked) == ["train", "validation"]


SPEC = SearchSpec.model_validate(
    {
        "title": "A search",
        "seed": 3,
        "space": {
            "train.learning_rate": {"type": "log", "low": 1e-4, "high": 1e-1},
            "model.width": {"type": "int", "low": 8, "high": 32, "step": 8},
            "train.loss": {"type": "choice", "values": ["relative_l2", "h1"]},
        },
    }
)


def error_at(point):
    return 0.1 + abs(point["train.learning_rate"] - 0.01) + 1 / point["model.width"]


def make(root, until, name="a"):
    trials = Trials(root, name, SPEC)
    while trials.begun < until:
        trial = trials.ask()
        trials.finish(trial.number, Outcome("done", error_at(trial.params), parameters=9))
    return trials


def points(trials):
    done = sorted(trials.done, key=lambda record: record.number)
    return [dict(record.point) for record in done]


def test_a_search_that_was_killed_tries_what_an_uninterrupted_one_tries(tmp_path):
    whole = make(tmp_path, 16, "whole")
    make(tmp_path, 12, "killed").ask()  # and its process is gone
    again = Trials(tmp_path, "killed", SPEC)
    assert again.take_up() == 1
    assert again.begun == 12
    resumed = make(tmp_path, 16, "killed")
    assert points(resumed) == points(whole)
    assert len({str(point) for point in points(whole)}) == 16
    states = [record.outcome.state for record in resumed.records]
    assert (states.count("broken"), states.count("done")) == (1, 16)


def test_a_trial_whose_process_is_lost_is_kept_and_the_search_goes_on(tmp_path):
    trials = Trials(tmp_path, "lost", SPEC)
    record = trials.finish(trials.ask().number, Outcome("broken", reason="killed"))
    assert (trials.begun, trials.done) == (1, [])
    assert record.outcome.reason == "killed"


def test_the_default_is_tried_first_and_known_as_such(tmp_path):
    trials = Trials(tmp_path, "first", SPEC)
    default = {"train.learning_rate": 0.01, "model.width": 16, "train.loss": "h1"}
    assert trials.first(default)
    trials.ask()
    assert trials.take_up() == 1
    made = make(tmp_path, 4, "first")
    records = [record for record in made.records if record.outcome.state == "done"]
    assert records[0].point == default
    assert [record.is_default for record in records] == [True, False, False, False]


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / DATABASE).write_text("no database, but text, and of some length at that")
    with pytest.raises(MnoError, match="is not a database of searches"):
        Trials(tmp_path, "a", SPEC)


def test_the_report_shows_the_comparison_and_all_trials(tmp_path):
    trials = make(tmp_path, 16)
    found = Confirmation({1: 0.1, 2: 0.11, 3: 0.09}, {1: 0.2, 2: 0.21, 3: 0.19})
    numbers = {"all": [], "said": found.sentence()}
    text = write_search_report(tmp_path, "a", trials, numbers).read_text()
    assert "the winner has a lower error than the default" in text
    assert "16 done" in text and text.count(" %</td>") >= 16
    assert 'src="http' not in text


@pytest.mark.parametrize(
    ("winner", "said"),
    [
        ({1: 0.10, 2: 0.20, 3: 0.30}, "no difference shown between the winner and the default"),
        ({1: 0.30, 2: 0.31, 3: 0.33}, "the winner has a higher error than the default"),
        ({1: 0.10, 2: 0.11, 3: 0.12}, "the winner has a lower error than the default, by 48%"),
        ({1: 0.10}, "one common seed does not tell"),
        ({}, "not compared"),
    ],
)
def test_the_comparison_says_plainly_what_it_shows(winner, said):
    assert said in Confirmation(winner, {1: 0.2, 2: 0.21, 3: 0.22}).sentence()


SEARCH = """\
title: A tiny search
trials: 3
space:
  train.learning_rate: {type: log, low: 0.001, high: 0.02}
  model.width: {type: choice, values: [8, 16, 24]}
base:
  train: {epochs: 2, threads: 1}
limits: {parameters: 12000}
confirm_seeds: 1
"""


def ruin_test_samples(data):
    """Make every number of the test split NaN, and the dataset whole again."""
    group = zarr.open_group(data, mode="r+")
    rows = np.flatnonzero(np.asarray(group["split"][:]) == "test")  # pyright: ignore
    assert len(rows)
    files = {}
    for name in ("permeability", "pressure"):
        array = group[name]
        values = np.asarray(array[:])  # pyright: ignore
        values[rows] = np.nan
        array[:] = values  # pyright: ignore
        shards = [path for path in (data / name / "c").rglob("*") if path.is_file()]
        files |= {str(path.relative_to(data)): file_sha256(path) for path in shards}
    seal(data, files)


@pytest.fixture
def searched(tmp_path):
    """A workspace with data, in which nothing else has been run."""
    made = make_workspace(tmp_path / "root")
    root = made.root
    params = edit_params(root, "quick", ["generate.samples=100"])
    plan = make_plan(Darcy, validate(DarcyParameters, {}), params.generate, code="", root=root)
    generate(plan, root / "build/work/a", root / "data", ExecutionConfig(workers=1))
    ruin_test_samples(root / "data")
    (root / "studies/tune/tiny.yaml").write_text(SEARCH)
    yield made
    end_processes_in(root)


def files_of_the_line(root):
    names = ("params.yaml", "dvc.lock", "data.dvc", "data/zarr.json")
    return {name: (root / name).read_bytes() for name in names}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_ends_in_a_preset_and_leaves_the_line_alone(searched):
    root = searched.root
    before = files_of_the_line(root)
    done = searched.mno("study", "tune", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["trials"]["all"] == 3
    assert answer["trials"]["refused"] + answer["trials"]["done"] == 3
    assert answer["left"] == 0
    assert not (root / "models").exists()
    assert files_of_the_line(root) == before

    best = answer["best"]
    preset = json.loads((root / "reports/tune/tiny/report.json").read_text())["preset"]
    assert answer["said"] in (root / preset).read_text()
    edit_params(root, "tuned-tiny", [])  # as mno run --preset tuned-tiny does
    params = read_params(root)
    assert params["train"]["learning_rate"] == best["point"]["train.learning_rate"]
    assert params["model"]["width"] == best["point"]["model.width"]
    assert params["train"]["epochs"] == 2
    (root / "params.yaml").write_bytes(before["params.yaml"])

    trials = json.loads((root / "reports/tune/tiny/report.json").read_text())["all"]
    assert len(trials) == 3
    assert [t["epochs"] for t in trials if t["trial"] == best["trial"]] == [2]
    assert min(t["error"] for t in trials if t["state"] == "done") == best["error"]


def finished_trials(root):
    try:
        with sqlite3.connect(f"file:{root / DATABASE}?mode=ro", uri=True) as connection:
            query = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
            return connection.execute(query).fetchone()[0]
    except sqlite3.Error:
        return 0


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(2400)
def test_a_killed_search_goes_on_and_finds_the_same(searched):
    root = searched.root
    (root / "studies/tune/tiny.yaml").write_text(SEARCH.replace("trials: 3", "trials: 8"))
    running = searched.start("study", "tune", "tiny")
    deadline = time.monotonic() + 900
    while finished_trials(root) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    done = searched.run(*searched.command(["study", "tune", "tiny", "--json"]), timeout=1200)
    assert done.returncode == 0, done.stderr
    resumed = json.loads(done.stdout)
    assert "goes on" in done.stderr
    (root / DATABASE).unlink()
    whole = searched.run(*searched.command(["study", "tune", "tiny", "--json"]), timeout=1200)
    answer = json.loads(whole.stdout)
    assert answer["best"]["point"] == resumed["best"]["point"]
    assert answer["best"]["error"] == resumed["best"]["error"]
    assert answer["confirmed"] == resumed["confirmed"]
