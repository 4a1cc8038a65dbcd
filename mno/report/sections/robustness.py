"""How errors grow on data unlike those of the training, and what predictions do to the physics."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from mno.core.absent import Absent
from mno.evaluation.decision import broken_checks
from mno.report import style
from mno.report.language import Known, Words
from mno.report.page import Block, Figure, Heading, Results, Section, Table, section_of
from mno.report.panels import in_hours, labelled

_LOOKS = {
    "model": (style.PREDICTION_COLOUR, "-"),
    "persistence": (style.TRUTH_COLOUR, "--"),
    "mean_field": (style.REFERENCE_COLOUR, ":"),
}
_MARK: dict[str, Any] = {"color": style.REFERENCE_COLOUR, "lw": 0.8, "alpha": 0.6}
_COLUMNS = ("median", "p95", "largest", "truth")
_WHAT = {"noise": "noise.what", "resolution": "resolution.what", "outside": "outside.what"}
_TRIED = ("noise", "missing", "resolution", "frame_rate", "outside")


class Trial(NamedTuple):
    """The model under one condition: the error before, a curve, and where on it this is."""

    condition: str
    before: float
    curve: Known
    at: int


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where nothing was measured."""
    physics, found = results.metrics.get("physics"), results.robustness
    if not found and physics is None:
        return None
    checked = [] if physics is None else _physics(physics, words)
    rows, notes, over_time = [], [], []
    for name in (*_TRIED, "over_time"):
        if isinstance(tried := found.get(name), Absent):
            notes.append(_not_tried(words(f"kind.{name}"), tried, words))
        elif name == "over_time" and tried:
            over_time = _over_time(tried, words)
        elif tried:
            rows += [_trial_row(trial, words) for trial in _trials(name, tried, words)]
            notes += _notes(name, tried, words)
    numbers = [words(f"tried.{key}") for key in ("error", "times", "guess")]
    table = Table(words("tried.caption"), rows, numbers)
    intro = words("intro") if rows else None
    return section_of(words, *checked, intro, table, notes, *over_time)


def _not_tried(what: str, why: Absent, words: Words) -> str:
    return words("left_out", what=what, reason=words.why(why))


def _trials(name: str, found: Any, words: Words) -> Iterator[Trial]:
    """Yield the conditions of a kind that were tried."""
    if name == "missing":
        for kind in ("random", "block"):
            for at, level in enumerate(found[kind]["level"]):
                if at:
                    said = words(f"missing.{kind}", share=words.percent(level))
                    yield Trial(said, _errors(found[kind])[0], found[kind], at)
        return
    if name == "frame_rate":
        told = "_told" if _is_told(found) else ""
        for kind in ("half", "double"):
            if not isinstance(found[kind], Absent):
                said = words(f"frame_rate.{kind}{told}")
                yield Trial(said, _errors(found[kind])[0], found[kind], 1)
        return
    levels = found["level"]
    own = levels.index(found["trained"]) if name == "resolution" else 0
    for at, level in enumerate(levels):
        if at == own:
            continue
        if name == "noise":
            said = words("noise.condition", level=words.percent(level))
        elif name == "resolution":
            grids = {"points": words.number(level), "trained": words.number(found["trained"])}
            said = words("resolution.condition", **grids)
        else:
            said = words("outside.condition", change=words.name(level))
        yield Trial(said, _errors(found)[own], found, at)


def _trial_row(trial: Trial, words: Words) -> dict[str, str]:
    """Return a condition, the error with its interval, how it has grown, and the best guess."""
    of = trial.curve["relative_l2"]
    error, low, high = (of["model"][key][trial.at] for key in ("mean", "low", "high"))
    guesses = {who: curve["mean"][trial.at] for who, curve in of.items() if who != "model"}
    guess = min(guesses, key=guesses.__getitem__, default="")
    mark = "✗ " if guess and not error < guesses[guess] else ""
    known = all(isinstance(end, float) and math.isfinite(end) for end in (low, high))
    ends = f" [{words.percent(low)}, {words.percent(high)}]" if known else ""
    said = f"{words.percent(guesses[guess])} ({words(f'who.{guess}')})" if guess else "–"
    return {
        words("tried.condition"): trial.condition,
        words("tried.error"): f"{mark}{words.percent(error)}{ends}",
        words("tried.times"): words.number(error / trial.before, 2) if trial.before else "–",
        words("tried.guess"): said,
    }


def _notes(name: str, found: Any, words: Words) -> list[str]:
    """Say how a kind was tried, and what of it was not."""
    said = []
    if name == "missing":
        said.append(words("missing.told" if found["told"] else "missing.filled"))
    elif name == "frame_rate":
        told = "_told" if _is_told(found) else ""
        said.append(words(f"frame_rate.what{told}"))
        for kind in ("half", "double"):
            if isinstance(found[kind], Absent):
                said.append(_not_tried(words(f"frame_rate.{kind}{told}"), found[kind], words))
    else:
        said.append(words(_WHAT[name], samples=words.number(found["samples"])))
    if name == "resolution":
        solver = found["solver"]
        if isinstance(solver, Absent):
            said.append(words("resolution.no_solver_error", reason=words.why(solver)))
        else:
            errors = words.list(map(words.percent, solver["mean"]))
            grids = words.list(map(words.number, found["level"]))
            said.append(words("resolution.solver", grids=grids, errors=errors))
    for what, why in found.get("absent", {}).items():
        said.append(_not_tried(words.name(what), why, words))
    return said


