"""What predictions cost beside solving, and when the surrogate has paid for itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mno.core.absent import Absent
from mno.report import style
from mno.report.language import Known, Rows, Words, unknown
from mno.report.page import Figure, Results, Section, figure_of, section_of

_NONE = "–"


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where no cost was measured.

    Its figures are measured times, which differ from run to run, so they are in the page alone and
    not among the files, which are made of what the parameters determine.
    """
    cost, decision = results.cost, results.decision
    if not (cost and decision):
        return None
    compared, pays = cost["equal_error"], decision["break_even"]
    return section_of(
        words,
        [_equal_error_figure(compared, words), _break_even_figure(pays, words)],
        kept=False,
        compared=_side_by_side(cost, words),
        absent={
            name: words.why(cost[name])
            for name in ("solver", "equal_error")
            if isinstance(cost[name], Absent)
        },
        spent=[_spent_row(stage, found, words) for stage, found in cost["spent"].items()],
        pays=_break_even_rows(pays, words),
        why=unknown(pays, words),
    )


def _break_even_figure(found: Known, words: Words) -> Figure | None:
    """Return the figure; none where what a solve or the surrogate has cost is not known."""
    if found["solver_seconds"] is None or not found["total_spent"]:
        return None
    solves, said = found["solves"], words("plot.never")
    if solves is not None:
        said = words("plot.reached", solves=words.number(solves))
    drawn = style.curves(lambda ax: _draw_break_even(ax, found, words))
    return figure_of("break_even", words, "plot", drawn, said=said)


def _draw_break_even(ax: Axes, found: Known, words: Words) -> None:
    """Draw the computing, in hours, that a number of solves takes; mark where the lines cross."""
    spent, solver, surrogate, crossing = (
        found[key] for key in ("total_spent", "solver_seconds", "surrogate_seconds", "solves")
    )
    middle = crossing or max(spent / solver, 1.0)
    solves = np.geomspace(max(1.0, middle / 300), max(10.0, 30 * middle), 200)
    ax.loglog(solves, solves * solver / 3600, color=style.TRUTH_COLOUR, label=words("plot.solver"))
    ax.loglog(
        solves, (spent + solves * surrogate) / 3600, color=style.PREDICTION_COLOUR, ls="--",
        label=words("plot.surrogate"),
    )  # fmt: skip
    if crossing:
        label = words("plot.crossing", solves=words.number(crossing))
        ax.axvline(crossing, color=style.REFERENCE_COLOUR, lw=0.8, ls=":")
        ax.plot(crossing, crossing * solver / 3600, "o", color="black", label=label)
    ax.grid(color=style.REFERENCE_COLOUR, alpha=0.2, lw=0.5)
    ax.set_xlabel(words("plot.solves"))
    ax.set_ylabel(words("plot.hours"))
    style.draw_legend(ax, narrow=1)


def _equal_error_figure(compared: Known | Absent, words: Words) -> Figure | None:
    """Return the figure; none where the two were not compared."""
    if isinstance(compared, Absent):
        return None
    return figure_of(
        "equal_error",
        words,
        "grids",
        style.curves(lambda ax: _draw_equal_error(ax, compared, words)),
        problems=words.number(compared["problems"]),
        reference=words.number(compared["reference"]),
        error=words.percent(compared["model"]["error"]),
    )


def _draw_equal_error(ax: Axes, compared: Known, words: Words) -> None:
    """Draw the relative L2 against the time of one solution."""
    curve, model = compared["curve"], compared["model"]
    times, errors = ([point[key] for point in curve] for key in ("ms", "error"))
    ax.plot(times, errors, "o-", color=style.TRUTH_COLOUR, lw=1.5, label=words("grids.solver"))
    for point in curve:
        ax.annotate(
            str(point["resolution"]), (point["ms"], point["error"]),
            xytext=(4, 4), textcoords="offset points", color=style.TRUTH_COLOUR,
        )  # fmt: skip
    if math.isfinite(model["error"]):
        mark = {"color": style.PREDICTION_COLOUR, "mec": "black", "ms": 8}
        ax.plot(model["ms"], model["error"], "D", label=words("grids.surrogate"), **mark)
    ax.set_xscale("log")
    if all(error > 0 for error in (*errors, model["error"])):
        ax.set_yscale("log")
    ax.yaxis.set_major_formatter(style.PER_CENT)
    ax.yaxis.set_minor_formatter(style.PER_CENT)
    ax.grid(color=style.REFERENCE_COLOUR, alpha=0.2, lw=0.5, which="both")
    ax.set_xlabel(words("grids.time"))
    ax.set_ylabel(words("grids.error"))
    style.draw_legend(ax, narrow=1)


