"""How far a single prediction may be trusted: bounds that hold, and inputs that are flagged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mno.report.section import Section, render
from mno.report.sections.trust.bounds import bounds_figure
from mno.surrogate.trust.bounds import MEASURES
from mno.surrogate.trust.trust import Rate, Trust

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.results import Results

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
        "trust/section.html.j2",
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
