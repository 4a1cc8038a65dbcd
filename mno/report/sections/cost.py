"""What predictions cost beside solving, and when the surrogate has paid for itself."""

import math
from typing import Any

from matplotlib.axes import Axes

from mno.core.absent import Absent
from mno.report import style
from mno.report.language import Known, Rows, Words, unknown
from mno.report.page import Block, Facts, Figure, Results, Section, Table, figure_of, section_of
from mno.report.sections.accuracy import between


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where no cost was measured.

    Its figure shows times, which differ from run to run, so it is not among the files.
    """
    cost, decision = results.cost, results.decision
    if not (cost and decision):
        return None
    pays, why = decision["break_even"], unknown(decision["break_even"], words)
    return section_of(
        words,
        words("measured_here"),
        Table(words(f"price.{results.schema.part}"), _prices(pays, words), _heads(pays, words)),
        words("pays_why", why=why) if why else None,
        *_tools(results, words),
        _equal_error_figure(cost["equal_error"], words),
        Facts(words("caption"), _facts(cost, pays, words)),
        *(
            words(f"absent.{name}", why=words.why(cost[name]))
            for name in ("solver", "equal_error")
            if isinstance(cost[name], Absent)
        ),
        _spent(cost, words),
        words("estimate"),
        kept=False,
    )


def plant_hours(solves: int, pays: Known, words: Words, key: str = "cost.price.plant") -> str:
    """Return how many hours of plant time so many answers cover, in brackets, where known."""
    if not (covered := pays.get("plant_seconds")):
        return ""
    return words(key, hours=words.number(solves * covered / 3600, 2))


def _heads(pays: Known, words: Words) -> list[str]:
    source = pays["solver_source"] or "measured"
    heads = ("price.model", f"price.solver.{source}", "price.cheaper", "price.after")
    return [words(head) for head in heads]


def _prices(pays: Known, words: Words) -> list[dict[str, str]]:
    """Return how it is asked, model's and solver's time of an answer, ratio, and when it pays."""
    solve, batch = pays["solver_seconds"], pays["batch"]
    ways = {
        words("price.alone"): pays,
        words("price.batch", batch=words.number(batch["samples"])): batch,
        words("price.of_readings"): pays["readings"],
    }
    rows = []
    for asked, found in ways.items():
        if not found:
            continue
        seconds, solves = found["surrogate_seconds"], found["solves"]
        said = [words.duration(seconds), "–", "–", words("price.unknown")]
        if solve is not None:
            said[1:3] = [words.duration(solve), words.number(solve / seconds, 2)]
            said[3] = words("price.never") if seconds >= solve else said[3]
        if solves is not None:
            said[3] = words("price.questions", solves=words.number(solves))
            said[3] += plant_hours(solves, pays, words)
        heads = zip(_heads(pays, words), said, strict=True)
        rows.append({words("price.asked"): asked, **dict(heads)})
    return rows


def _tools(results: Results, words: Words) -> list[Block]:
    """Return the table of tools, the least error first, and sentences on those there are not."""
    cost, metrics = results.cost, results.metrics
    tools = [tool for tool in cost.get("tools", ()) if "error" in tool]
    none = [
        words("tools.none", tool=words(f"tools.{tool['name']}"), why=words.why(tool["why"]))
        for tool in cost.get("tools", ())
        if "why" in tool
    ]
    if not tools:
        return [*none]
    spent = cost["spent"]["train"]
    model = {
        "name": "model", "error": metrics["relative_l2"], "ms": cost["latency_ms"],
        "interval": metrics.get("intervals", {}).get("relative_l2"),
        "seconds": spent if isinstance(spent, Absent) else spent["cpu_seconds"],
    }  # fmt: skip
    rows = []
    for tool in sorted([model, *tools], key=lambda tool: tool["error"]):
        made, ends = tool["seconds"], between(tool["interval"], words.percent)
        rows.append(
            {
                words("tools.tool"): words(f"tools.{tool['name']}"),
                words("tools.error"): f"{words.percent(tool['error'])} {ends}".rstrip(),
                words("tools.answer"): words.duration(1e-3 * tool["ms"]),
                words("tools.make"): _seconds(made, words),
            }
        )
    numbers = tuple(rows[0])[1:]
    return [Table(words("tools.caption"), rows, numbers), words("tools.on_components"), *none]


def _seconds(found: float | Absent, words: Words) -> str:
    return words.why(found) if isinstance(found, Absent) else words.duration(found)


def _facts(cost: Known, pays: Known, words: Words) -> Rows:
    """Return what else is known of time, memory and money."""

    def mebibytes(size: float | Absent) -> str:
        return words.why(size) if isinstance(size, Absent) else f"{words.number(size, 3)} MiB"

    rows = [(words("latency_p95"), words.duration(1e-3 * cost["latency_p95_ms"]))]
    if not isinstance(cost["solver"], Absent):
        ends = (words.duration(1e-3 * cost["solver"][key]) for key in ("ms", "p95_ms"))
        rows.append((words("solve"), words("solve_of", median=next(ends), p95=next(ends))))
    if pays["solver_source"] == "given":
        rows.append((words("given"), words.duration(pays["solver_seconds"])))
    rows.append((words("memory"), mebibytes(cost["peak_memory_mib"])))
    if not isinstance(cost["solver"], Absent):
        rows.append((words("solver_memory"), mebibytes(cost["solver_memory_mib"])))
    rows += [(words(name), words.number(cost[name])) for name in ("flops", "parameters")]
    if pays["days"] is not None:
        rows.append((words("pays_in"), words("days", days=words.number(pays["days"], 2))))
    if pays["saved_a_day"] is not None:
        rows.append((words("saved_a_day"), words.duration(pays["saved_a_day"])))
    money = pays["money"] or {}
    for name in ("spent", "a_solve", "a_prediction", "saved_a_day"):
        if money.get(name) is not None:
            said = f"{words.number(money[name], 3)} {money.get('currency') or ''}".rstrip()
            rows.append((words(f"money.{name}"), said))
    return rows


def _spent(cost: Known, words: Words) -> Table:
    heads = [words(f"spent.{key}") for key in ("stage", "clock", "cores", "energy")]
    rows = []
    for stage, found in cost["spent"].items():
        said = [words.why(found), "–", "–"] if isinstance(found, Absent) else [
            words.duration(found["seconds"]), words.duration(found["cpu_seconds"]),
            f"{words.number(found['watt_hours'], 2)} Wh",
        ]  # fmt: skip
        rows.append(dict(zip(heads, [words(f"stage.{stage}"), *said], strict=True)))
    return Table(words("spent.caption"), rows, heads[1:])


def _equal_error_figure(compared: Known | Absent, words: Words) -> Figure | None:
    if isinstance(compared, Absent):
        return None
    drawn = style.curves(lambda ax: _draw_equal_error(ax, compared, words))
    told: Any = {name: words.number(compared[name]) for name in ("problems", "reference")}
    error = words.percent(compared["model"]["error"])
    key = "settings" if compared.get("by") == "settings" else "grids"
    return figure_of("equal_error", words, key, drawn, error=error, **told)


def _draw_equal_error(ax: Axes, compared: Known, words: Words) -> None:
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
    ax.yaxis.set_minor_formatter(style.PER_CENT)
    style.grid(ax, "both", "both")
    style.finish(ax, words("grids.time"), words("grids.error"), per_cent="y", narrow=1)
