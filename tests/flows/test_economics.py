"""The user's own figures on the command line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.line import own_figures, parse_seconds
from mno.core.errors import InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3.5s", 3.5), ("40ms", 0.04), ("2 min", 120.0), ("1h", 3600.0), ("1e-3s", 0.001)],
)
def test_a_time_is_a_number_and_its_unit(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "3.5", "s", "fast", "-1s", "0s", "3.5 days", "1e999s", "1..2s"]
)
def test_what_is_no_time_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"--solver-cost .* is no time above 0; .* 3\.5s"):
        parse_seconds(text)


def test_only_what_is_given_is_set() -> None:
    assert own_figures(None) == []
    assert own_figures("2min", 2000.0, 1.2, "EUR") == [
        "evaluate.economics.solver_seconds=120.0",
        "evaluate.economics.queries_per_day=2000.0",
        "evaluate.economics.hourly_rate=1.2",
        'evaluate.economics.currency="EUR"',
    ]


def test_the_options_are_named_by_help() -> None:
    shown = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "200"}).output
    for option in ("--solver-cost", "--queries-per-day", "--hourly-rate", "--currency", "--lang"):
        assert option in shown
