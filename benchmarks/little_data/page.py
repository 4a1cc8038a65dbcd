"""The tables and the figure of docs/little-data.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.accuracy.intervals import Interval, interval, relative_change
from benchmarks.little_data import another_plant, another_problem, derivatives, fidelities
from benchmarks.page import Table
from mno.core.files import write_text

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "little-data.md"
FIGURE = PAGE.parent / "assets" / "little-data.png"
NOTHING = "Not measured yet."
SHOWN = {
    "trained further": "trained further", "new": "new model",
    "gaussian_process": "Gaussian process", "ridge": "ridge",
}  # fmt: skip
COLOURS = {"trained further": "#0b6e4f", "new": "#c8553d", "gaussian_process": "#5b6c8f",
           "ridge": "#9a9a9a"}  # fmt: skip

OF_SOLVES = {
    fidelities.BOTH: "coarse then fine", fidelities.TOLD: "both at once, told which",
    fidelities.COARSE: "coarse alone", fidelities.FINE: "fine alone",
    fidelities.PEER: "Gaussian process, fine alone",
}  # fmt: skip

OF_PROBLEMS = {
    another_problem.FURTHER: "union, trained further", another_problem.NEW: "new model",
    another_problem.PEER: "Gaussian process",
}  # fmt: skip

Cells = Sequence[Mapping[str, Any]]


def parts(kept: Mapping[str, Cells]) -> dict[str, str]:
    """Return what stands between the page's marks, by their names."""
    questions = (another_plant, another_problem, derivatives, fidelities)
    plants, problems, rates, solves = (kept.get(module.QUESTION, []) for module in questions)
    return {
        "plant": _plant_table(plants) if plants else NOTHING,
        "worth": _worth(plants) if plants else NOTHING,
        "problems": _problems_table(problems) if problems else NOTHING,
        "derivatives": _derivatives_table(rates) if rates else NOTHING,
        "fidelities": _fidelities_table(solves) if solves else NOTHING,
    }


