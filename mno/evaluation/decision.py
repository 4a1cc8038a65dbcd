"""The verdict on a surrogate: indicators against targets, what speaks for and against it.

Break-even is the number of solves after which it has paid for what was spent on it. With S spent at
first, s for each solve by the solver and p for each prediction, all in seconds of computing, N
solves cost N s by the solver and S + N p by the surrogate, so that

    N = S / (s - p)    if s > p, and never if not.

The solver's time is that of its cheapest setting that is as exact as the surrogate, where that was
measured (`mno.evaluation.equal_error`): who can do with an error of 3 % need not solve to 0.1 %.
A question has two prices, asked alone and in a batch; and a third, where a model of fields and
readings is asked for readings alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.evaluation.config import EconomicsConfig, KpiConfig

if TYPE_CHECKING:
    from mno.evaluation.learning import LearningCurve  # scipy, which no start needs

Known = Mapping[str, Any]
Bound = Literal["at_most", "at_least"]


def solves_to_break_even(spent: float, solver: float, surrogate: float) -> int | None:
    """Return after how many solves the surrogate has cost no more than the solver; none if never.

    Given are what was spent before the first use, for one solve and one prediction, in one unit.
    """
    saved = solver - surrogate
    return math.ceil(spent / saved) if saved > 0 and math.isfinite(spent / saved) else None


def break_even(cost: Known, samples: int, economics: EconomicsConfig) -> dict[str, Any]:
    """Return what it takes for a surrogate to pay, as JSON takes it, by `reports/cost.json`.

    There are so many `samples` in the whole dataset; `economics` are the user's own figures. Where
    the user names the cost of a solve, the data are taken to cost as much per sample; so are they
    where nobody has recorded what they took.

    Returns:
        `state`: `reached` after so many `solves` and, at the user's number of queries, `days`;
        `never`, where a prediction takes as long as a solve or longer; `unknown`, where `why` says
        what is not known. `solver_seconds` and `surrogate_seconds` of one solve and one prediction,
        on one core; `solver_source`, `given` by the user, `equal_error`, the cheapest that is as
        exact, or `measured`, as the dataset was solved; `solve_seconds` of the latter;
        `measured_seconds` of the cheapest of the scenario's own, whatever was given. `batch`:
        `samples` at a time, and `surrogate_seconds` and `solves` in such batches; `readings`, these
        two where a model of fields, too, is asked for readings alone, None of others.
        `plant_seconds` that one answer covers. `spent`: seconds of computing on `data`, `training`,
        `learning_curve` (if one was trained) and `evaluation`, or why not known, and
        `total_spent`; `data_source`, `recorded`, or `computed` from the samples and the seconds of
        a solve. `saved_a_day`, seconds of computing; and `money`, what that costs at the user's
        hourly rate. `asked`: the user's number of questions. None is what is not known.
    """
    solver, given = cost["solver"], economics.solver_seconds
    measured = None if isinstance(solver, Absent) else 1e-3 * solver["ms"]
    solve, prediction = measured if given is None else given, 1e-3 * cost["latency_ms"]
    stages = {"data": "generate", "training": "train"}
    stages |= {"learning_curve": "learning_curve", "evaluation": "evaluate"}
    spent: dict[str, Any] = {
        part: found if isinstance(found, Absent) else found["cpu_seconds"]
        for part, stage in stages.items()
        if (found := cost["spent"].get(stage)) is not None
    }
    computed = solve is not None and (given is not None or isinstance(spent["data"], Absent))
    if solve is not None and computed:
        spent["data"] = samples * solve
    missing = [f"{name} {why}" for name, why in spent.items() if isinstance(why, Absent)]
    total = None if missing else sum(spent.values())

    source = None if measured is None else "measured"
    exact = cost.get("equal_error", Absent("cost.off"))
    exact = exact if isinstance(exact, Absent) else exact["solver"]
    if source and not isinstance(exact, Absent) and exact["how"] != "at_least":
        measured, source = 1e-3 * exact["ms"], "equal_error"
    # A solver of the user's own may behave otherwise when it is coarser: it is taken as given.
    cheapest, source = (measured, source) if given is None else (given, "given")

    state, why, queries = "unknown", "; ".join(missing) or None, economics.queries_per_day
    solves = days = saved_a_day = None
    if cheapest is None:
        why = solver
    elif cheapest <= prediction:
        state = "never"
    else:
        saved_a_day = None if queries is None else queries * (cheapest - prediction)
        if total is not None:
            state, solves = "reached", solves_to_break_even(total, cheapest, prediction)
            days = None if queries is None or solves is None else solves / queries

    def price(seconds: float) -> dict[str, Any]:
        pays_after = None
        if cheapest is not None and total is not None:
            pays_after = solves_to_break_even(total, cheapest, seconds)
        return {"surrogate_seconds": seconds, "solves": pays_after}

    for_readings = cost.get("readings_ms")
    money, rate = None, economics.hourly_rate
    if rate is not None:
        names = ("spent", "a_solve", "a_prediction", "saved_a_day")
        amounts = zip(names, (total, cheapest, prediction, saved_a_day), strict=True)
        money = {"currency": economics.currency, "hourly_rate": rate}
        money |= {name: None if s is None else s * (rate / 3600) for name, s in amounts}
    asked = None if queries is None else queries * economics.horizon_days
    return {
        "state": state, "solver_seconds": cheapest, "solver_source": source, "solve_seconds": solve,
        "measured_seconds": measured, "surrogate_seconds": prediction,
        "batch": {"samples": cost["batch_size"], **price(1 / cost["throughput_per_s"])},
        "readings": None if for_readings is None else price(1e-3 * for_readings),
        "plant_seconds": cost.get("plant_seconds"), "spent": spent,
        "data_source": "computed" if computed else "recorded", "solves": solves, "days": days,
        "saved_a_day": saved_a_day,
        "asked": asked if economics.questions is None else economics.questions, "why": why,
        "total_spent": total, "money": money,
    }  # fmt: skip


@dataclass(frozen=True)
class Kpi:
    """One indicator, of an output field or, with none, of the whole."""

    name: str  # of the parameter under `evaluate.kpis`
    field: str | None
    unit: str  # of value and target; 1 for fractions and factors
    target: float
    bound: Bound
    value: float | Absent
    interval: tuple[float, float] | None = None  # of the value, given the test samples, if known

    @property
    def status(self) -> Literal["met", "missed", "undecided", "unknown"]:
        """Whether the target is met; undecided within the interval. What is not finite misses."""
        if isinstance(self.value, Absent):
            return "unknown"
        if not math.isfinite(self.value):
            return "missed"
        if self.interval is not None and self.interval[0] < self.target < self.interval[1]:
            return "undecided"
        met = self.value <= self.target if self.bound == "at_most" else self.value >= self.target
        return "met" if met else "missed"


_OF_FIELDS = ("rmse", "max_error")
_OF_COST: Mapping[str, tuple[str, str, Bound]] = {
    "latency_ms": ("latency_ms", "ms", "at_most"),
    "latency_p95_ms": ("latency_p95_ms", "ms", "at_most"),
    "throughput_per_s": ("throughput_per_s", "1/s", "at_least"),
    "memory_mib": ("peak_memory_mib", "MiB", "at_most"),
    "speedup": ("", "1", "at_least"),
}
"""By indicator its key in `reports/cost.json`, unit and kind of bound; a speed-up is given."""


def check_kpis(config: KpiConfig, outputs: Sequence[str]) -> None:
    """Refuse indicators of fields that are not among the predicted ones with an InputError."""
    for name in _OF_FIELDS:
        for field in getattr(config, name):
            if field not in outputs:
                raise InputError(
                    f"evaluate.kpis.{name}.{field}: {field} is not predicted here; expected "
                    f"{' or '.join(outputs)}"
                )


def indicators(
    config: KpiConfig, metrics: Known, cost: Known, speedup: float | Absent
) -> tuple[Kpi, ...]:
    """Return the indicators that have a target, errors first.

    From `reports/metrics.json`, with its `intervals` where it has some, `reports/cost.json`, and
    how many times faster than a solve a prediction is.
    """
    intervals = metrics.get("intervals", {})

    def of_errors(name: str, field: str | None, target: float, figures: Known, ends: Known) -> Kpi:
        value = figures.get(name, Absent("kpi.not_predicted", {"field": field}))
        found, unit = ends.get(name), "1" if field is None else figures.get("unit", "")
        interval = None
        if found and not isinstance(found, Absent) and all(map(math.isfinite, found)):
            interval = (float(found[0]), float(found[1]))
        return Kpi(name, field, unit, target, "at_most", value, interval)

    found: list[Kpi] = []
    if config.relative_l2 is not None:
        found.append(of_errors("relative_l2", None, config.relative_l2, metrics, intervals))
    for name in _OF_FIELDS:
        for field, target in getattr(config, name).items():
            figures, ends = metrics["fields"].get(field, {}), intervals.get("fields", {})
            found.append(of_errors(name, field, target, figures, ends.get(field, {})))
    for name, (key, unit, bound) in _OF_COST.items():
        target = getattr(config, name)
        if target is not None:
            found.append(Kpi(name, None, unit, target, bound, cost[key] if key else speedup))
    return tuple(found)


WAYS = {"baseline_": "mean_field", "persistence_": "kept_frame"}
"""What a guess without a model is called, by how its figures begin in `reports/metrics.json`."""


class Weak(NamedTuple):
    """A figure of a field that is no better than a guess that needs no model."""

    field: str
    metric: str
    value: float
    guess: str
    guess_value: float


def no_better(metrics: Known) -> list[Weak]:
    """Return the figures in which the model is no better than a guess, of each its better guess."""
    found = []
    for field, values in metrics["fields"].items():
        for metric, ours in values.items():
            guesses = {
                guess: theirs
                for way, guess in WAYS.items()
                if isinstance(theirs := values.get(f"{way}{metric}"), int | float)
            }
            if isinstance(ours, int | float) and guesses:
                guess = min(guesses, key=guesses.__getitem__)
                if ours > 0.0 and not ours < guesses[guess]:
                    found.append(Weak(field, metric, ours, guess, guesses[guess]))
    return found


def broken_checks(physics: Any) -> list[str]:
    """Return which checks of the physics fail on predictions, energy first; none if unmeasured."""
    checks = {} if isinstance(physics, Absent | None) else physics["checks"]
    broken = [n for n, of in checks.items() if not of["prediction"]["largest"] <= of["tolerance"]]
    return sorted(broken, key=lambda name: "energy" not in name)


_POINTS = 0.03  # by which the coverage of bounds may fall short
CLEARLY_BETTER = 3.0  # a surrogate should be at least so many times better than a guess
_SIDES = ("against", "condition", "for")


class Reason(NamedTuple):
    """A finding: what it is, which the report has words for, and the figures that they need.

    It is `against` the surrogate, which decides, a `condition` of its being worth it, or `for` it.
    """

    side: Literal["against", "condition", "for"]
    code: str
    values: Mapping[str, Any]


def _about_errors(metrics: Known) -> Iterator[Reason]:
    """Compare the relative L2 with the better of the guesses that need no model."""
    error = metrics["relative_l2"]
    if not math.isfinite(error):
        yield Reason("against", "unusable", {})
        return
    guesses = {
        "mean_field": metrics["baseline_relative_l2"],
        "persistence": metrics.get("persistence_relative_l2", math.inf),
    }
    guess = min(guesses, key=guesses.__getitem__)
    theirs = guesses[guess]
    values = {"error": error, "guess": guess, "guess_error": theirs}
    if error >= theirs > 0 or error > theirs:
        yield Reason("against", "no_better_than_guess", values)
    elif error > theirs / CLEARLY_BETTER:
        values |= {"times": theirs / error, "wanted": CLEARLY_BETTER}
        yield Reason("against", "barely_better_than_guess", values)
    else:
        values |= {"times": theirs / error if error else None}
        yield Reason("for", "better_than_guess", values)


def _about_kpis(
    kpis: Sequence[Kpi], curve: "LearningCurve | Absent | None", samples: Known
) -> Iterator[Reason]:
    """Say which targets are missed, undecided or not known, and that there is none for errors."""
    for kpi in kpis:
        values = {**vars(kpi), "status": kpi.status}
        if kpi.status == "missed":
            more = _more_data(kpi, curve, samples)
            side = "condition" if more else "against"
            yield Reason(side, "kpi_missed_needs_data" if more else "kpi_missed", values | more)
        elif kpi.status in ("undecided", "unknown"):
            yield Reason("condition", f"kpi_{kpi.status}", values)
    met = sum(kpi.status == "met" for kpi in kpis)
    if kpis and met == len(kpis):
        yield Reason("for", "kpis_met", {"count": met})
    if not any(kpi.name in ("relative_l2", *_OF_FIELDS) for kpi in kpis):
        yield Reason("condition", "no_accuracy_kpi", {})


def _more_data(kpi: Kpi, curve: "LearningCurve | Absent | None", samples: Known) -> dict[str, Any]:
    """Return how many training samples should meet an indicator; nothing where that is unknown."""
    if kpi.name != "relative_l2" or curve is None or isinstance(curve, Absent):
        return {}
    needed = curve.samples_for(kpi.target)
    if needed.middle is None or needed.middle <= samples["train"]:  # the test split says otherwise
        return {}
    solved = samples["all"] / samples["train"]  # for each training sample, others are set aside
    more = (needed.middle - samples["train"]) * solved
    found = {"samples": round(needed.middle), "low": needed.low, "high": needed.high}
    return {**found, "more_solves": round(more)}


def _about_solver(pays: Known, cost: Known, economics: EconomicsConfig) -> Iterator[Reason]:
    """Say whether the surrogate is faster than the solver, and whether and when that pays.

    The solver is the cheapest that is as exact. What pays in batches alone does on that condition.
    """
    prediction, solve, batch = pays["surrogate_seconds"], pays["solver_seconds"], pays["batch"]
    if solve is None:
        yield Reason("condition", "solver_unknown", {"surrogate_seconds": prediction})
        return
    in_batch, size = batch["surrogate_seconds"], batch["samples"]
    exact = pays["solver_source"] == "equal_error"
    speeds = {"solver_seconds": solve, "surrogate_seconds": prediction}
    speeds |= {"error": cost["equal_error"]["model"]["error"]} if exact else {}
    if pays["state"] == "never" and in_batch >= solve:
        yield Reason("against", "coarser_solver_as_good" if exact else "never_pays", speeds)
        return
    speeds |= {"batch": size, "batch_seconds": in_batch, "batch_speedup": solve / in_batch}
    speeds |= {"speedup": solve / prediction}
    asked, solves, horizon = pays["asked"], pays["solves"], economics.horizon_days
    if pays["state"] == "never":
        values = {**speeds, "batch_solves": batch["solves"], "asked": asked}
        if batch["solves"] is None:
            yield Reason("condition", "spent_unknown", {"why": pays["why"]})
        elif economics.questions is not None and batch["solves"] > asked:
            yield Reason("against", "asked_too_seldom_in_batches", values)
        else:
            yield Reason("condition", "pays_in_batches", values)
        return
    given, measured = pays["solver_source"] == "given", pays["measured_seconds"]
    code = "faster_as_given" if given else "faster_at_equal_error" if exact else "faster"
    yield Reason("for", code, speeds)
    if given and measured is not None:
        against = measured <= prediction
        values = {"solver_seconds": solve, "surrogate_seconds": prediction}
        side, code = ("condition", "measured_never") if against else ("for", "measured_beside")
        yield Reason(side, code, {**values, "measured_seconds": measured})
    # In batches that are no faster it pays no sooner, and perhaps never.
    sooner = min((n for n in (solves, batch["solves"]) if n is not None), default=None)
    values = {"solves": solves, "batch": size, "batch_solves": sooner, "asked": asked}
    if pays["state"] == "unknown":
        yield Reason("condition", "spent_unknown", {"why": pays["why"]})
    elif asked is None:
        yield Reason("condition", "volume_unknown", values)
    elif economics.questions is None:
        values |= {"days": pays["days"], "horizon": horizon}
        late = pays["days"] > horizon
        yield Reason("condition" if late else "for", "pays_late" if late else "pays", values)
    elif solves <= asked:
        yield Reason("for", "asked_enough", values)
    elif sooner <= asked:
        yield Reason("condition", "asked_enough_in_batches", values)
    else:
        yield Reason("against", "asked_too_seldom", values)


def _about_tools(pays: Known, cost: Known, error: float) -> Iterator[Reason]:
    """Say which simple peer has no more error than the model, and when it costs no more, too.

    Errors are those on the same samples. Cost is that of making it and of asking it, as often as
    the user says; where nobody has said, it may depend on how often that is.
    """
    asked, spent, ask = pays["asked"], pays["spent"]["training"], pays["surrogate_seconds"]
    tools = ({"model_error": error, **tool} for tool in cost.get("tools", ()))
    good = [tool for tool in tools if tool.get("error", math.inf) <= tool["model_error"]]
    if not good or isinstance(spent, Absent):
        return
    best = min(good, key=lambda tool: tool["error"])
    saved, dearer = spent - best["seconds"], 1e-3 * best["ms"] - ask
    values = {"tool": best["name"], "tool_error": best["error"], "error": best["model_error"]}
    if (saved >= 0 and dearer <= 0) or (asked is not None and saved >= asked * dearer):
        yield Reason("against", "tool_as_good", values)
    elif asked is None and saved * dearer > 0:
        values["solves"] = math.ceil(saved / dearer)
        code = "tool_as_good_below" if dearer > 0 else "tool_as_good_beyond"
        yield Reason("condition", code, values)


def _about_doubts(metrics: Known) -> Iterator[Reason]:
    """Say that figures are no better than a guess, and that checks of the physics fail."""
    if weak := no_better(metrics):
        yield Reason("condition", "weak", {"count": len(weak)})
    if broken := broken_checks(metrics.get("physics")):
        yield Reason("condition", "physics_broken", {"checks": broken})


def _about_trust(trust: Known | None) -> Iterator[Reason]:
    """Say which bounds hold more than three points too seldom, beyond what chance explains."""
    if not trust:
        return
    rates = [
        (rate["count"] / rate["samples"], field, rate["expected"][0])
        for field, measures in trust["measured"]["coverage"].items()
        for frames in measures.values()
        for rate in frames
        if rate and rate["samples"] and rate["expected"]
    ]
    level = trust["level"]
    failing = [rate for rate in rates if rate[0] < min(level - _POINTS, rate[2])]
    if failing:
        share, field, _ = min(failing)
        yield Reason("condition", "bounds_fail", {"share": share, "level": level, "field": field})


def decide(
    kpi_config: KpiConfig, economics: EconomicsConfig, *, metrics: Known, cost: Known,
    samples: Known, curve: "LearningCurve | Absent | None" = None, trust: Known | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Judge a surrogate by its errors, its cost, its targets and the user's own figures.

    It is not worth it where anything speaks against it, worth it on conditions where there are
    some, and worth it otherwise. Metrics, cost and trust are those of the files in `reports/`; of
    samples there are `train`ing ones, and `all`; the curve tells the error by the former. Returned
    are the `verdict` (`worth_it`, `worth_it_if`, `not_worth_it`), `at_ends` (what it is where all
    times are at the end of their intervals that is worse for the surrogate, and at the better),
    `reasons` (`side`, `code`,
    `values`, see `Reason`; those that decide first), `kpis` (see `Kpi`), `break_even` and `error`,
    the relative L2 on the test split.
    """

    def judged(cost: Known) -> dict[str, Any]:
        pays = break_even(cost, samples["all"], economics)
        solve = pays["solve_seconds"]
        speedup = cost["solver"] if solve is None else solve / pays["surrogate_seconds"]
        kpis = indicators(kpi_config, metrics, cost, speedup)
        found = [
            *_about_errors(metrics),
            *_about_kpis(kpis, curve, samples),
            *_about_solver(pays, cost, economics),
            *_about_tools(pays, cost, metrics["relative_l2"]),
            *_about_doubts(metrics),
            *_about_trust(trust),
        ]
        reasons = sorted(found, key=lambda reason: _SIDES.index(reason.side))  # stable: by weight
        return {
            "verdict": _VERDICTS[reasons[0].side], "break_even": pays,
            "reasons": [reason._asdict() for reason in reasons], "error": metrics["relative_l2"],
            "kpis": [{**vars(kpi), "status": kpi.status} for kpi in kpis],
        }  # fmt: skip

    ends = [judged(_at_end(cost, end))["verdict"] for end in (1, 0)]
    return {**judged(cost), "at_ends": ends}


_VERDICTS = {"against": "not_worth_it", "condition": "worth_it_if", "for": "worth_it"}


def _at_end(cost: Known, end: Literal[0, 1]) -> dict[str, Any]:
    """Return a cost with predictions at an end of their interval, solves at the other end."""

    def times(middle: str, interval: str, of: Known, end: int) -> float:
        return of[interval][end] / of[middle] if of.get(interval) and of[middle] else 1.0

    found, model = dict(cost), times("latency_ms", "latency_interval_ms", cost, end)
    for name in ("latency_ms", "readings_ms"):
        if found.get(name) is not None:
            found[name] *= model
    found["throughput_per_s"] /= model
    if not isinstance(cost["solver"], Absent):
        solver = times("ms", "interval_ms", cost["solver"], 1 - end)
        found["solver"] = {**cost["solver"], "ms": solver * cost["solver"]["ms"]}
        exact = cost.get("equal_error", Absent("cost.off"))
        if not isinstance(exact, Absent) and not isinstance(exact["solver"], Absent):
            of = {**exact["solver"], "ms": solver * exact["solver"]["ms"]}
            found["equal_error"] = {**exact, "solver": of}
    return found
