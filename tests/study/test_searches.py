"""Search files, the trials of a search in its database, and what is written of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from optuna.trial import TrialState

from mno.core.config import read_params
from mno.core.errors import InputError, MnoError
from mno.study.search_report import write_search_report
from mno.study.search_space import (
    SearchSpec,
    at,
    default_params,
    default_point,
    search_digest,
    training_digest,
)
from mno.study.trials import (
    DATABASE,
    Confirmation,
    Trials,
    best_so_far,
    preset_path,
    records_of,
    write_preset,
)

ROOT = Path(__file__).parents[2]
SPACE = {"train.learning_rate": {"type": "log", "low": 1e-4, "high": 1e-2}}


def spec_of(**changes) -> SearchSpec:
    return SearchSpec.model_validate({"title": "A search", "space": SPACE, **changes})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title: [", "is not valid YAML"),
        ("[1, 2]", "must be a mapping"),
        ("title: A", "space is missing"),
        ("title: A\nspace: {}", "space"),
        ("title: A\nspace: {generate.samples: {type: int, low: 1, high: 2}}", "leave"),
        ("title: A\nspace: {model.width: {low: 1, high: 2}}", "type: float, log, int or choice"),
        ("title: A\nspace: {model.width: {type: int, low: 4, high: 2}}", "must be less than"),
        ("title: A\nspace: {model.width: {type: int, low: 1, high: 4, step: 2}}", "step=2"),
        ("title: A\nspace: {train.loss: {type: choice, values: [h1, h1]}}", "lists one twice"),
        ("title: A\nspace: {train.ema_decay: {type: log, low: 0.0, high: 1.0}}", "above 0"),
        ("title: A\nspace: {train.ema_decay: {type: float, low: 0.0, high: .inf}}", "finite"),
        (
            "title: A\nbase: {generate: {}}\n"
            "space: {train.loss: {type: choice, values: [h1, relative_l2]}}",
            "base.generate is not known",
        ),
        ("title: A\ntrails: 3\nspace: {model.width: {type: int, low: 1, high: 2}}", "trails"),
        ("title: A\ntrials: 0\nspace: {model.width: {type: int, low: 1, high: 2}}", "trials=0"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        SearchSpec.read(path)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_search_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "studies/tune").mkdir(parents=True)
    (tmp_path / "studies/tune/own.yaml").write_text("")
    with pytest.raises(InputError, match="no search 'other'.*own"):
        SearchSpec.find(tmp_path, "other")


def test_the_searches_that_are_shipped_can_be_read() -> None:
    names = SearchSpec.names(ROOT)
    assert names
    for name in names:
        assert SearchSpec.read(SearchSpec.find(ROOT, name)).space


def test_the_default_lies_in_the_space_or_is_said_not_to() -> None:
    params = {"train": {"learning_rate": 1e-3, "warm_start": "models:/a/1#1"}, "model": {}}
    spec = spec_of(base={"train": {"epochs": 3}})
    default = default_params(params, spec)
    assert default["train"] == {"learning_rate": 1e-3, "warm_start": None, "epochs": 3}
    assert params["train"]["warm_start"] == "models:/a/1#1"
    assert default_point(default, spec) == {"train.learning_rate": 1e-3}
    assert default_point(at(default, {"train.learning_rate": 0.5}), spec) is None


@pytest.mark.parametrize(
    ("axis", "inside", "outside"),
    [
        ({"type": "int", "low": 2, "high": 6, "step": 2}, [2, 6], [3, 8, 2.0, True]),
        ({"type": "float", "low": 0, "high": 1}, [0, 0.5, 1.0], [1.5, "1", None]),
        ({"type": "choice", "values": [1, "a", True]}, [1, "a", True], [False, 1.0, "b"]),
    ],
)
def test_an_axis_holds_its_values_and_no_others(axis: dict, inside: list, outside: list) -> None:
    read = spec_of(space={"model.width": axis}).space["model.width"]
    assert all(read.holds(value) for value in inside)
    assert not any(read.holds(value) for value in outside)


def test_a_search_is_told_apart_by_what_its_trials_depend_on() -> None:
    params = read_params(ROOT)

    def digest(data: str = "data", **changes) -> str:
        spec = spec_of(**changes)
        return search_digest(ROOT, default_params(params, spec), spec, data)

    assert digest() == digest(trials=5, title="Another", budget_minutes=3.0, confirm_seeds=1)
    others = [
        digest("other"), digest(seed=1), digest(pruner="none"), digest(limits={"parameters": 9}),
        digest(base={"train": {"epochs": 2}}),
        digest(space={"model.width": {"type": "int", "low": 1, "high": 2}}),
    ]  # fmt: skip
    assert len({digest(), *others}) == len(others) + 1
    assert training_digest(params, 0) != training_digest(params, 1)


def test_a_preset_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    params = {"task": {}, "model": {"width": 8}, "train": {"weight_decay": 1e-5, "warm": None}}
    path = preset_path(tmp_path, "tuned-a", "a", replace=False)
    write_preset(path, "a", params, ["Trial 3."])
    assert read_params_of(path) == params
    assert preset_path(tmp_path, "tuned-a", "a", replace=False) == path  # its own
    with pytest.raises(InputError, match="not written by this search.*--replace"):
        preset_path(tmp_path, "tuned-a", "b", replace=False)
    assert preset_path(tmp_path, "tuned-a", "b", replace=True) == path
    with pytest.raises(InputError, match="--preset"):
        preset_path(tmp_path, "../a", "a", replace=False)


def read_params_of(path: Path) -> dict:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(path)


def test_no_way_leads_from_a_search_to_the_test_split() -> None:
    """Only `training` reads data, and it asks for two splits by name."""
    asked = []
    for path in [*sorted((ROOT / "mno/study").glob("*.py")), ROOT / "flows/tune.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = {alias.name for alias in node.names}
                known = {"open_splits"} if path.name == "training.py" else set()
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


def error_at(point: dict) -> float:
    return 0.1 + abs(point["train.learning_rate"] - 0.01) + 1 / point["model.width"]


def make(root: Path, until: int, name: str = "a") -> Trials:
    trials = Trials(root, name, SPEC)
    while trials.begun < until or trials.repeated:
        trial = trials.ask()
        error = error_at(trial.params)
        details = {"state": "done", "error": error, "epochs": [], "parameters": 9}
        trials.finish(trial.number, TrialState.COMPLETE, error, details)
    return trials


def points(trials: Trials) -> list[dict]:
    return [trial.params for trial in trials.done]


def test_a_search_that_was_killed_tries_what_an_uninterrupted_one_tries(tmp_path: Path) -> None:
    whole = make(tmp_path, 16, "whole")
    make(tmp_path, 12, "killed").ask()  # and its process is gone
    again = Trials(tmp_path, "killed", SPEC)
    assert again.take_up() == 1
    assert again.repeated == 1
    resumed = make(tmp_path, 16, "killed")
    assert points(resumed) == points(whole)
    assert len({str(point) for point in points(whole)}) == 16
    states = [record.state for record in records_of(resumed)]
    assert states.count("broken") == 1
    assert states.count("done") == 16


def test_a_trial_that_is_lost_twice_is_given_up(tmp_path: Path) -> None:
    trials = Trials(tmp_path, "lost", SPEC)
    assert trials.broke_off(trials.ask().number, "killed")
    assert not trials.broke_off(trials.ask().number, "killed")
    assert (trials.begun, trials.repeated) == (1, 0)
    assert [record.reason for record in records_of(trials)] == ["killed", "killed"]


def test_the_default_is_tried_first_and_known_as_such(tmp_path: Path) -> None:
    trials = Trials(tmp_path, "first", SPEC)
    default = {"train.learning_rate": 0.01, "model.width": 16, "train.loss": "h1"}
    trials.first(default)
    assert trials.broke_off(trials.ask().number, "killed")
    made = make(tmp_path, 4, "first")
    records = [record for record in records_of(made) if record.state == "done"]
    assert records[0].point == default
    assert [record.is_default for record in records] == [True, False, False, False]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("no database, but text, and of some length at that")
    with pytest.raises(MnoError, match="is not a database of searches"):
        Trials(tmp_path, "a", SPEC)


def test_the_report_shows_trials_and_what_mattered(tmp_path: Path) -> None:
    trials = make(tmp_path, 16)
    records, shares = records_of(trials), trials.importances()
    assert set(shares) == set(SPEC.space)
    assert shares["train.loss"] < shares["train.learning_rate"]  # on which the error depends
    curve = best_so_far(records)
    assert [error for _, error in curve] == sorted((e for _, e in curve), reverse=True)
    assert curve[-1][1] == pytest.approx(min(record.error or 1 for record in records))
    found = Confirmation({1: 0.1, 2: 0.11, 3: 0.09}, {1: 0.2, 2: 0.21, 3: 0.19})
    page = write_search_report(tmp_path, "a", trials, found, {"all": []})
    text = page.read_text()
    assert "The winner is better than the default" in text
    assert text.count("data:image/png;base64,") >= 4
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert 'src="http' not in text


@pytest.mark.parametrize(
    ("winner", "said"),
    [
        ({1: 0.10, 2: 0.20, 3: 0.30}, "not shown to be better"),
        ({1: 0.30, 2: 0.31, 3: 0.33}, "worse"),
        ({1: 0.10, 2: 0.11, 3: 0.12}, "better than the default: with 3 further seeds"),
        ({1: 0.10}, "one seed shows no more"),
        ({}, "not compared"),
    ],
)
def test_the_comparison_says_plainly_what_it_shows(winner: dict, said: str) -> None:
    assert said in Confirmation(winner, {1: 0.2, 2: 0.21, 3: 0.22}).sentence()
