"""Cells of a study: their order, what makes them stale, what is kept; a tiny one, really run."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace

import mlflow
import pytest
import yaml
from study_records import ROOT, cells, found_with, keep, record, spec

from flows.study import load_study
from mno.core.config import read_params
from mno.core.errors import InputError, MnoError
from mno.core.files import json_sha256
from mno.core.imports import TRACKED
from mno.nn.config import ModelConfig
from mno.study.design import StudySpec, cells_of
from mno.study.findings import usable
from mno.study.operators import times_in_turn
from mno.study.results import (
    EQUIVALENCES,
    Code,
    Results,
    expected_seconds,
    identify_peers,
    steps_of_epoch,
    to_make,
)
from tests.support.workspaces import end_processes_in, make_workspace


def found_in(folder, errors):
    """Cells of the small study, some of which are finished with an error."""
    return found_with(folder, lambda c: record(errors[c.name]) if c.name in errors else None)


def names(found):
    return [item.cell.name for item in to_make(found)]


def test_every_model_comes_once_before_any_comes_twice(tmp_path):
    order = names(found_in(tmp_path, {}))
    assert len(order) == 12
    assert order[:4] == [
        "darcy--plain-axial--0", "darcy--plain-softmax--0",
        "burgers--plain-axial--0", "burgers--plain-softmax--0",
    ]  # fmt: skip
    assert all(name.endswith("--2") for name in order[8:])


def test_a_hole_is_filled_first(tmp_path):
    finished = {f"{s}--plain-{m}--{n}": 0.1 for s in ("darcy", "burgers")
                for m in ("axial", "softmax") for n in (0, 1)}  # fmt: skip
    del finished["burgers--plain-axial--0"]
    order = names(found_in(tmp_path, finished))
    assert order[:2] == ["burgers--plain-axial--0", "darcy--plain-axial--2"]


def test_a_cell_takes_as_long_as_those_like_it(tmp_path):
    none = found_in(tmp_path, {})
    assert expected_seconds(none, none) is None
    found = found_in(tmp_path, {"darcy--plain-axial--0": 0.1})
    assert expected_seconds(to_make(found), found) == pytest.approx(11 * 30)


def test_nothing_that_is_written_in_params_yaml_changes_a_cell():
    study = spec(base={"generate": {"samples": 80, "resolution": 16}, "train": {"epochs": 3}})
    (cell, *_) = cells_of("small", study)
    assert cell.params["train"]["epochs"] == 3
    assert cell.params["model"]["layers"] == 4  # the default of the code
    assert cell.params["scenarios"] == {"darcy": {}}


def test_a_cell_has_every_parameter_that_a_stage_reads():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    read = {name for stage in stages.values() for name in stage["params"]}
    (cell, *_) = cells()
    assert {name.partition(".")[0] for name in read} <= set(cell.params)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seeds: [0, 0]", "lists one twice"),
        ("mixers: {}", "give both"),
        ("compare: nobody", "must be backbone, all, or a model"),
        ("base: {modle: {}}", "base.modle is not a parameter"),
        ("surprise: 1", "surprise is not a parameter"),
        ("scenarios: {Bad Name: {}}", "'Bad Name' String should match"),
        ("title: [", "cannot be read as YAML"),
        ("tuning: {seconds: 9, trials: [{rate: 1}]}", "rate is not a parameter"),
        ("tuning: {seconds: 9, trials: [{learning_rate: -1}]}", "learning_rate"),
        ("tuning: {seconds: 9, trials: [{epochs: 3}]}", "which all have alike"),
        ("peers: [nobody]", "peers"),
    ],
)
def test_a_study_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, change, said):
    key = change.partition(":")[0]
    given = {
        "title": "title: T", "seeds": "seeds: [0]", "scenarios": "scenarios: {darcy: {}}",
        "backbones": "backbones: {plain: {}}", "mixers": "mixers: {axial: {}}",
    }  # fmt: skip
    path = tmp_path / "bad.yaml"
    path.write_text("\n".join((given | {key: change}).values()))
    with pytest.raises(InputError) as error:
        StudySpec.read(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_shipped_studies_can_be_read():
    assert {"ablation", "at_equal_parameters", "data", "paper"} <= set(StudySpec.names(ROOT))
    for name in StudySpec.names(ROOT):
        study = StudySpec.read(ROOT / f"studies/{name}.yaml")
        assert len(study.seeds) >= 3
        assert len({cell.name for cell in cells_of(name, study)}) == len(cells_of(name, study))


@pytest.mark.parametrize("name", StudySpec.names(ROOT))
def test_every_cell_of_a_shipped_study_can_be_made_at_its_size(name):
    study = load_study(name, ROOT)
    assert len(study.cells) == len(cells_of(name, study.spec))
    if study.results.folder.exists():  # so that what is committed can be reported
        code, peers = Code(ROOT), list(study.results.folder.glob("peers/*.json"))
        assert usable(study.found(code), code.equivalent)
        assert len(usable(study.peers(code), code.equivalent)) == len(peers)


def test_peers_are_known_by_what_code_of_fewer_options_kept_them_by():
    cell = cells_of("small", spec(peers=["mean"]))[0]
    of = {"code": Code(ROOT), "spec": spec(peers=["mean"]), "datasets": {}}
    scales = cell.params["train"]["scales"]
    tasks = (
        cell.params["task"],
        {k: cell.params["task"][k] for k in ("history", "scheme", "predict")},
    )
    full, older = (json_sha256([["mean"], task, scales]) for task in tasks)
    for kept in (full, older):
        assert identify_peers(cell, **of, known=kept).params == kept
    assert identify_peers(cell, **of, known="another").params == identify_peers(cell, **of).params
    changed = replace(cell, params={**cell.params, "task": {**cell.params["task"], "skip": 1}})
    assert identify_peers(changed, **of, known=full).params != full


FIRST = "darcy--plain-axial--0"


@pytest.fixture
def workspace(tmp_path):
    """The code of the project, which a test may change, and finished cells."""
    for name in TRACKED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    results, code = Results(tmp_path, "small"), Code(tmp_path)
    for cell in cells():
        keep(results, cell, code, record(0.1))
    return tmp_path


def states(root, these=None):
    found = Results(root, "small").find(these or cells(), Code(root))
    return {item.cell.name: f"{item.state} {item.reason}".strip() for item in found}


def change(path):
    path.write_text(path.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")


def stale(root):
    return {name for name, state in states(root).items() if state.startswith("stale")}


def test_nothing_changed_means_nothing_is_stale(workspace):
    assert set(states(workspace).values()) == {"fresh"}


def test_changed_parameters_make_their_cells_stale(workspace):
    changed = cells(mixers={"axial": {}, "softmax": {"mixer": "softmax", "layers": 3}})
    found = states(workspace, changed)
    assert {n for n, s in found.items() if s != "fresh"} == {n for n in found if "softmax" in n}
    assert found["darcy--plain-softmax--1"] == "stale its parameters have changed"


def test_training_code_makes_all_cells_stale_and_what_draws_none(workspace):
    change(workspace / "mno/report/report.css")
    change(workspace / "mno/report/document.py")
    change(workspace / "mno/study/report.py")
    assert stale(workspace) == set()
    change(workspace / "mno/training/fit.py")
    assert len(stale(workspace)) == 12


def test_a_changed_solver_makes_the_cells_of_its_scenario_stale(workspace):
    change(workspace / "mno/scenarios/burgers.py")
    assert stale(workspace) == {name for name in states(workspace) if name.startswith("burgers")}


def test_new_code_that_makes_the_same_data_leaves_cells_fresh(workspace):
    change(workspace / "mno/data/generate/work.py")  # of `generate` alone
    assert len(stale(workspace)) == 12  # nobody has made the data since
    results, code = Results(workspace, "small"), Code(workspace)
    for cell in cells():
        results.keep_dataset(cell, code.dataset_digest(cell), "m")
    assert stale(workspace) == set()
    for cell in cells():
        if cell.scenario == "darcy":
            results.keep_dataset(cell, code.dataset_digest(cell), "other")
    assert stale(workspace) == {name for name in states(workspace) if name.startswith("darcy")}
    assert states(workspace)[FIRST] == "stale its data have changed"


def test_code_that_was_shown_to_make_the_same_cells_leaves_them_fresh(workspace):
    was = {cell.name: Code(workspace).cell_digest(cell) for cell in cells()}
    data = {cell.name: Code(workspace).dataset_digest(cell) for cell in cells()}
    change(workspace / "mno/training/fit.py")
    change(workspace / "mno/data/generate/work.py")  # of `generate`
    assert len(stale(workspace)) == 12
    shown, code = [cell for cell in cells() if cell.scenario == "darcy"], Code(workspace)
    entry = {
        "code": {was[cell.name]: code.cell_digest(cell) for cell in shown},
        "datasets": {data[cell.name]: code.dataset_digest(cell) for cell in shown},
    }
    (workspace / EQUIVALENCES).write_text(json.dumps({"schema": 1, "equivalences": [entry]}))
    assert stale(workspace) == {name for name in states(workspace) if name.startswith("burgers")}
    change(workspace / "mno/training/fit.py")
    assert len(stale(workspace)) == 12


def test_a_failure_is_told_until_what_failed_is_changed(workspace):
    results = Results(workspace, "small")
    results.write(FIRST, {**results.read(FIRST), "state": "failed", "reason": "it diverged"})
    assert states(workspace)[FIRST] == "failed it diverged"
    change(workspace / "mno/training/fit.py")
    assert states(workspace)[FIRST] == "missing"


def test_a_result_is_whole_or_not_there_and_strict_json(workspace):
    results = Results(workspace, "small")
    path = results.write("darcy--plain-axial--9", {"value": [float("nan"), 1.0], "state": "done"})
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["value"] == [None, 1.0]
    assert list(path.parent.glob("*.partial")) == []
    path.write_text(path.read_text()[:20])
    with pytest.raises(MnoError, match="git checkout it, or remove it"):
        results.read(path.stem)


STUDY = """\
title: A tiny study
seeds: [0, 1]
base:
  generate: {samples: 40, resolution: 16, shard_size: 20}
  model: {layers: 1, d_state: 1}
  train: {epochs: 2, batch_size: 8, threads: 1}
  evaluate:
    robustness: {noise: [0.1], missing: [0.25], resolutions: [2.0], samples: 4, solved_samples: 2}
    economics: {comparison_seconds: 0.1}
