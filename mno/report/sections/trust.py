"""How far a single prediction may be trusted: bounds that hold, and inputs that are flagged."""

import json
from collections.abc import Mapping

from mno.core.fields import Field
from mno.report.language import Known, Words
from mno.report.page import Heading, Results, Section, Table, section_of
from mno.surrogate.trust.bounds import MEASURES
from mno.surrogate.trust.trust import Measured, Rate, Trust

_NOTABLE = 1.5  # times the usual error, from which on an alarm is missed if there is none
_KINDS = ("noise", "scaled", "constant", "shuffled", "dead")


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing was calibrated."""
    trust = Trust.model_validate_json(json.dumps(results.trust)) if results.trust else None
    if trust is None or (measured := trust.measured) is None:
        return None
    outputs = {field.name: field for field in results.schema.outputs}
    rows = [_bound_row(trust, measured, outputs[name], words) for name in trust.bounds]
    return section_of(
        words,
        words("explained", level=words.percent(trust.level)),
        Table(words("bounds.caption"), rows),
        Heading(words("alarms.title")),
        words("alarms.explained"),
        Table(words("alarms.caption"), _alarm_rows(results, measured, words)),
        _notes(trust, measured, words),
    )


def _notes(trust: Trust, measured: Measured, words: Words) -> list[str]:
    bounds = [bound for by_measure in trust.bounds.values() for bound in by_measure.values()]
    factors = sorted({name for bound in bounds for name in bound.scale.factors})
    signals = [words(f"signal.{name}") for name in factors]
    rate, samples = trust.likeness.false_alarm_rate, measured.false_alarms.samples
    threshold = "no_threshold" if trust.likeness.threshold is None else "threshold"
    fewest = min((bound.calibrated_on for bound in bounds), default=0)
    return [
        words("notes.calibrated", samples=fewest),
        *([] if measured.split == "test" else [words("notes.drawn", samples=samples)]),
        words("notes.scaled", by=words.list(signals)) if signals else words("notes.constant"),
        words(f"notes.{threshold}", rate=words.percent(rate)),
        words("notes.no_solver" if trust.no_solver else "notes.solver"),
    ]


def _alarm_rows(results: Results, measured: Measured, words: Words) -> list[dict[str, str]]:
    """Return how often each kind of input is flagged, and the error that its predictions have."""
    harms = _harms(results.robustness)
    error = words.percent(results.metrics["relative_l2"])
    rows = [(words("alarms.usual"), measured.false_alarms, error)]
    for kind, rate in measured.outside.items():
        known = kind in _KINDS
        name = words(f"kind.{kind}") if known else words("kind.changed", change=words.name(kind))
        error = "–"
        if kind in harms:
            before, after = harms[kind]
            times = words.number(after / before if before else float("nan"), 2)
            error = words("alarms.harm", error=words.percent(after), times=times)
            if after > _NOTABLE * before and (rate.rate or 0.0) < 0.5:
                error = f"✗ {error}"
        rows.append((name, rate, error))
    heads = [words(f"alarms.{key}") for key in ("inputs", "flagged", "error")]
    return [
        dict(zip(heads, (name, _rate(rate, words), error), strict=True))
        for name, rate, error in rows
    ]


def _harms(robustness: Known) -> dict[str, tuple[float, float]]:
    """Return the model's error without and with what the robustness tried, by kind of alarm."""
    found = {}
    for part, names in (("noise", {0.1: "noise"}), ("outside", None)):
        curve = robustness.get(part)
        if isinstance(curve, Mapping) and "level" in curve:
            errors = curve["relative_l2"]["model"]["mean"]
            for level, error in zip(curve["level"], errors, strict=True):
                name = level if names is None else names.get(level)
                if name is not None:
                    found[name] = (errors[0], error)
    return found


def trust_verdict(results: Results, words: Words) -> tuple[bool, str] | None:
    """Return whether bounds are no narrower than promised, and a sentence; none without trust."""
    trust = Trust.model_validate_json(json.dumps(results.trust)) if results.trust else None
    if trust is None or (measured := trust.measured) is None:
        return None
    rates = [by_measure["relative_l2"][0] for by_measure in measured.coverage.values()]
    known = [(r.rate or 0.0, r.expected) for r in rates if r and r.samples and r.expected]
    if not known:
        return False, words("verdict.none")
    rate, (low, high) = min(known)  # of the field whose bound holds least
    key = "narrow" if rate < low else "wide" if rate > high else "sound"
    shares = {"rate": rate, "level": trust.level, "low": low, "high": high}
    said = words(f"verdict.{key}", **{name: words.percent(v) for name, v in shares.items()})
    return key != "narrow", said


def _bound_row(trust: Trust, measured: Measured, field: Field, words: Words) -> dict[str, str]:
    """Return a field, its typical bounds (of the last frame), and the least coverage of them."""
    row, found = {words("bounds.field"): field.long_name}, []
    for kind, bound in trust.bounds[field.name].items():
        value, typical = bound.values[-1], words("no_bound")
        if value is not None and MEASURES[kind].physical:
            typical = words.number(value, 3) + (f" {field.units}" if field.units != "1" else "")
        elif value is not None:
            typical = words.percent(value)
        row[words(f"measure.{kind}")] = typical
        rate = measured.coverage[field.name][kind][-1]
        if rate is not None and rate.rate is not None:
            found.append((rate.rate, rate))
    least = min(found, key=lambda one: one[0])[1] if found else None
    expected = words("not_measured")
    if least is not None and least.expected is not None:
        low, high = (words.percent(end) for end in least.expected)
        expected = words("range", low=low, high=high)
    return row | {words("bounds.held"): _rate(least, words), words("bounds.expected"): expected}


def _rate(rate: Rate | None, words: Words) -> str:
    if rate is None or rate.rate is None:
        return words("not_measured")
    shares = {name: words.percent(getattr(rate, name)) for name in ("rate", "low", "high")}
    return words("rate", **shares, count=rate.count, samples=rate.samples)
