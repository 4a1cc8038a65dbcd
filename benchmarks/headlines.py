"""The table and the chart of docs/benchmarks.md, from what is in `results/`: losses first.

`python -m benchmarks.headlines` writes them without running anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.page import RESULTS, Table, figure
from mno.core.files import write_bytes, write_text
from mno.report.style import PREDICTION_COLOUR, TRUTH_COLOUR, house_style, new_figure, png_bytes

DOCS = Path(__file__).parents[1] / "docs"
PAGE, CHART = DOCS / "benchmarks.md", DOCS / "assets" / "benchmarks.png"
MARKS = "<!-- headlines -->\n", "<!-- end of headlines -->"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
PROCESSORS = {"not kept": "either", "Xeon": "Xeon", "EPYC": "EPYC"}

At = Callable[..., float]


class Headline(NamedTuple):
    """One ratio: the other's time, memory or error by ours, so that below one we lose."""

    what: str
    against: str
    benchmark: str
    ratio: Callable[[At], float]
    asked: float | None = None


LATE, FORWARD = "**The first 12", "**Forward pass alone"
LENGTHS = "256", "1,024", "4,096", "16,384", "65,536"


def of(*names: str, by: tuple[str, ...] = (), after: str = "") -> Callable[[At], float]:
    """Return a ratio: of one place in the tables, by that of another if there is one."""
    return lambda at: at(*names, after=after) / (at(*by, after=after) if by else 1)


def limit(asked: float, *names: str) -> Callable[[At], float]:
    """Return a ratio: of what was asked, or of the other's one, by a place in the tables."""
    return lambda at: asked / at(*names)


def evenness(at: At) -> float:
    """Return 1.25 by how far the scan's times per element are apart."""
    times = [at(length, "ns per element") for length in LENGTHS]
    return 1.25 * min(times) / max(times)


ALL = "with all before"
CORE, FILTER = "core, K", "ensemble filter"
LAPACK, COARSE = ("the solver, by LAPACK", ALL), ("two coarser meshes", ALL)
FNO, KEPT = "FNO", "`splu`, same scheme, factors once"
CLIENTS, OURS_LATE = "ours, JSON, 32 clients", ("observer", CORE)
SCANS, CACHED, ATTENTION = "plain/mamba", "attention, cached", "softmax attention"
COOKIES = "400 x 400", "849 (137)", "less 0.0642024"
HEADLINES = (
    Headline("observer, error at the core", FILTER, "observer",
             of(FILTER, CORE, by=OURS_LATE, after=LATE), 1 / 1.1),
    Headline("observer, time of a reading", FILTER, "observer",
             of(FILTER, "ms a reading", by=("observer", "ms a reading"), after=LATE)),
    Headline("observer, error at the core", "Kalman filter", "observer",
             of("Kalman filter", CORE, by=OURS_LATE), 2),
    Headline("mean over cookies, error", "1e-6", "cookies", limit(1e-6, *COOKIES), 1),
    Headline("training step with scans, memory", FNO, "models", limit(1, SCANS, "memory / FNO's")),
    Headline("training step with scans, time", FNO, "models", limit(1, SCANS, "time / FNO's")),
    Headline("training step, Galerkin", "its attention", "models",
             limit(1, "galerkin", "time, 64 x 64")),
    Headline("import of 4 GiB", "h5py's copy", "importing",
             limit(1, "import", "by the copy's"), 1 / 3),
    Headline("furnace section", "`splu`, factors kept", "furnace", of(KEPT, "ratio")),
    Headline("scan, time per element", "1.25 times", "scan", evenness, 1),
    Headline("one reading in, all out", "1 ms", "stream", limit(1, "softmax", "lean, ms"), 1),
    Headline("reading after 10,000", CACHED, "stream", of("10,000", "ratio")),
    Headline("answer of an ONNX file, scan", "torch", "portable",
             limit(1, "scan, axial", "64 x 64", "ratio"), 1 / 10),
    Headline("answer of an ONNX file, SSD", "torch", "portable",
             limit(1, "SSD, axial", "64 x 64", "ratio"), 1 / 2),
    Headline("mixer, 1,024 points", ATTENTION, "mixer", of("1,024", "ratio"), 1),
    Headline("mixer, 8,192 points", ATTENTION, "mixer", of("8,192", "ratio")),
    Headline("requests, 64 × 64", "MLflow's server", "serving", of("64 x 64", CLIENTS, "ratio"), 3),
    Headline("requests, 24 × 24", "MLflow's server", "serving", of("24 x 24", CLIENTS, "ratio"), 3),
    Headline("draws of 64 blocks", "banded Cholesky, LAPACK", "aristoff_bangerth",
             of(*LAPACK, by=COARSE), 3),
    Headline("batch furnace", "scipy, BDF2", "batch_furnace",
             of("scipy, BDF2, diagonal", "144", "ratio")),
    Headline("Darcy, 128 × 128", "scipy's `splu`", "darcy", of("128 x 128", "ratio")),
    Headline("Navier–Stokes, 128 × 128", "numpy", "navier_stokes", of("128 x 128", "ratio")),
    Headline("shallow water", "PyClaw", "shallow_water",
             of("PyClaw, one axis after the other", "its time by ours")),
    Headline("diffusion–reaction", "scipy's RK45", "diffusion_reaction",
             of("RK45, slices", "its time by ours")),
    Headline("Burgers", "scipy's LSODA", "burgers", of("scipy LSODA, rtol=1e-03", "ratio")),
    Headline("samples from files", "zarr-python", "reading",
             of("`diffusion_reaction`", "16", "ratio"), 2),
    Headline("scan, both passes", "mambapy", "scan", of("mambapy's `pscan`", "ratio"), 50),
    Headline("scan, forward", "llama.cpp", "scan", of("ratio", after=FORWARD), 1.5),
)  # fmt: skip


