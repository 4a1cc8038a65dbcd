"""The page of a search: the winner, how it compares, what mattered, and every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from optuna.visualization import matplotlib as plots

from mno.core.numbers import number, percent
from mno.report.page import Figure
from mno.report.style import HEIGHT, NARROW, PER_CENT, png_bytes
from mno.study.drawing import drawn
from mno.study.report import Section, Table, write_report
from mno.study.search_space import SearchSpec
from mno.study.statistics import LEVEL, mean_with_interval
from mno.study.trials import (
    DEFAULT,
    IMPORTANCE,
    STATES,
    WINNER,
    Confirmation,
    TrialRecord,
    Trials,
    records_of,
)

FOLDER = Path("reports/tune")
_NONE = "–"
_LISTED = 50
_ERROR = "validation error"
HOW = (
    "Errors are relative L2 on the validation split, of each training's best epoch. The test split "
    "was not opened: it judges the winner once it is trained by the line. The lowest of many "
    "validation errors is too low a guess of the winner's own, so it is compared with the default "
    "by trainings with seeds that chose nothing."
)


def write_search_report(
    root: Path, name: str, trials: Trials, confirmation: Confirmation, numbers: Mapping[str, Any]
) -> Path:
    """Write the page of a search, self-contained, with Markdown and JSON beside it.

    Args:
        root: The workspace.
        name: Of the search.
        trials: One of them is done.
        confirmation: Winner against default.
        numbers: The same for programs.

    Returns:
        The path of the page.

    Raises:
        OSError: The folder cannot be written to.
    """
    records, shares, spec = records_of(trials), trials.importances(), trials.spec
    done = sorted((r for r in records if r.state == "done"), key=lambda r: r.error or 0.0)
    others = [r for r in records if r.state != "done"]
    states = ", ".join(f"{n} {state}" for state, n in counted(records).items() if n)
    mattered = [{"parameter": k, "share": percent(v)} for k, v in shares.items()]
    more = len(records) - _LISTED
    left_out = f"; {more} more are in report.json" if more > 0 else ""
    rows = [_row(record) for record in [*done, *others][:_LISTED]]
    sections = [
        _winner_section(done[0], confirmation),
        Section(
            "trials", "The search", [f"Trials: {states}."],
            [Table("What mattered", mattered)] if shares else [],
            _figures(trials, shares) if len(done) > 1 else [],
        ),
        Section("all", "Trials", [], [Table(f"The best first{left_out}", rows)]),
        Section("how", "How it was measured", [HOW, _rules(spec)]),
    ]  # fmt: skip
    question = "Which parameters have the lowest validation error?"
    folder = root / FOLDER / name
    return write_report(folder, spec.title, question, [], sections, numbers, "trials")


def counted(records: Sequence[TrialRecord]) -> dict[str, int]:
    """Return how many trials there are of each state."""
    counts = Counter(record.state for record in records)
    return {state: counts[state] for state in STATES}


def _figures(trials: Trials, shares: Mapping[str, float]) -> list[Figure]:
    """Draw what Optuna draws of its trials."""
    study, names = trials.study, ", ".join(trials.spec.space)
    best = trials.best
    lowest = "" if best is None else f"; the lowest is {best.value:.2%}"
    found = [
        _figure(
            "best_so_far", "The best so far",
            "Validation error of every finished trial, and the lowest until then.",
            f"Validation errors of {len(trials.done)} trials{lowest}.",
            lambda: plots.plot_optimization_history(study, target_name=_ERROR), "log",
        ),
        _figure(
            "slices", "Error along each parameter",
            "Finished trials as dots, later ones darker. All other parameters differ from dot to "
            "dot, so read trends, not differences.",
            f"Validation error against each of {names}.",
            lambda: plots.plot_slice(study, target_name=_ERROR), "log",
        ),
        _figure(
            "parallel", "Trials in parallel coordinates",
            "A line is a trial; the darker, the lower its error.",
            f"Trials as lines across {names} and the error.",
            lambda: plots.plot_parallel_coordinate(study, target_name=_ERROR), None,
        ),
    ]  # fmt: skip
    if shares:
        mattered = _figure(
            "importances", "What mattered",
            "Each parameter's share in how far the best trials gather, by PED-ANOVA; of few "
            "trials it is a hint.",
            "; ".join(f"{name} {share:.0%}" for name, share in shares.items()),
            lambda: plots.plot_param_importances(study, evaluator=IMPORTANCE()), None,
        )  # fmt: skip
        found.insert(1, mattered)
    return found


def _figure(
    name: str, title: str, caption: str, alt: str, plot: Callable[[], Any], scale: str | None
) -> Figure:
    def draw(width: float) -> bytes:
        pyplot.switch_backend("agg")
        axes = np.atleast_1d(plot())
        for ax in axes:
            for place in ("left", "center"):
                ax.set_title("", loc=place)
            if scale:
                ax.set_yscale(scale)
                ax.yaxis.set_major_formatter(PER_CENT)
                ax.yaxis.set_minor_formatter(PER_CENT)
        figure = axes[0].get_figure()
        figure.suptitle("")
        figure.set_size_inches(width * (1 if width > NARROW else 1.2), HEIGHT)
        try:
            with pyplot.rc_context({"savefig.bbox": "tight"}):
                return png_bytes(figure)
        finally:
            pyplot.close(figure)

    return drawn(name, title, caption, alt, draw)


def _winner_section(winner: TrialRecord, confirmation: Confirmation) -> Section:
    said = "No trial has a lower validation error than the default: it is the winner."
    rows = [{"parameter": key, "value": _value(value)} for key, value in winner.point.items()]
    tables = [Table(f"The winner, trial {winner.number}", rows)]
    confirmed = [
        {
            "model": name,
            "validation error": mean_with_interval(list(errors.values())).text(
                _percent, least=0.0, label=f"{LEVEL:.0%} interval "
            ),
            "seeds": ", ".join(f"{seed}: {_percent(error)}" for seed, error in errors.items()),
        }
        for name, errors in ((WINNER, confirmation.winner), (DEFAULT, confirmation.default))
        if errors
    ]
    if confirmation.winner:
        tables.append(Table("With seeds that chose nothing", confirmed))
    paragraphs = [
        said if winner.is_default else confirmation.sentence(),
        f"Its trial has a validation error of {_percent(winner.error)}.",
    ]
    return Section("winner", "The winner", paragraphs, tables)


def _row(record: TrialRecord) -> dict[str, str]:
    parameters = record.figures.get("parameters")
    return {
        "trial": str(record.number) + (" (default)" if record.is_default else ""),
        "validation error": _percent(record.error),
        **{key.split(".")[-1]: _value(value) for key, value in record.point.items()},
        "epochs": str(len(record.epochs)),
        "parameters": _NONE if parameters is None else number(int(parameters)),
        "remarks": record.reason or (_NONE if record.state == "done" else record.state),
    }


def _rules(spec: SearchSpec) -> str:
    limits = [
        f"{key.replace('_', ' ')} at most {value:g}"
        for key, value in spec.limits.model_dump().items()
        if value is not None
    ]
    bounds = f" Limits: {', '.join(limits)}." if limits else ""
    return (
        f"Sampler {spec.sampler}, pruner {spec.pruner}, seed {spec.seed}; every training has the "
        f"seed of the line.{bounds}"
    )


def _percent(error: float | None) -> str:
    return _NONE if error is None else f"{100 * error:.3g} %"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