def _is_told(found: Mapping[str, Any]) -> bool:
    return any(isinstance(one, dict) and "told" in one for one in found.values())


def _errors(curve: Any) -> list[float]:
    return curve["relative_l2"]["model"]["mean"]


def _over_time(found: Any, words: Words) -> list[Block]:
    within, beyond = found["within"], found["beyond"]
    inside = isinstance(beyond, Absent)
    shown = within if inside else beyond
    times, unit_of_axis = in_hours(np.array(shown["time"]), found["unit"])
    lasts = float(shown["time"][-1] / times[-1])  # one unit of the axis
    unit = "" if unit_of_axis == "1" else f"\u202f{unit_of_axis}"
    limit = words.percent(found["threshold"])
    sentences = [words("over_time.what", threshold=limit)]
    for who, usable in shown["usable"].items():
        name = words(f"who.{who}")
        said = {"who": name[:1].upper() + name[1:], "threshold": limit}
        if usable["median"] is None:
            reached = words.percent(usable["reached"])
            sentences.append(words("over_time.not_reached", reached=reached, **said))
            continue
        low, high = (
            words("over_time.later") if usable[end] is None else words.setting(usable[end] / lasts)
            for end in ("low", "high")
        )
        time = f"{words.setting(usable['median'] / lasts)}{unit}"
        sentences.append(words("over_time.reached", time=time, low=low, high=high, **said))
    if inside:
        sentences.append(words("over_time.no_beyond", reason=words.why(beyond)))

    def draw(ax: Axes) -> None:
        _draw_curves(ax, times, shown["relative_l2"], words)
        axis = labelled(words("over_time.axis"), unit_of_axis)
        style.finish(ax, axis, words("error"), lines="y", per_cent="y", columns=2, narrow=1)
        ax.axhline(found["threshold"], **_MARK)
        if not inside:
            ax.axvline(found["trained_until"] / lasts, **_MARK)

    caption = "over_time.caption_within" if inside else "over_time.caption_beyond"
    until = f"{words.setting(found['trained_until'] / lasts)}{unit}"
    told = words("kind.over_time"), words(caption, threshold=limit, until=until)
    figure = Figure("robustness_over_time", *told, " ".join(sentences), *style.curves(draw))
    return [figure, *sentences]


def physics_verdict(found: Any, words: Words) -> tuple[bool | None, str]:
    """Return whether predictions keep what solutions must, and a sentence; energy comes first."""
    if isinstance(found, Absent):
        return None, words("physics.not_measured", reason=words.why(found))
    checks = found["checks"]
    if not checks:
        return None, words("physics.unchecked")
    if not (broken := broken_checks(found)):
        return True, words("physics.kept", count=len(checks))
    check = checks[name := broken[0]]
    told = {key: words.number(check["prediction"][key], 2) for key in ("median", "largest")}
    told["what"] = words.check(name, check["description"]).partition(" (")[0]
    told |= {"of": words.number(len(checks)), "tolerance": words.number(check["tolerance"], 2)}
    return False, words("physics.broken", broken=len(broken), **told)


def _physics(found: Any, words: Words) -> list[Block]:
    """Return the table of what solutions must keep, energy first, and the sentences around it."""
    if isinstance(found, Absent):
        return []
    checks = sorted(found["checks"].items(), key=lambda one: "energy" not in one[0])
    rows = [
        _row(words.check(name, check["description"]), check, check["tolerance"], words)
        for name, check in checks
    ]
    residual = found["residual"]
    if not isinstance(residual, Absent):
        rows.append(_row(words("physics.residual"), residual, None, words))
    numbers = [words(f"column.{key}") for key in (*_COLUMNS, "tolerance")]
    if not rows:
        return []
    told = words("physics.what", samples=words.number(found["samples"]))
    table = Table(words("physics.caption"), rows, numbers)
    return [Heading(words("physics.title")), told, table]


def _row(what: str, values: Known, tolerance: float | None, words: Words) -> dict[str, str]:
    numbers = [*(values["prediction"][key] for key in _COLUMNS[:3]), values["truth"]["largest"]]
    said = [words.number(value, 2) for value in numbers]
    result = "–"
    if tolerance is not None:
        result = f"✓ {words('within')}" if numbers[2] <= tolerance else f"✗ {words('exceeded')}"
    return {
        words("column.check"): what,
        **{words(f"column.{key}"): text for key, text in zip(_COLUMNS, said, strict=True)},
        words("column.tolerance"): "–" if tolerance is None else words.number(tolerance, 2),
        words("column.result"): result,
    }


def _draw_curves(ax: Axes, times: np.ndarray, shown: Known, words: Words) -> None:
    """Draw errors over time with their intervals."""
    for who, curve in shown.items():
        colour, dashes = _LOOKS[who]
        mean, low, high = _with_ends(curve)
        ax.plot(times, mean, color=colour, ls=dashes, lw=1.7, label=words(f"who.{who}"))
        ax.fill_between(times, low, high, color=colour, alpha=0.15, lw=0)
    style.error_scale(ax, *(_with_ends(curve)[0] for curve in shown.values()))


def _with_ends(curve: Mapping[str, Any]) -> np.ndarray:
    """Return mean and ends of a curve, NaN where there is none or it is infinite."""
    found = np.array([curve[key] for key in ("mean", "low", "high")], dtype=float)
    return np.where(np.isfinite(found), found, np.nan)
