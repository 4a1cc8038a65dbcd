"""How far a single prediction may be trusted: bounds that hold, and inputs that are flagged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mno.report.page import Figure, Section, curve_figure, render
from mno.report.style import PER_CENT, REFERENCE_COLOUR, draw_legend
from mno.surrogate.trust.bounds import MEASURES
from mno.surrogate.trust.trust import Pairs, Rate, Trust

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.report.language import Words
    from mno.report.page import Results


_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's

Points = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Bounds and errors of the samples that have both, by what the field is called."""


def bounds_figure(
    pairs: Mapping[str, Pairs], names: Mapping[str, str], words: Words
) -> Figure | None:
    """Return the figure; none where no sample has both a bound and an error.

    Args:
        pairs: Errors and bounds of test samples, by field.
        names: What fields are called.
        words: Those of the section.
    """
    points = {names[name]: _points(found) for name, found in pairs.items()}
    points = {name: both for name, both in points.items() if len(both[0])}
    if not points:
        return None
    samples = sum(len(bounds) for bounds, _ in points.values())
    held = sum(int((errors <= bounds).sum()) for bounds, errors in points.values())
    covered = words("figure.covered", held=held, samples=samples)
    return curve_figure(
        "error_bounds",
        words("figure.title"),
        words("figure.caption", covered=covered),
        words("figure.alt", samples=samples, covered=covered),
        lambda ax: _draw_bounds(ax, points, words),
    )


def _draw_bounds(ax: Axes, points: Points, words: Words) -> None:
    """Draw each sample's error above its bound, with the diagonal below which the bound held."""
    for index, (name, (bounds, errors)) in enumerate(points.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        ax.plot(bounds, errors, ".", ms=4, alpha=0.6, color=colour, label=name)
    ends = np.concatenate([values for both in points.values() for values in both])
    most = 1.05 * float(ends.max()) or 1.0
    label = words("figure.diagonal")
    ax.plot([0.0, most], [0.0, most], color=REFERENCE_COLOUR, lw=1.2, label=label)
    ax.set_xlim(0.0, most)
    ax.set_ylim(0.0, most)
    ax.xaxis.set_major_formatter(PER_CENT)
    ax.yaxis.set_major_formatter(PER_CENT)
    ax.set_xlabel(words("figure.bound"))
    ax.set_ylabel(words("figure.error"))
    draw_legend(ax)


def _points(found: Pairs) -> tuple[np.ndarray, np.ndarray]:
    both = [
        (bound, error)
        for bound, error in zip(found.bound, found.error, strict=True)
        if bound is not None and error is not None
    ]
    bounds, errors = np.array(both, dtype=np.float64).reshape(-1, 2).T
    return bounds, errors


_KINDS = ("noise", "scaled", "constant", "shuffled", "dead")


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing was calibrated."""
    if not results.trust:
        return None
    trust = Trust.model_validate_json(json.dumps(results.trust))
    if trust.measured is None:
        return None
    names = {field.name: field.long_name for field in results.schema.outputs}
    units = {field.name: field.units for field in results.schema.outputs}
    figure = bounds_figure(trust.measured.pairs, names, words)
    body = render(
        "trust",
        words,
        figures=(figure,) if figure else (),
        verdict=_verdict(trust, words),
        level=words.percent(trust.level),
        bounds=[
            _bound_row(trust, name, kind, names[name], units[name], words)
            for name, by_measure in trust.bounds.items()
            for kind in by_measure
        ],
        alarms=_alarm_rows(trust, words),
        notes=_notes(trust, words),
    )
    return Section("trust", words("title"), body, (figure,) if figure else ())


def _verdict(trust: Trust, words: Words) -> str:
    """Say first whether bounds hold as stated."""
    assert trust.measured is not None  # noqa: S101  (else there is no section)
    rates = [by_measure["relative_l2"][0] for by_measure in trust.measured.coverage.values()]
    known = [(rate.rate, rate.expected) for rate in rates if rate and rate.rate and rate.expected]
    if not known:
        return words("verdict.none")
    rate, (low, high) = max(known, key=lambda one: abs(one[0] - trust.level))
    key = "narrow" if rate < low else "wide" if rate > high else "sound"
    return words(f"verdict.{key}", rate=words.percent(rate), level=words.percent(trust.level))


def _bound_row(
    trust: Trust, name: str, kind: str, label: str, units: str, words: Words
) -> tuple[str, str, str, str, str]:
    """Return field, measure, typical bound, coverage, and what was to be expected of it.

    Of a state with a bound for each frame, bound and coverage are those of the last frame.
    """
    assert trust.measured is not None  # noqa: S101  (else there is no section)
    measure, values = MEASURES[kind], trust.bounds[name][kind].values
    value, last = values[-1], words("last_frame") if len(values) > 1 else ""
    typical = words("no_bound")
    if value is not None:
        unit = f" {units}" if units != "1" else ""
        typical = f"{words.number(value, 3)}{unit}" if measure.physical else words.percent(value)
    rate = trust.measured.coverage[name][kind][-1]
    expected = words("not_measured")
    if rate is not None and rate.expected is not None:
        low, high = (words.percent(end) for end in rate.expected)
        expected = words("range", low=low, high=high)
    return (label, words(f"measure.{kind}") + last, typical, _rate(rate, words), expected)


def _alarm_rows(trust: Trust, words: Words) -> list[tuple[str, str, str]]:
    """Return kinds of inputs, how many were flagged, and how many were missed."""
    assert trust.measured is not None  # noqa: S101  (else there is no section)
    usual = (
        words("alarms.usual"),
        _rate(trust.measured.false_alarms, words),
        words("alarms.false"),
    )
    others = []
    for kind, rate in trust.measured.outside.items():
        missed = words("not_measured")
        if rate.rate is not None:
            missed = words("alarms.missed", rate=words.percent(1.0 - rate.rate))
        known = kind in _KINDS
        label = words(f"kind.{kind}") if known else words("kind.changed", change=words.name(kind))
        others.append((label, _rate(rate, words), missed))
    return [usual, *others]


def _rate(rate: Rate | None, words: Words) -> str:
    if rate is None or rate.rate is None:
        return words("not_measured")
    return words(
        "rate",
        rate=words.percent(rate.rate),
        low=words.percent(rate.low),
        high=words.percent(rate.high),
        count=rate.count,
        samples=rate.samples,
    )


def _notes(trust: Trust, words: Words) -> list[str]:
    """Return what limits the figures."""
    calibrated = min(b.calibrated_on for f in trust.bounds.values() for b in f.values())
    used = sorted(
        {name for f in trust.bounds.values() for b in f.values() for name in b.scale.factors}
    )
    notes = [words("notes.calibrated", samples=calibrated)]
    if used:
        notes.append(words("notes.scaled", by=words.list(words(f"signal.{name}") for name in used)))
    else:
        notes.append(words("notes.constant"))
    if trust.likeness.threshold is None:
        notes.append(words("notes.no_threshold"))
    else:
        notes.append(words("notes.threshold", rate=words.percent(trust.likeness.false_alarm_rate)))
    if trust.no_residual:
        notes.append(words("notes.no_residual"))
    notes.append(words("notes.no_solver" if trust.no_solver else "notes.solver"))
    return notes
