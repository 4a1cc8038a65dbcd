"""The tables of docs/accuracy.md, and the long ones of benchmarks/results/accuracy.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.intervals import Interval, interval, relative_change
from mno.core.files import write_text

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
ALL = Path(__file__).parents[1] / "results" / "accuracy.md"
ABOUT = """# Accuracy, all tables

Written by `python -m benchmarks.accuracy FOLDER`; docs/accuracy.md says what they mean. Errors are
relative L2: the mean over test samples and seeds, and in brackets where 95 of 100 repetitions would
put it, seeds and samples redrawn."""
PLAIN = "plain"
AVERAGED = "averaged"
NOTHING = "Not measured yet."
SHORT = (0, 1, 3, 5, 6)  # of the columns of the table on public data, those of the page
OF_PUBLISHED = (0, 1, 3, 7, 5, 6)
MEANT = PLAIN, "noise 0.1", "mask 0.05"
SHOWN = "clean", "noise 0.1", "noise 0.4", "missing 0.1"

Kept = dict[str, Any]


def write(cells: Sequence[Kept], seeds: int) -> None:
    """Write all tables, and put the short ones between the page's marks.

    Args:
        cells: All that there are.
        seeds: Of each training; one that lacks some is left out.
    """
    whole = [cell for some in _trainings(cells) if len(some) == seeds for cell in some]
    options = [cell for cell in whole if cell["part"] == "options"]
    # Of any number of seeds.
    public, published = (
        [cell for cell in cells if cell["part"] == part] for part in ("public", "published")
    )
    largest = dict(sorted((cell["problem"], cell["samples"]) for cell in options))
    most = [cell for cell in options if cell["samples"] == largest[cell["problem"]]]
    long = {
        "On public data": public_table(public) if public else NOTHING,
        "By the published protocol": public_table(published) if published else NOTHING,
        "What training options bring": _by_problem(options, options_table),
        "Noise and missing values": _by_problem(options, robust_table),
    }
    write_text(ALL, "\n\n".join((ABOUT, *(f"## {k}\n\n{v}" for k, v in long.items()))) + "\n")
    print(f"All tables: {ALL}")
    short = {
        "public": public_table(public, SHORT) if public else NOTHING,
        "published": public_table(published, OF_PUBLISHED) if published else NOTHING,
        "options": changes_table(most) if most else NOTHING,
        "robust": corrupted_table(most) if most else NOTHING,
    }
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in short.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{lines}\n{end}{rest.partition(end)[2]}"
    write_text(PAGE, text)


def _trainings(cells: Sequence[Kept]) -> list[list[Kept]]:
    """Group cells that differ in their seed only."""
    groups: dict[tuple[Any, ...], list[Kept]] = {}
    for cell in cells:
        key = tuple(cell[name] for name in ("part", "problem", "samples", "recipe"))
        groups.setdefault(key, []).append(cell)
    return list(groups.values())


def _by_problem(cells: Sequence[Kept], table: Callable[[Sequence[Kept]], str]) -> str:
    """Return a table for each problem and number of samples whose plain training is there."""
    tables = (f"**{name} samples**\n\n{table(of)}" for name, of in _problems(cells).items())
    return "\n\n".join(tables) or NOTHING


def public_table(cells: Sequence[Kept], columns: Sequence[int] | None = None) -> str:
    """Return the errors of recipes, one row for each, beside those of the first on equal seeds."""
    rows = []
    by_recipe = _by_recipe(cells)
    first = next(iter(by_recipe))
    for recipe, some in by_recipe.items():
        both = min(len(some), len(by_recipe[first]))
        change = relative_change(_errors(some)[:both], _errors(by_recipe[first])[:both])
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
    chosen = range(len(head)) if columns is None else columns
    return _table([head[i] for i in chosen], [[row[i] for i in chosen] for row in rows])


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


def changes_table(cells: Sequence[Kept]) -> str:
    """Return what each option changes on each problem, bold where the interval excludes zero."""
    problems = _problems(cells)
    rows = []
    for recipe in dict.fromkeys(cell["recipe"] for cell in cells if cell["recipe"] != PLAIN):
        changes = []
        for some in map(_by_recipe, problems.values()):
            if recipe not in some:
                changes.append("")
                continue
            change = relative_change(_errors(some[recipe]), _errors(some[PLAIN]))
            shown = f"**{change.mean:+.1%}**" if change.excludes_zero else f"{change.mean:+.1%}"
            changes.append(f"{shown} ({change.low:+.1%} to {change.high:+.1%})")
        rows.append((recipe, *changes))
    return _table(("training", *problems), rows)


def corrupted_table(cells: Sequence[Kept]) -> str:
    """Return errors on corrupted inputs, of the trainings that are meant for these."""
    rows = []
    for problem, some in _problems(cells).items():
        by_recipe = _by_recipe(some)
        for recipe in (name for name in MEANT if name in by_recipe):
            of = by_recipe[recipe]
            told = [f"{_errors(of, k).mean():.3f}" if k in of[0]["errors"] else "" for k in SHOWN]
            rows.append((problem, recipe, *told))
    return _table(("problem", "training", *SHOWN), rows)


def _problems(cells: Sequence[Kept]) -> dict[str, list[Kept]]:
    """Group the cells of each problem and number of samples whose plain training is there."""
    groups: dict[str, list[Kept]] = {}
    for cell in cells:
        groups.setdefault(f"{cell['problem']}, {cell['samples']:,}", []).append(cell)
    return {name: some for name, some in groups.items() if any(c["recipe"] == PLAIN for c in some)}


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
