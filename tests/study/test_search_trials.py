"""The trials of a search in its database: what is tried, what is made again, what was found."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

from mno.core.errors import MnoError
from mno.study.search_report import write_search_report
from mno.study.search_space import SearchSpec
from mno.study.trials import DATABASE, Confirmation, Trials, best_so_far, records_of

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
