"""The tables of docs/accuracy.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.intervals import Interval, interval, relative_change

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
PLAIN = "plain"
AVERAGED = "averaged"
NOTHING = "Not measured yet."

Kept = dict[str, Any]


def write(cells: Sequence[Kept], seeds: int) -> None:
    """Print the tables and put them between the page's marks.

    Args:
        cells: All that there are.
        seeds: Of each training; one that lacks some is left out.
    """
    whole = [cell for some in _trainings(cells) if len(some) == seeds for cell in some]
    options = [cell for cell in whole if cell["part"] == "options"]
    public = [cell for cell in whole if cell["part"] == "public"]
    parts = {
        "public": public_table(public) if public else NOTHING,
        "options": _by_problem(options, options_table),
        "robust": _by_problem(options, robust_table),
    }
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in parts.items():
        print(f"\n{name}\n\n{lines}")
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{lines}\n{end}{rest.partition(end)[2]}"
    partial = PAGE.with_name(PAGE.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, PAGE)


def _trainings(cells: Sequence[Kept]) -> list[list[Kept]]:
    """Group cells that differ in their seed only."""
    groups: dict[tuple[Any, ...], list[Kept]] = {}
    for cell in cells:
        key = tuple(cell[name] for name in ("part", "problem", "samples", "recipe"))
        groups.setdefault(key, []).append(cell)
    return list(groups.values())


def _by_problem(cells: Sequence[Kept], table: Callable[[Sequence[Kept]], str]) -> str:
    """Return a table for each problem and number of samples whose plain training is there."""
    parts = []
    for cell in cells:
        if cell["recipe"] == PLAIN and cell["seed"] == 0:
            problem, samples = cell["problem"], cell["samples"]
            of_both = [c for c in cells if (c["problem"], c["samples"]) == (problem, samples)]
            parts.append(f"**{problem}, {samples:,} samples**\n\n{table(of_both)}")
    return "\n\n".join(parts) or NOTHING


def public_table(cells: Sequence[Kept]) -> str:
    """Return the errors on the public data, one row per recipe, beside those of the first."""
    rows = []
    by_recipe = _by_recipe(cells)
    first = next(iter(by_recipe))
    for recipe, some in by_recipe.items():
        change = relative_change(_errors(some), _errors(by_recipe[first]))
        seeds = [np.mean(cell["errors"]["clean"]) for cell in some]
        minutes = min(cell["training_seconds"] for cell in some) / 60
        learned = np.mean([cell["train_error"] for cell in some])
        rows.append(
            (
                recipe,
                f"{some[0]['parameters']:,}",
                f"{_passes(some[0])}",
                f"{minutes:.1f}",
                f"{learned:.4f}",
                _error(interval(_errors(some))),
                "–" if recipe == first else _change(change),
                ", ".join(f"{seed:.4f}" for seed in seeds),
                f"{_errors(some, AVERAGED).mean():.4f}" if AVERAGED in some[0]["errors"] else "",
            )
        )
    head = ("recipe", "parameters", "passes", "minutes", "training error", "test error")
    head = (*head, f"against {first}", "of each seed", "averaged")
    return _table(head, rows)


def _passes(cell: Kept) -> int:
    """Return how often each sample was learned, in whichever image."""
    return cell["epochs"] * (4 if cell["made_with"]["mirrored"] else 1)


def options_table(cells: Sequence[Kept]) -> str:
    """Return what each option changes, one row per option."""
    by_recipe = _by_recipe(cells)
    plain = _errors(by_recipe[PLAIN])
    rows = []
    for recipe, some in by_recipe.items():
        errors = _errors(some)
        change = relative_change(errors, plain)
        verdict = "–" if recipe == PLAIN else _change(change)
        rows.append((recipe, _error(interval(errors)), verdict, _says(recipe, change)))
    return _table(("training", "test error", "change", "so it"), rows)


def robust_table(cells: Sequence[Kept]) -> str:
    """Return the errors on corrupted inputs, one row per training."""
    rows = [
        (recipe, *(f"{_errors(some, kind).mean():.3f}" for kind in some[0]["errors"]))
        for recipe, some in _by_recipe(cells).items()
    ]
    return _table(("training", *cells[0]["errors"]), rows)


def _says(recipe: str, change: Interval) -> str:
    if recipe == PLAIN:
        return ""
    if not change.excludes_zero:
        return "brings nothing that shows"
    return "helps" if change.high < 0 else "harms"


def _by_recipe(cells: Sequence[Kept]) -> dict[str, list[Kept]]:
    rows: dict[str, list[Kept]] = {}
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        rows.setdefault(cell["recipe"], []).append(cell)
    return rows


def _errors(cells: Sequence[Kept], kind: str = "clean") -> np.ndarray:
    """Return errors of shape `(seeds, samples)`."""
    return np.array([cell["errors"][kind] for cell in cells])


def _error(of: Interval) -> str:
    return f"{of.mean:.4f} ({of.low:.4f} to {of.high:.4f})"


def _change(of: Interval) -> str:
    return f"{of.mean:+.1%} ({of.low:+.1%} to {of.high:+.1%})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