scenarios: {darcy: {}}
models:
  axial: {}
  softmax: {mixer: softmax, heads: 2}
  broken: {train: {learning_rate: 1.0e+30, gradient_clip: 1.0e+30}}
compare: all
scaling: {resolutions: [8, 16], seconds: 0.02}
peers: [mean, ridge, persistence]
"""


def test_a_model_may_have_a_task_and_a_training_of_its_own():
    memory = {"backbone": "latent", "task": {"time": "axis", "history": 4}, "train": {"unroll": 2}}
    params = {c.model.name: c.params for c in cells_of("small", spec(models={"memory": memory}))}
    assert (params["memory"]["task"]["time"], params["memory"]["task"]["history"]) == ("axis", 4)
    assert params["memory"]["train"]["unroll"] == 2
    assert params["memory"]["model"]["backbone"] == "latent"
    assert params["plain-axial"]["task"]["time"] == "frames"


def test_a_plan_says_how_long_and_how_fast_a_model_is_trained(tmp_path):
    equal = {"seconds": 60, "trials": [{"learning_rate": 0.001}, {"learning_rate": 0.003}]}
    results, study = Results(tmp_path, "small"), spec(tuning=equal)
    planned, other = (c for c in cells_of("small", study)[:2])
    plan = {"train": {"epochs": 7, "learning_rate": 0.003}}
    times = [{"kind": {}, "step_seconds": 0.1}]
    results.keep_plan(planned, study.tuning, {"times": times})
    assert results.plan(planned, study.tuning) is None  # where only times are known
    results.keep_plan(planned, study.tuning, plan)
    assert results.known_of_plan(planned, study.tuning)["times"] == times
    known = results.planned(cells_of("small", study), study.tuning)
    of_model = [c for c in known if (c.scenario, c.model.name) == ("darcy", planned.model.name)]
    assert len(of_model) == 3  # seeds
    for cell in of_model:
        assert (cell.params["train"]["epochs"], cell.params["train"]["learning_rate"]) == (7, 0.003)
    assert known[1] == other  # which has no plan
    for change in ({"tuning": {**equal, "seconds": 50}}, {"base": {"train": {"patience": 3}}}):
        changed = spec(**{"tuning": equal, **change})
        cell = cells_of("small", changed)[0]
        assert results.plan(cell, changed.tuning) is None


@pytest.mark.parametrize("seconds", [60, None])
def test_a_plan_is_of_given_epochs_where_no_time_gives_them(tmp_path, seconds):
    results = Results(tmp_path, "small")
    tuned = {"tuning": {"seconds": seconds, "trials": [{"learning_rate": 0.001}]}}
    study, longer = (spec(base={"train": {"epochs": epochs}}, **tuned) for epochs in (4, 8))
    (cell, *_), (other, *_) = cells_of("small", study), cells_of("small", longer)
    results.keep_plan(cell, study.tuning, {"train": {"epochs": 4, "learning_rate": 0.001}})
    assert results.plan(cell, study.tuning) is not None
    assert (results.plan(other, longer.tuning) is None) == (seconds is None)


def test_steps_of_models_are_timed_together():
    deep = spec(models={"deep": {"layers": 12, "width": 64}}, seeds=[0])
    some = [c for c in cells_of("small", deep) if c.scenario == "darcy"]
    axial, _, deep = times_in_turn(some, ROOT)
    assert 0 < axial < deep
    assert steps_of_epoch(some[0]) == 4
    assert min(times := times_in_turn(some, ROOT, predict=True)) > 0 and len(times) == 3


TUNED = """\
models: {axial: {}, softmax: {mixer: softmax, heads: 2}}
tuning:
  seconds: SECONDS
  trials: [{learning_rate: 0.003, optimizer: muon}, {learning_rate: 1.0e+30}]
