"""What predictions cost beside solving, and when the surrogate has paid for itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.absent import Absent
from mno.report.language import duration, price, unknown
from mno.report.page import Figure, Section, curve_figure, render
from mno.report.style import (
    PER_CENT,
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    draw_legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.report.language import Words
    from mno.report.page import Known, Results


def break_even_figure(found: Known, words: Words) -> Figure | None:
    """Return the figure; none where what a solve or the surrogate has cost is not known."""
    if found["solver_seconds"] is None or not found["total_spent"]:
        return None
    solves = found["solves"]
    said = (
        words("plot.never")
        if solves is None
        else words("plot.reached", solves=words.number(solves))
    )
    return curve_figure(
        "break_even",
        *(words(f"plot.{part}", said=said) for part in ("title", "caption", "alt")),
        draw=lambda ax: _draw_break_even(ax, found, words),
    )


def _draw_break_even(ax: Axes, found: Known, words: Words) -> None:
    """Draw the computing, in hours, that a number of solves takes; mark where the lines cross."""
    spent, solver, surrogate, crossing = (
        found[key] for key in ("total_spent", "solver_seconds", "surrogate_seconds", "solves")
    )
    middle = crossing or max(spent / solver, 1.0)
    solves = np.geomspace(max(1.0, middle / 300), max(10.0, 30 * middle), 200)
    ax.loglog(solves, solves * solver / 3600, color=TRUTH_COLOUR, label=words("plot.solver"))
    ax.loglog(
        solves, (spent + solves * surrogate) / 3600, color=PREDICTION_COLOUR, ls="--",
        label=words("plot.surrogate"),
    )  # fmt: skip
    if crossing:
        label = words("plot.crossing", solves=words.number(crossing))
        ax.axvline(crossing, color=REFERENCE_COLOUR, lw=0.8, ls=":")
        ax.plot(crossing, crossing * solver / 3600, "o", color="black", label=label)
    ax.grid(color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
    ax.set_xlabel(words("plot.solves"))
    ax.set_ylabel(words("plot.hours"))
    draw_legend(ax, narrow=1)


def equal_error_figure(compared: Known | Absent, words: Words) -> Figure | None:
    """Return the figure; none where the two were not compared."""
    if isinstance(compared, Absent):
        return None
    values = {
        "problems": words.number(compared["problems"]),
        "reference": words.number(compared["reference"]),
        "error": words.percent(compared["model"]["error"]),
    }
    return curve_figure(
        "equal_error",
        *(words(f"grids.{part}", **values) for part in ("title", "caption", "alt")),
        draw=lambda ax: _draw_equal_error(ax, compared, words),
    )


def _draw_equal_error(ax: Axes, compared: Known, words: Words) -> None:
    """Draw the relative L2 against the time of one solution."""
    curve, model = compared["curve"], compared["model"]
    times, errors = ([point[key] for point in curve] for key in ("ms", "error"))
    ax.plot(times, errors, "o-", color=TRUTH_COLOUR, lw=1.5, label=words("grids.solver"))
    for point in curve:
        ax.annotate(
            str(point["resolution"]), (point["ms"], point["error"]),
            xytext=(4, 4), textcoords="offset points", color=TRUTH_COLOUR,
        )  # fmt: skip
    if math.isfinite(model["error"]):
        mark = {"color": PREDICTION_COLOUR, "mec": "black", "ms": 8}
        ax.plot(model["ms"], model["error"], "D", label=words("grids.surrogate"), **mark)
    ax.set_xscale("log")
    if all(error > 0 for error in (*errors, model["error"])):
        ax.set_yscale("log")
    ax.yaxis.set_major_formatter(PER_CENT)
    ax.yaxis.set_minor_formatter(PER_CENT)
    ax.grid(color=REFERENCE_COLOUR, alpha=0.2, lw=0.5, which="both")
    ax.set_xlabel(words("grids.time"))
    ax.set_ylabel(words("grids.error"))
    draw_legend(ax, narrow=1)


_NONE = "–"


def side_by_side(cost: Known, words: Words) -> list[tuple[str, str, str]]:
    """Return rows of a name, the surrogate's figure and the solver's."""
    solver = {} if isinstance(cost["solver"], Absent) else cost["solver"]
    batch = words.number(cost["batch_size"])

    def solving(key: str) -> str:
        return duration(1e-3 * solver[key], words) if solver else _NONE

    per_second = words.number(1e3 / solver["ms"], 3) if solver else _NONE
    return [
        (words("latency"), duration(1e-3 * cost["latency_ms"], words), solving("ms")),
        (words("latency_p95"), duration(1e-3 * cost["latency_p95_ms"], words), solving("p95_ms")),
        *_at_equal_error(cost["equal_error"], words),
        (
            words("throughput", batch=batch),
            words.number(cost["throughput_per_s"], 3),
            per_second,
        ),
        (
            words("memory"),
            _mebibytes(cost["peak_memory_mib"], words),
            _mebibytes(cost["solver_memory_mib"], words) if solver else _NONE,
        ),
        (words("flops"), words.number(float(cost["flops"]), 3), _NONE),
        (words("parameters"), words.number(cost["parameters"]), _NONE),
    ]


def spent_rows(spent: Known, words: Words) -> list[tuple[str, ...]]:
    """Return rows of a stage, its time by the clock and of all cores, and its energy."""
    rows = []
    for stage, found in spent.items():
        if isinstance(found, Absent):
            rows.append((words(f"stage.{stage}"), words.why(found), _NONE, _NONE))
            continue
        energy = f"{words.number(found['watt_hours'], 2)}\u202fWh"
        times = (duration(found[key], words) for key in ("seconds", "cpu_seconds"))
        rows.append((words(f"stage.{stage}"), *times, energy))
    return rows


def break_even_rows(found: Known, words: Words) -> list[tuple[str, str]]:
    """Return what the break-even is made of, and what it comes to."""
    source = found["solver_source"]
    rows = []
    if source is not None:
        rows += [(words(f"a_solve.{source}"), duration(found["solver_seconds"], words))]
    rows += [(words("a_prediction"), duration(found["surrogate_seconds"], words))]
    for part, seconds in found["spent"].items():
        name = f"data.{found['data_source']}" if part == "data" else part
        rows += [(words(f"spent_on.{name}"), _computing(seconds, words))]
    pays = words(f"pays.{found['state']}", solves=words.number(found["solves"] or 0))
    rows += [(words("pays_after"), pays)]
    if found["days"] is not None:
        rows += [(words("pays_in"), words("days", days=words.number(found["days"], 2)))]
    if found["saved_a_day"] is not None:
        rows += [(words("saved_a_day"), duration(found["saved_a_day"], words))]
    return [*rows, *_priced(found["money"], words)]


def _priced(money: Known | None, words: Words) -> list[tuple[str, str]]:
    if money is None:
        return []
    amounts = ((name, money[name]) for name in ("spent", "a_solve", "a_prediction", "saved_a_day"))
    currency = money["currency"]
    return [
        (words(f"money.{name}"), price(amount, currency, words))
        for name, amount in amounts
        if amount is not None
    ]


def _at_equal_error(compared: Known | Absent, words: Words) -> list[tuple[str, str, str]]:
    if isinstance(compared, Absent) or isinstance(compared["solver"], Absent):
        return []
    solver, model = compared["solver"], compared["model"]
    name = words("at_equal_error", error=words.percent(model["error"]))
    time = words(f"time.{solver['how']}", time=duration(1e-3 * solver["ms"], words))
    return [(name, duration(1e-3 * model["ms"], words), time)]


def _computing(seconds: Any, words: Words) -> str:
    return words.why(seconds) if isinstance(seconds, Absent) else duration(seconds, words)


def _mebibytes(size: Any, words: Words) -> str:
    return words.why(size) if isinstance(size, Absent) else f"{words.number(size, 3)}\u202fMiB"


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where no cost was measured.

    Its figures are measured times, which differ from run to run, so they are in the page alone and
    not among the files, which are made of what the parameters determine.
    """
    cost, decision = results.cost, results.decision
    if not (cost and decision):
        return None
    figures = [
        equal_error_figure(cost["equal_error"], words),
        break_even_figure(decision["break_even"], words),
    ]
    body = render(
        "cost",
        words,
        compared=side_by_side(cost, words),
        absent={
            name: words.why(cost[name])
            for name in ("solver", "equal_error")
            if isinstance(cost[name], Absent)
        },
        spent=spent_rows(cost["spent"], words),
        pays=break_even_rows(decision["break_even"], words),
        why=unknown(decision["break_even"], words),
        figures=[figure for figure in figures if figure is not None],
    )
    return Section("cost", words("title"), body)