def _side_by_side(cost: Known, words: Words) -> list[tuple[str, str, str]]:
    """Return rows of a name, the surrogate's figure and the solver's."""
    solver = {} if isinstance(cost["solver"], Absent) else cost["solver"]

    def timed(name: str, own: str, of_solver: str) -> tuple[str, str, str]:
        solving = words.duration(1e-3 * solver[of_solver]) if solver else _NONE
        return words(name), words.duration(1e-3 * cost[own]), solving

    def mebibytes(size: Any) -> str:
        return words.why(size) if isinstance(size, Absent) else f"{words.number(size, 3)}\u202fMiB"

    throughput = words("throughput", batch=words.number(cost["batch_size"]))
    per_second = words.number(1e3 / solver["ms"], 3) if solver else _NONE
    memory = mebibytes(cost["solver_memory_mib"]) if solver else _NONE
    return [
        timed("latency", "latency_ms", "ms"),
        timed("latency_p95", "latency_p95_ms", "p95_ms"),
        *_at_equal_error(cost["equal_error"], words),
        (throughput, words.number(cost["throughput_per_s"], 3), per_second),
        (words("memory"), mebibytes(cost["peak_memory_mib"]), memory),
        (words("flops"), words.number(float(cost["flops"]), 3), _NONE),
        (words("parameters"), words.number(cost["parameters"]), _NONE),
    ]


def _at_equal_error(compared: Known | Absent, words: Words) -> list[tuple[str, str, str]]:
    if isinstance(compared, Absent) or isinstance(compared["solver"], Absent):
        return []
    solver, model = compared["solver"], compared["model"]
    name = words("at_equal_error", error=words.percent(model["error"]))
    time = words(f"time.{solver['how']}", time=words.duration(1e-3 * solver["ms"]))
    return [(name, words.duration(1e-3 * model["ms"]), time)]


def _spent_row(stage: str, found: Known | Absent, words: Words) -> tuple[str, ...]:
    """Return a stage, its time by the clock and of all cores, and its energy."""
    name = words(f"stage.{stage}")
    if isinstance(found, Absent):
        return name, words.why(found), _NONE, _NONE
    clock, cores = (words.duration(found[key]) for key in ("seconds", "cpu_seconds"))
    return name, clock, cores, f"{words.number(found['watt_hours'], 2)}\u202fWh"


def _break_even_rows(found: Known, words: Words) -> Rows:
    """Return what the break-even is made of, and what it comes to."""
    source, rows = found["solver_source"], []
    if source is not None:
        rows += [(words(f"a_solve.{source}"), words.duration(found["solver_seconds"]))]
    rows += [(words("a_prediction"), words.duration(found["surrogate_seconds"]))]
    for part, seconds in found["spent"].items():
        name = f"data.{found['data_source']}" if part == "data" else part
        known = not isinstance(seconds, Absent)
        told = words.duration(seconds) if known else words.why(seconds)
        rows += [(words(f"spent_on.{name}"), told)]
    pays = words(f"pays.{found['state']}", solves=words.number(found["solves"] or 0))
    rows += [(words("pays_after"), pays)]
    if found["days"] is not None:
        rows += [(words("pays_in"), words("days", days=words.number(found["days"], 2)))]
    if found["saved_a_day"] is not None:
        rows += [(words("saved_a_day"), words.duration(found["saved_a_day"]))]
    money = found["money"] or {}
    unit = f"\u202f{money['currency']}" if money.get("currency") else ""
    for name in ("spent", "a_solve", "a_prediction", "saved_a_day"):
        if money.get(name) is not None:
            rows += [(words(f"money.{name}"), f"{words.number(money[name], 3)}{unit}")]
    return rows
