"""How far a single prediction may be trusted: bounds that hold, and inputs that are flagged."""

import json
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from mno.core.fields import Field
from mno.report.language import Words
from mno.report.page import Figure, Results, Section, figure_of, section_of
from mno.report.style import HEIGHT, MANY_COLOURS, REFERENCE_COLOUR, curves, finish
from mno.surrogate.trust.bounds import MEASURES
from mno.surrogate.trust.trust import Measured, Pairs, Rate, Trust

_NAMED = 3  # outputs that a legend has room for in a figure of the usual height
_LINE = 0.25  # height of a further one, inches
_MARKS = ((".", 4.0), ("^", 3.0), ("s", 2.5))  # and their sizes, where colours come again
_KINDS = ("noise", "scaled", "constant", "shuffled", "dead")

Points = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Bounds and errors of the samples that have both, by what the field is called."""


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing was calibrated."""
    if not results.trust:
        return None
    trust = Trust.model_validate_json(json.dumps(results.trust))
    if (measured := trust.measured) is None:
        return None
    outputs = {field.name: field for field in results.schema.outputs}
    points = {outputs[name].long_name: _points(pairs) for name, pairs in measured.pairs.items()}
    bounds = [bound for by_measure in trust.bounds.values() for bound in by_measure.values()]
    signals = sorted({name for bound in bounds for name in bound.scale.factors})
    return section_of(
        words,
        [_bounds_figure({name: both for name, both in points.items() if len(both[0])}, words)],
        verdict=_verdict(trust, measured, words),
        level=words.percent(trust.level),
        rows=[
            _bound_row(trust, measured, outputs[name], kind, words)
            for name, by_measure in trust.bounds.items()
            for kind in by_measure
        ],
        trust=trust,
        measured=measured,
        kinds=_KINDS,
        said=lambda rate: _rate(rate, words),
        bounds=bounds,
        signals=[words(f"signal.{name}") for name in signals],
    )


def _points(found: Pairs) -> tuple[np.ndarray, np.ndarray]:
    pairs = zip(found.bound, found.error, strict=True)
    both = [(b, e) for b, e in pairs if b is not None and e is not None]
    bounds, errors = np.array(both, dtype=np.float64).reshape(-1, 2).T
    return bounds, errors


def _bounds_figure(points: Points, words: Words) -> Figure | None:
    if not points:
        return None
    samples = sum(len(bounds) for bounds, _ in points.values())
    held = sum(int((errors <= bounds).sum()) for bounds, errors in points.values())
    covered = words("figure.covered", held=held, samples=samples)
    more = max(len(points) - _NAMED, 0)  # lines of the legend that outputs take
    drawn = curves(lambda ax: _draw_bounds(ax, points, words), HEIGHT + _LINE * more)
    return figure_of("error_bounds", words, "figure", drawn, covered=covered, samples=samples)


def _draw_bounds(ax: Axes, points: Points, words: Words) -> None:
    """Draw each sample's error above its bound, with the diagonal below which the bound held."""
    for index, (name, (bounds, errors)) in enumerate(points.items()):
        colour = MANY_COLOURS[index % len(MANY_COLOURS)]
        mark, size = _MARKS[index // len(MANY_COLOURS) % len(_MARKS)]
        ax.plot(bounds, errors, mark, ms=size, alpha=0.6, color=colour, label=name)
    ends = np.concatenate([values for both in points.values() for values in both])
    most = 1.05 * float(ends.max()) or 1.0
    label = words("figure.diagonal")
    ax.plot([0.0, most], [0.0, most], color=REFERENCE_COLOUR, lw=1.2, label=label)
    ax.set_xlim(0.0, most)
    ax.set_ylim(0.0, most)
    columns, narrow = (2, 1) if len(points) > _NAMED else (3, 3)
    x, y = words("figure.bound"), words("figure.error")
    finish(ax, x, y, per_cent="xy", columns=columns, narrow=narrow)


def _verdict(trust: Trust, measured: Measured, words: Words) -> str:
    rates = [by_measure["relative_l2"][0] for by_measure in measured.coverage.values()]
    known = [(rate.rate, rate.expected) for rate in rates if rate and rate.rate and rate.expected]
    if not known:
        return words("verdict.none")
    rate, (low, high) = max(known, key=lambda one: abs(one[0] - trust.level))
    key = "narrow" if rate < low else "wide" if rate > high else "sound"
    return words(f"verdict.{key}", rate=words.percent(rate), level=words.percent(trust.level))


def _bound_row(
    trust: Trust, measured: Measured, field: Field, kind: str, words: Words
) -> tuple[str, ...]:
    """Return field, measure, typical bound (of the last frame), coverage, and the expected one."""
    values = trust.bounds[field.name][kind].values
    value, last = values[-1], words("last_frame") if len(values) > 1 else ""
    typical, expected = words("no_bound"), words("not_measured")
    if value is not None and MEASURES[kind].physical:
        typical = words.number(value, 3) + (f" {field.units}" if field.units != "1" else "")
    elif value is not None:
        typical = words.percent(value)
    rate = measured.coverage[field.name][kind][-1]
    if rate is not None and rate.expected is not None:
        low, high = (words.percent(end) for end in rate.expected)
        expected = words("range", low=low, high=high)
    measure = words(f"measure.{kind}") + last
    return (field.long_name, measure, typical, _rate(rate, words), expected)


def _rate(rate: Rate | None, words: Words) -> str:
    if rate is None or rate.rate is None:
        return words("not_measured")
    shares = {name: words.percent(getattr(rate, name)) for name in ("rate", "low", "high")}
    return words("rate", **shares, count=rate.count, samples=rate.samples)