"""


@pytest.fixture
def studied(tmp_path):
    made = make_workspace(tmp_path / "root")
    (made.root / "studies/tiny.yaml").write_text(STUDY)
    yield made
    end_processes_in(made.root)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_a_killed_study_goes_on_and_keeps_each_cell_in_three_places(studied):
    root, results = studied.root, studied.root / "studies/results/tiny"
    first, deadline = results / "darcy--axial--0.json", time.monotonic() + 900
    before = (root / "params.yaml").read_bytes(), (root / "data.dvc").read_bytes()
    running = studied.start("study", "run", "tiny")
    while not first.exists():
        assert time.monotonic() < deadline, f"{first} did not appear"
        time.sleep(0.5)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    kept = first.read_bytes()
    unfinished = studied.mno("study", "report", "tiny", "--json")
    assert unfinished.returncode == 0, unfinished.stderr

    done = studied.run(*studied.command(["study", "run", "tiny", "--json"]), timeout=2400)
    assert done.returncode == 1, done.stderr  # a cell has failed
    answer = json.loads(done.stdout)
    assert (answer["fresh"], answer["failed"], answer["missing"]) == (4, 2, 0)
    assert first.read_bytes() == kept
    made = {p.stem: json.loads(p.read_text()) for p in sorted(results.glob("*.json"))}
    assert len(made) == 6
    assert "diverged" in made["darcy--broken--0"]["reason"]
    assert len(list((results / "scaling").glob("*.json"))) == 3
    at_rest = [json.loads(path.read_text()) for path in (results / "latency").glob("*.json")]
    assert len(at_rest) == 3 and all(record["latency_ms"] > 0 for record in at_rest)
    mean, ridge = json.loads((results / "peers/darcy.json").read_text())["peers"]
    assert (mean["name"], ridge["name"]) == ("mean", "ridge")  # Darcy has no frames to persist
    assert 0 < ridge["test"] < mean["test"] and ridge["seconds"] >= 0
    assert studied.mno("study", "report", "tiny").returncode == 0
    assert "Simple peers" in (root / "reports/studies/tiny/index.html").read_text()
    # The line's own parameters and data are as they were.
    assert ((root / "params.yaml").read_bytes(), (root / "data.dvc").read_bytes()) == before

    finished = {name: cell for name, cell in made.items() if cell["state"] == "done"}
    assert len(finished) == 4
    for name, cell in finished.items():
        commit = cell["experiment"]["commit"]
        shown = studied.run("git", "show", f"{commit}:params.yaml", check=True).stdout
        there = root.parent / f"{name}"
        there.mkdir()
        (there / "params.yaml").write_text(shown)
        params = read_params(there)
        # Options at their defaults may be absent from a cell.
        assert params["model"] == {**ModelConfig().model_dump(), **cell["params"]["model"]}
        assert params["seed"] == cell["params"]["seed"]
    listed = studied.run("dvc", "exp", "list", "--name-only", check=True).stdout.split()
    assert {cell["experiment"]["name"] for cell in finished.values()} <= set(listed)
    assert len({cell["identity"]["data"] for cell in finished.values()}) == 1
    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    for cell in finished.values():
        run = client.get_run(cell["training_run"])
        assert run.info.status == "FINISHED"
        assert run.data.tags["mno.experiment"] == cell["experiment"]["name"]
        assert run.data.metrics["evaluation/relative_l2"] == cell["metrics"]["relative_l2"]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seconds", [0.5, None])
def test_models_are_trained_as_in_the_best_trial(studied, seconds):
    text = STUDY[: STUDY.index("models:")] + TUNED.replace("SECONDS", json.dumps(seconds))
    (studied.root / "studies/tiny.yaml").write_text(text)
    done = studied.run(*studied.command(["study", "run", "tiny", "--json"]), timeout=1500)
    assert done.returncode == 0, done.stderr
    results = studied.root / "studies/results/tiny"
    for name in ("axial", "softmax"):
        plan = json.loads((results / f"plans/darcy--{name}.json").read_text())
        train = plan["train"]
        assert (train["learning_rate"], train["optimizer"]) == (0.003, "muon")
        assert [trial["train"]["learning_rate"] for trial in plan["trials"]] == [0.003, 1e30]
        for seed in (0, 1):
            cell = json.loads((results / f"darcy--{name}--{seed}.json").read_text())
            assert cell["params"]["train"].items() >= train.items()
            assert len(cell["training"]["validation"]) == train["epochs"] >= 1
            assert seconds or train["epochs"] == 2
    again = studied.run(*studied.command(["study", "run", "tiny", "--json"]), timeout=1500)
    assert json.loads(again.stdout)["made"] == 0

    # Trials that are still to be made keep the cells whose best trial they do not beat.
    cell, file = results / "darcy--axial--0.json", results / "plans/darcy--axial.json"
    kept = cell.read_bytes()
    whole = json.loads(file.read_text())
    begun = {key: value for key, value in whole.items() if key != "train"}
    file.write_text(json.dumps({**begun, "trials": whole["trials"][:1]}))
    again = studied.run(*studied.command(["study", "run", "tiny", "--json"]), timeout=1500)
    assert json.loads(again.stdout)["made"] == 0, again.stderr
    assert json.loads(file.read_text())["train"] == whole["train"]
    assert cell.read_bytes() == kept