def write(kept: Mapping[str, Cells]) -> None:
    """Put the tables between the page's marks, and draw the figure."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in parts(kept).items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{lines}\n{end}{rest.partition(end)[2]}"
    write_text(PAGE, text)
    if plants := kept.get(another_plant.QUESTION):
        _draw(plants)


def errors(cells: Cells, problem: str, solves: int, arm: str) -> np.ndarray | None:
    """Return the errors of all seeds of a training, `(seeds, samples)`; none without a cell."""
    found = [
        cell["errors"]
        for cell in cells
        if (cell["problem"], cell["solves"], cell["arm"]) == (problem, solves, arm)
    ]
    return np.array(found) if found else None


def _plant_table(cells: Cells) -> str:
    rows = []
    for problem in another_plant.OTHERS:
        for solves in another_plant.SOLVES:
            found = [errors(cells, problem, solves, arm) for arm in SHOWN]
            rows.append((problem, str(solves), *(_error(values) for values in found)))
    return Table(("furnace", "solves", *SHOWN.values()), rows).markdown()


def _worth(cells: Cells) -> str:
    """Say how many solves a new model needs for what one trained further has with the fewest."""
    lines = []
    for problem in another_plant.OTHERS:
        as_it_is = errors(cells, problem, 0, "as it is")
        known = [
            (solves, found.mean())
            for solves in another_plant.SOLVES
            if (found := errors(cells, problem, solves, "new")) is not None
        ]
        few, least = another_plant.SOLVES[0], known[-1]
        further = errors(cells, problem, few, "trained further")
        if as_it_is is None or further is None:
            continue
        error = further.mean()
        if error < least[1]:
            needs = f"which no new model has with {least[0]}"
        else:
            solves, means = (np.log([pair[i] for pair in known[::-1]]) for i in (0, 1))
            same = math.exp(np.interp(math.log(error), means, solves))
            needs = f"as a new model with about {same:.0f}"
        lines.append(
            f"- **{problem}**: asked as it is, the model of the first furnace is "
            f"{as_it_is.mean():.0%} off; trained further on {few} solves {error:.1%}, {needs}."
        )
    return "\n".join(lines)


def _problems_table(cells: Cells) -> str:
    rows = []
    for problem in another_problem.TARGETS:
        for solves in another_problem.SOLVES:
            found = [errors(cells, problem, solves, arm) for arm in OF_PROBLEMS]
            further, new = found[:2]
            seeds, change = "–", "–"
            if further is not None and new is not None:
                count = min(len(further), len(new))
                seeds, change = str(count), _change(relative_change(further[:count], new[:count]))
            known = "yes" if problem not in another_problem.UNION else "no"
            rows.append((
                problem, known, str(solves), seeds, *(_error(values) for values in found), change
            ))  # fmt: skip
    columns = (
        "problem", "equation known", "solves", "seeds", *OF_PROBLEMS.values(), "first against new"
    )  # fmt: skip
    return Table(columns, rows).markdown()


def _derivatives_table(cells: Cells) -> str:
    rows = []
    for problem in derivatives.PROBLEMS:
        arms = (
            (derivatives.FEW, derivatives.WITH), (derivatives.FEW, derivatives.WITHOUT),
            (derivatives.MANY, derivatives.WITHOUT),
        )  # fmt: skip
        found = [errors(cells, problem, solves, arm) for solves, arm in arms]
        samples = next(
            (c["learned"] for c in cells if (c["problem"], c["arm"]) == (problem, arms[0][1])), ""
        )
        cost = derivatives.costs()[problem]["solves"]
        seeds, change, worth = "–", "–", "–"
        if found[0] is not None and found[1] is not None and found[2] is not None:
            count = min(len(values) for values in found if values is not None)
            change = _change(relative_change(found[0][:count], found[2][:count]))
            seeds = str(count)
            few, many = (math.log(values.mean()) for values in (found[1], found[2]))
            share = (few - math.log(found[0].mean())) / (few - many)
            worth = f"{derivatives.FEW * (derivatives.MANY / derivatives.FEW) ** share:.0f}"
        rows.append((
            problem, seeds, str(derivatives.DIRECTIONS[problem]), f"{cost:.2f}", str(samples),
            *(_error(values) for values in found), change, worth,
        ))  # fmt: skip
    columns = (
        "problem", "seeds", "directions", "solves a sample", "samples learned", "100 solves, with",
        "100 solves, without", "500 solves, without", "with 100 against 500", "worth of solves",
    )  # fmt: skip
    return Table(columns, rows).markdown()


def _fidelities_table(cells: Cells) -> str:
    rows = []
    for problem in fidelities.PROBLEMS:
        for paid in fidelities.PAID:
            found = {arm: errors(cells, problem, paid, arm) for arm in fidelities.ARMS}
            fine, both = found[fidelities.FINE], found[fidelities.BOTH]
            change = "–"
            if fine is not None and both is not None and len(fine) == len(both):
                change = _change(relative_change(both, fine))
            rows.append((str(paid), *(_error(found[arm]) for arm in OF_SOLVES), change))
    columns = ("paid, in fine solves", *OF_SOLVES.values(), "first against fine alone")
    return Table(columns, rows).markdown()


def _error(values: np.ndarray | None) -> str:
    if values is None:
        return "–"
    found = interval(values)
    return f"{found.mean:.2%} ({found.low:.2%} to {found.high:.2%})"


def _change(change: Interval) -> str:
    text = f"{change.mean:+.0%} ({change.low:+.0%} to {change.high:+.0%})"
    return f"**{text}**" if change.excludes_zero else text


def _draw(cells: Cells) -> None:
    count = len(another_plant.OTHERS)
    figure, panels = pyplot.subplots(1, count, figsize=(11, 3.6), sharey=True)
    for panel, problem in zip(panels, another_plant.OTHERS, strict=True):
        for arm, name in SHOWN.items():
            points = [
                (solves, interval(found))
                for solves in another_plant.SOLVES
                if (found := errors(cells, problem, solves, arm)) is not None
            ]
            x, y = [p[0] for p in points], [100 * p[1].mean for p in points]
            panel.plot(x, y, "o-", color=COLOURS[arm], label=name, markersize=4)
            low, high = ([100 * getattr(p[1], end) for p in points] for end in ("low", "high"))
            panel.fill_between(x, low, high, color=COLOURS[arm], alpha=0.15, linewidth=0)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(another_plant.SOLVES, [str(n) for n in another_plant.SOLVES])
        panel.minorticks_off()
        panel.set_yticks([1, 2, 5, 10, 20], ["1 %", "2 %", "5 %", "10 %", "20 %"])
        panel.set_title(f"furnace: {problem}")
        panel.set_xlabel("solves of the new furnace")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("relative L2 error of readings")
    panels[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=130)
    pyplot.close(figure)
