"""Pages whose figures come from the cells of studies: a template in, Markdown out.

A template is Jinja's. It says `study("at_equal_parameters")` and asks `StudyAnswers` of it, one
number at a time; `figure` puts in what the report of that study shows. Nobody types a number, so
none can be wrong, or older than the cells.
"""

import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import NamedTuple

from jinja2 import StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from mno.core.errors import InputError
from mno.core.numbers import number, percent
from mno.study.design import StudySpec
from mno.study.findings import Row, ScenarioFindings, findings_of, machines_of, usable
from mno.study.report import Section, sections_of
from mno.study.results import Code, Found, Study
from mno.study.statistics import Comparison, Mean, SampleFindings, mean_with_interval, samples_of


class Tally(NamedTuple):
    """In how many pairs one kind of model is shown to have a lower error than another, and so on.

    `unknown` are the pairs that the seeds do not tell apart.
    """

    lower: int
    higher: int
    equal: int
    unknown: int

    @property
    def pairs(self) -> int:
        """All pairs."""
        return sum(self)


class Spread(NamedTuple):
    """A ratio over several pairs of models: geometric mean, smallest and largest.

    `likely` is the interval of the mean, by how much pairs scatter: of other problems and backbones
    like these; none from one pair.
    """

    mean: float
    low: float
    high: float
    pairs: int
    likely: tuple[float, float] | None


@dataclass
class StudyAnswers:
    """A study's answers.

    Two kinds of models are compared by the names of mixers, backbone by backbone, or by the names
    of models. What is asked for and not there is an `InputError`.
    """

    spec: StudySpec
    found: Sequence[Found]  # its cells
    findings: Mapping[str, ScenarioFindings]  # the same put together, by scenario
    grids: Sequence[Found] = ()  # measurements of untrained operators on several grids
    peers: Sequence[Found] = ()  # simple peers, of each scenario
    latencies: Sequence[Found] = ()  # times of a prediction of each model, measured at rest

    @property
    def cells(self) -> int:
        """Cells that are answered from."""
        return len(self.found)

    @property
    def undertrained(self) -> int:
        """Cells whose training ended too early, by the stated rule."""
        return sum(len(row.undertrained) for part in self.findings.values() for row in part.rows)

    @property
    def machines(self) -> list[tuple[str | None, int, int]]:
        """Processor, cores and cells at a time of each machine that made cells."""
        return machines_of(self.found)

    def scenario(self, name: str) -> ScenarioFindings:
        """Return what was found on a scenario."""
        if name not in self.findings:
            raise InputError(f"no cell of scenario {name!r}; there are {', '.join(self.findings)}")
        return self.findings[name]

    def row(self, scenario: str, model: str) -> Row:
        """Return a model on a scenario."""
        rows = {row.model: row for row in self.scenario(scenario).rows}
        if model not in rows:
            raise InputError(f"no cell of {model!r} on {scenario}; there are {', '.join(rows)}")
        return rows[model]

    def comparison(
        self, scenario: str, a: str, b: str, *, asked: bool = False, samples: int | None = None
    ) -> Comparison:
        """Return one comparison of two models, of the family of all pairs.

        It is of the family that the study asks for if `asked`; with `samples` it is after training
        on so many, of the family of all pairs and numbers of samples.
        """
        if samples is not None:
            family = self.samples(scenario).comparisons.get(samples, [])
        else:
            found = self.scenario(scenario)
            family = found.comparisons if asked else found.all_pairs
        for c in family:
            if (c.a, c.b) == (a, b):
                return c
            if (c.a, c.b) == (b, a):
                return c.reversed()
        at = "" if samples is None else f" at {samples} samples"
        raise InputError(f"{a} and {b} were not compared on {scenario}{at}")

    def samples(self, scenario: str) -> SampleFindings:
        """Return the errors by number of training samples on a scenario."""
        if scenario not in self._samples:
            known = ", ".join(self._samples)
            raise InputError(f"no learning curve of {scenario!r}; there are {known}")
        return self._samples[scenario]

    @cached_property
    def _samples(self) -> dict[str, SampleFindings]:
        return samples_of(self.found)

    def tally(self, a: str, b: str) -> Tally:
        """Count how often a mixer, or model, has a lower error than another."""
        verdicts = [
            self.comparison(scenario, first.model, second.model).verdict
            for scenario, first, second in self._pairs(a, b, None)
        ]
        return Tally(*(verdicts.count(kind) for kind in Tally._fields))

    def ratio(self, quantity: str, a: str, b: str, scenario: str | None = None) -> Spread:
        """Return a quantity of a mixer, or model, relative to that of another.

        It is `error`, `finer`, `latency_ms`, `memory_mib` or `train_seconds`.
        """
        ratios = [
            x / y
            for _, first, second in self._pairs(a, b, scenario)
            if (x := getattr(first, quantity)) and (y := getattr(second, quantity))
        ]
        return _spread(ratios, f"{quantity} of {a} and {b}")

    def ratio_on_grid(self, quantity: str, a: str, b: str, resolution: int) -> Spread:
        """Return a quantity of untrained operators of a mixer on a grid, relative to another's.

        It is `predict_ms`, `step_ms` or `step_mib`; `resolution` are points along an axis.
        """
        measured: dict[tuple[str, str, str], float | None] = {}
        for item in self.grids:
            cell = item.record["cell"]
            operator = cell["scenario"], cell["backbone"], cell["mixer"]
            for point in item.record["points"]:
                if point["resolution"] == resolution:
                    measured[operator] = point.get(quantity)
        ratios = [
            value / other
            for (scenario, backbone, mixer), value in measured.items()
            if mixer == a and value and (other := measured.get((scenario, backbone, b)))
        ]
        return _spread(ratios, f"{quantity} of {a} and {b} at {resolution}")

    def _pairs(self, a: str, b: str, scenario: str | None) -> list[tuple[str, Row, Row]]:
        parts = list(self.findings.values()) if scenario is None else [self.scenario(scenario)]
        found = [
            (part.scenario, first, second)
            for part in parts
            for first in part.rows
            for second in part.rows
            if (first.model, second.model) == (a, b)
            or (first.backbone == second.backbone and (first.mixer, second.mixer) == (a, b))
        ]
        if not found:
            raise InputError(f"{a!r} and {b!r} are no two mixers of a backbone, and no two models")
        return found