class Missing(Exception):
    """The results do not hold a figure: a peer was not installed."""


def main() -> None:
    """Write the page's table and its chart."""
    rows = measured(RESULTS)
    write_bytes(CHART, chart(rows))
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), rows))


def measured(results: Path) -> list[tuple[Headline, float, str]]:
    """Return each headline with its ratio and processor, losses first; what lacks is left out."""
    rows = []
    for headline in HEADLINES:
        path = results / f"{headline.benchmark}.md"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        try:
            rows.append((headline, headline.ratio(reader(text)), processor_of(text)))
        except Missing:
            continue
    return sorted(rows, key=lambda row: row[1])


def reader(text: str) -> At:
    """Return what finds a number in the tables of a text by cells of its row and its column.

    The first that fits counts, `after` a mark in the text.
    """

    def at(*names: str, after: str = "") -> float:
        *row, column = names
        columns: list[str] = []
        for line in (text if not after else text.partition(after)[2]).splitlines():
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
            if not line.startswith("|"):
                columns = []
            elif not columns:
                columns = cells
            elif column in columns and set(row) <= set(cells):
                found = NUMBER.search(cells[columns.index(column)])
                if found:
                    return float(found.group().replace(",", ""))
        raise Missing(f"no {column!r} of {row}")

    return at


def processor_of(text: str) -> str:
    """Return the short name of the processor that a file of results names."""
    _, _, line = text.partition("- processor: ")
    line = line.partition("\n")[0]
    return next((short for key, short in PROCESSORS.items() if key in line), line)


def filled(page: str, rows: list[tuple[Headline, float, str]]) -> str:
    """Return the page with the table between its marks."""
    start, end = MARKS
    cells = [
        (h.what, h.against, bold(figure(ratio), ratio < (h.asked or 1)),
         "" if h.asked is None else figure(h.asked), processor)
        for h, ratio, processor in rows
    ]  # fmt: skip
    table = Table(("what", "against", "ratio", "asked", "on"), cells).markdown()
    before, _, rest = page.partition(start)
    return f"{before}{start}\n{table}\n\n{end}{rest.partition(end)[2]}"


def bold(text: str, so: bool) -> str:
    """Mark what misses what was asked, or, where nothing was, loses."""
    return f"**{text}**" if so else text


def chart(rows: list[tuple[Headline, float, str]]) -> bytes:
    """Draw the ratios on a logarithmic axis: to the left of one what loses."""
    with house_style():
        picture = new_figure(8.0, 0.21 * len(rows) + 0.8)
        axes = picture.subplots()
        rows = rows[::-1]
        colours = [
            PREDICTION_COLOUR if ratio < (h.asked or 1) else TRUTH_COLOUR for h, ratio, _ in rows
        ]
        axes.barh(range(len(rows)), [ratio - 1 for _, ratio, _ in rows], left=1, color=colours)
        names = [f"{h.what} : {h.against}".replace("`", "") for h, *_ in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.set(
            xscale="log",
            xlabel="the other by ours; orange misses what was asked, or, where nothing was, loses",
        )
        axes.axvline(1, color="black", linewidth=0.8)
        axes.margins(y=0.01)
        axes.grid(axis="x", alpha=0.3)
        return png_bytes(picture)


if __name__ == "__main__":
    main()
