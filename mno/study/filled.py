"""Pages whose figures come from the cells of studies: a template in, Markdown out.

A template is Jinja's. It says `study("who_wins")` and asks `mno.study.answers.Answers` of it;
`table`, `comparisons` and `figure` put in what the report of that study shows. Nobody types a
number, so none can be wrong, or older than the cells.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from mno.core.errors import InputError
from mno.core.numbers import number, percent
from mno.study.answers import Answers, Spread
from mno.study.document import Section
from mno.study.findings import Row
from mno.study.page import markdown_table
from mno.study.statistics import Mean


@dataclass(frozen=True)
class Reported:
    """A study and its report.

    Attributes:
        answers: Its answers.
        sections: Its report.
    """

    answers: Answers
    sections: list[Section]


def fill(
    template: str, studies: Callable[[str], Reported], figures_at: str
) -> tuple[str, dict[str, bytes]]:
    """Fill a page.

    Args:
        template: Its text.
        studies: Returns a study by its name.
        figures_at: Where the page finds figures, relative to itself.

    Returns:
        The page, and the figures that it shows, PNG by file name.

    Raises:
        InputError: The template asks for what is not there; the message names line and reason.
    """
    shown: dict[str, bytes] = {}

    def section(name: str, part: str) -> Section:
        sections = {section.name: section for section in studies(name).sections}
        if part not in sections:
            raise InputError(f"{name} has no section {part!r}; it has {', '.join(sections)}")
        return sections[part]

    def table(name: str, part: str, place: int = 0, heads: Mapping[str, str] | None = None) -> str:
        tables = [table for table in section(name, part).tables if table.rows]
        if place >= len(tables):
            raise InputError(f"section {part!r} of {name} has {len(tables)} tables")
        return markdown_table(tables[place], heads)

    def figure(name: str, part: str, kind: str, alt: str) -> str:
        figures = {figure.name: figure for figure in section(name, part).figures}
        if kind not in figures:
            raise InputError(f"{part!r} of {name} has no figure {kind!r}: {', '.join(figures)}")
        file = f"{name}_{kind}.png"
        shown[file] = figures[kind].png
        return f"![{alt}]({figures_at}/{file})"

    environment = SandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
        autoescape=False,  # Markdown
    )  # fmt: skip
    environment.globals.update(study=lambda name: studies(name).answers, table=table, figure=figure)
    environment.filters.update(
        percent=percent, number=number, error=_error, mean=_mean, times=_times, likely=_likely
    )
    try:
        return environment.from_string(template).render(), shown
    except InputError:
        raise
    except TemplateSyntaxError as error:
        raise InputError(f"line {error.lineno}: {error.message}") from None
    except TemplateError as error:
        raise InputError(str(error)) from None
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        raise InputError(f"line {_line(error)}: {error}") from None


def _line(error: Exception) -> int:
    """Return the line of a template that an error comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame.lineno or 0 for frame in frames if frame.filename == "<template>"][-1]


def _error(of: Row | Mean) -> str:
    """Write a model's mean error and its interval, for example `2.0 % (1.9 %–2.1 %)`."""
    mean = of.mean if isinstance(of, Row) else of
    if mean.low is None or mean.high is None:
        return percent(mean.value)
    return f"{percent(mean.value)} ({percent(max(mean.low, 0.0))}–{percent(mean.high)})"


def _mean(mean: Mean) -> str:
    """Write a mean and its interval, for example `0.02 (−0.01 to 0.05)`."""
    if mean.low is None or mean.high is None:
        return _ratio(mean.value)
    said = f"{_ratio(mean.value)} ({_ratio(mean.low)} to {_ratio(mean.high)})"
    return said.replace("-", "−")  # a minus, at which no line breaks


def _times(spread: Spread | Any) -> str:
    """Write a ratio, for example `0.8× (0.6–1.1)`."""
    if not isinstance(spread, Spread):
        return f"{_ratio(float(spread))}×"
    return f"{_ratio(spread.mean)}× ({_ratio(spread.low)}–{_ratio(spread.high)})"


def _likely(spread: Spread) -> str:
    """Write a ratio with the interval of its mean, for example `0.82 (0.70–1.04)`."""
    if spread.likely is None:
        return _ratio(spread.mean)
    low, high = spread.likely
    return f"{_ratio(spread.mean)} ({_ratio(low)}–{_ratio(high)})"


def _ratio(value: float) -> str:
    """Write 1.03 as that, which two digits would make 1.0."""
    return number(value, 3 if 1 <= value < 10 else 2)