def _spread(ratios: Sequence[float], of: str) -> Spread:
    if not ratios:
        raise InputError(f"{of} was not measured")
    mean = mean_with_interval([math.log(ratio) for ratio in ratios])
    likely = None
    if mean.low is not None and mean.high is not None:
        likely = math.exp(mean.low), math.exp(mean.high)
    return Spread(math.exp(mean.value), min(ratios), max(ratios), len(ratios), likely)


@dataclass(frozen=True)
class Reported:
    """A study's answers, and what draws its report."""

    answers: StudyAnswers
    sections: Callable[[], list[Section]]


def reported(study: Study, found: Sequence[Found] | None = None) -> Reported:
    """Return what a page asks a study for, of its cells as they are now; refuse one without any."""
    same = Code(study.root).equivalent
    used = usable(study.found() if found is None else found, same)
    grids, peers = usable(study.scaling(), same), usable(study.peers(), same)
    if not used:
        raise InputError(f"{study.name} has no finished cell yet; run: mno study run {study.name}")
    latencies = usable(study.latencies(), same)
    findings = findings_of(study.spec, used, latencies)
    answers = StudyAnswers(study.spec, used, findings, grids, peers, latencies)
    return Reported(answers, partial(sections_of, findings, used, grids, peers))


def fill(
    template: str, studies: Callable[[str], Reported], figures_at: str
) -> tuple[str, dict[str, bytes]]:
    """Fill a page's template; return it, and the figures that it shows, PNG by file name.

    `figures_at` is where the page finds them, relative to itself. An InputError names the line that
    asks for what is not there, and the reason.
    """
    shown: dict[str, bytes] = {}

    @cache
    def figures(name: str) -> dict[tuple[str, str], bytes]:
        return {(s.name, f.name): f.png for s in studies(name).sections() for f in s.figures}

    def figure(name: str, part: str, kind: str, alt: str) -> str:
        drawn = figures(name)
        if (part, kind) not in drawn:
            known = ", ".join(f"{section} {figure}" for section, figure in drawn)
            raise InputError(f"{name} has no figure {part!r} {kind!r}; it has {known}")
        file = f"{name}_{kind}.png"
        shown[file] = drawn[part, kind]
        return f"![{alt}]({figures_at}/{file})"

    environment = SandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
        autoescape=False,  # Markdown
    )  # fmt: skip
    environment.globals.update(study=lambda name: studies(name).answers, figure=figure)
    environment.filters.update(
        percent=percent, number=number, error=_error, mean=_mean, likely=_likely
    )
    try:
        return environment.from_string(template).render(), shown
    except InputError:
        raise
    except TemplateSyntaxError as error:
        raise InputError(f"line {error.lineno}: {error.message}") from None
    except Exception as error:  # whatever an expression may raise
        frames = traceback.extract_tb(error.__traceback__)
        line = [frame.lineno for frame in frames if frame.filename == "<template>"][-1]
        raise InputError(f"line {line}: {error}") from None


def _error(of: Row | Mean) -> str:
    """Write a model's mean error and its interval, for example `2.0 % (1.9 %–2.1 %)`."""
    return (of.mean if isinstance(of, Row) else of).text(percent, "–", least=0.0)


def _mean(mean: Mean) -> str:
    """Write a mean and interval, as `0.02 (−0.01 to 0.05)`, its minus one where no line breaks."""
    return _ratio(mean.value) if mean.low is None else mean.text(_ratio).replace("-", "−")


def _likely(spread: Spread) -> str:
    """Write a ratio with the interval of its mean, for example `0.82 (0.70–1.04)`."""
    ends = "" if spread.likely is None else f" ({'–'.join(map(_ratio, spread.likely))})"
    return f"{_ratio(spread.mean)}{ends}"


def _ratio(value: float) -> str:
    """Write 1.03 as that, which two digits would make 1.0."""
    return number(value, 3 if 1 <= value < 10 else 2)
