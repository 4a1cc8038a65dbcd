"""The tables and the figure of docs/resolution.md, and the long ones of results/resolution.md."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from benchmarks.resolution.cells import Cell
from mno.core.files import write_bytes, write_text
from mno.report.style import house_style, new_figure, png_bytes

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "resolution.md"
FIGURE = DOCS / "assets" / "resolution.png"
ALL = Path(__file__).parents[1] / "results" / "resolution.md"
ABOUT = """# Resolution, all tables

Written by `python -m benchmarks.resolution`; docs/resolution.md says what they mean. Test errors
are relative L2, the mean over seeds with the lowest and the highest."""
TITLES = {
    "space": "Darcy flow, trained on {}",
    "walls": "the same, told of the walls",
    "time": "driven in time, trained on {} frames",
}
COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#009e73", "#e69f00", "#6b6b6b", "#cc79a7")


def write(cells: list[Cell]) -> None:
    """Write all tables, put the short ones between the page's marks, and draw the figure."""
    tasks = {task: [cell for cell in cells if cell["task"] == task] for task in TITLES}
    tables = (f"## {task.capitalize()}\n\n{table(some)}" for task, some in tasks.items())
    write_text(ALL, "\n\n".join((ABOUT, *tables)) + "\n")
    print(f"All tables: {ALL}")
    text = PAGE.read_text(encoding="utf-8")
    short = {
        "space": short_table({"": tasks["space"], ", told": tasks["walls"]}, ["64 x 64"]),
        "time": short_table({"": tasks["time"]}, ["16", "64", "irregular"]),
    }
    for task, lines in short.items():
        start, end = f"<!-- {task} -->", f"<!-- end of {task} -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{lines}\n{end}{rest.partition(end)[2]}"
    write_text(PAGE, text)
    FIGURE.parent.mkdir(exist_ok=True)
    write_bytes(FIGURE, _figure(cells))


def table(cells: list[Cell]) -> str:
    """Return the test errors of one task as a table, with means and ranges over seeds."""
    rows = _by_row(cells)
    grids = list(next(iter(rows.values()))[0])
    sizes = {cell["model"]: cell["parameters"] for cell in cells}
    head = ["model", "parameters", *grids, *(_over(grid, grids[0]) for grid in grids[1:])]
    lines = [
        [
            _label(name, how),
            f"{sizes[name]:,}",
            *(_error(seeds, grid) for grid in grids),
            *(_ratio(seeds, grid, grids[0]) for grid in grids[1:]),
        ]
        for (name, how), seeds in rows.items()
    ]
    return _markdown(head, lines)


def short_table(parts: dict[str, list[Cell]], others: list[str]) -> str:
    """Return errors on the grid of training, and the ratios of parts on others to them.

    Of the simplified rule only what is scaled.
    """
    by_part = {part: _by_row(cells) for part, cells in parts.items()}
    rows = next(iter(by_part.values()))
    first = next(iter(rows[next(iter(rows))][0]))
    columns = [first, *(_over(other, first) + part for part in parts for other in others)]
    lines = []
    for name, how in rows:
        if "simplified" in name and how != "scaled":
            continue
        ratios = [
            _ratio(of[name, how], other, first) for of in by_part.values() for other in others
        ]
        lines.append([_label(name, how), _error(rows[name, how], first), *ratios])
    return _markdown(["model", *columns], lines)


def _over(grid: str, first: str) -> str:
    return f"{grid} / {first}"


def _error(seeds: list[dict[str, float]], grid: str) -> str:
    return _spread([100 * seed[grid] for seed in seeds], " %")


def _ratio(seeds: list[dict[str, float]], grid: str, first: str) -> str:
    return _spread([seed[grid] / seed[first] for seed in seeds])


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def _by_row(cells: list[Cell]) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Test errors of all seeds, by model and by whether steps are scaled."""
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        for how, errors in cell["errors"].items():
            rows.setdefault((cell["model"], how), []).append(errors["test"])
    return rows


def _label(name: str, how: str) -> str:
    return name if how == "scaled" else f"{name}, not scaled"


def _spread(values: list[float], unit: str = "") -> str:
    return f"{mean(values):.2f}{unit} ({min(values):.2f} to {max(values):.2f})"


def _figure(cells: list[Cell]) -> bytes:
    with house_style():
        figure = new_figure(11.0, 5.0)
        for task, axes in zip(TITLES, figure.subplots(1, 3, sharey=True), strict=True):
            rows = _by_row([cell for cell in cells if cell["task"] == task])
            names = list(dict.fromkeys(name for name, _ in rows))
            grids = list(next(iter(rows.values()))[0])
            order = sorted(grids, key=_size)  # what has no size stands last
            sized = [grid for grid in order if _size(grid) < float("inf")]
            for (name, how), seeds in rows.items():
                line = "-" if how == "scaled" else ":"
                style = {"color": COLOURS[names.index(name)], "label": _label(name, how)}
                _errors(axes, sized, seeds, linestyle=line, **style)
                # No line leads to what is not finer or coarser.
                _errors(axes, order[len(sized) :], seeds, linestyle="none", color=style["color"])
            axes.margins(x=0.15)
            axes.set_title(TITLES[task].format(grids[0]))
            axes.set_yscale("log")
            axes.set_yticks([3, 5, 10, 20, 50], ["3 %", "5 %", "10 %", "20 %", "50 %"])
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("frames" if task == "time" else "points")
        space, _, time = figure.axes
        space.set_ylabel("relative L2 error")
        parts = [axes.get_legend_handles_labels() for axes in (space, time)]
        handles, labels = (sum(each, []) for each in zip(*parts, strict=True))
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        return png_bytes(figure)


def _errors(axes: Axes, grids: list[str], seeds: list[dict[str, float]], **style: Any) -> None:
    """Draw the mean over seeds and its spread, in percent, for each grid."""
    values = [[100 * seed[grid] for seed in seeds] for grid in grids]
    middle = [mean(each) for each in values]
    below = [m - min(each) for m, each in zip(middle, values, strict=True)]
    above = [max(each) - m for m, each in zip(middle, values, strict=True)]
    axes.errorbar(
        grids, middle, (below, above), marker="o", markersize=4, capsize=2, linewidth=1.4, **style
    )


def _size(grid: str) -> float:
    return float(grid.split()[0]) if grid[0].isdigit() else float("inf")
