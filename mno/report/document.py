"""The report as one HTML file: its sections in their order, in one language."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

from mno.core.files import write_text
from mno.data.reading import Schema
from mno.report.language import Words
from mno.report.page import Figure, Results, Section, render_page

_MOST_NAMES = 3  # in the subtitle

_IN_ORDER = (
    "decision", "accuracy", "figures", "robustness", "trust", "cost", "learning",
    "explainability", "data", "training", "limits",
)  # fmt: skip
SECTIONS = {name: import_module(f"mno.report.sections.{name}").section for name in _IN_ORDER}


def write_report(path: Path, results: Results, language: str = "en") -> tuple[Figure, ...]:
    """Render a report that loads nothing, put it in place in one step, return its figures."""
    words, sections = Words.of(language), sections_of(results, language)
    schema, samples = _named(results.schema, words), results.metrics["samples"]
    html = render_page(
        "report/page.html.j2",
        language=language,
        words=words,
        title=words("page.title", scenario=words.name(results.scenario.replace("_", " "))),
        subtitle=words(
            "page.subtitle.one" if samples == 1 else "page.subtitle.many",
            inputs=_some([field.long_name for field in schema.inputs], words),
            outputs=_some([field.long_name for field in schema.outputs], words),
            samples=words.number(samples),
        ),
        first=sections[0],
        sections=sections[1:],
    )
    write_text(path, html)
    return tuple(figure for section in sections for figure in section.figures)


def sections_of(results: Results, language: str) -> tuple[Section, ...]:
    """Return the sections that there is something to tell in, in the order of the page."""
    results = replace(results, schema=_named(results.schema, Words.of(language)))
    found = [section(results, Words.of(language, name)) for name, section in SECTIONS.items()]
    return tuple(section for section in found if section is not None)


def _named(schema: Schema, words: Words) -> Schema:
    """Return a schema whose fields and axes are called as the language calls them."""
    fields = tuple(replace(f, long_name=words.name(f.long_name)) for f in schema.fields)
    axes = tuple(replace(a, long_name=words.name(a.long_name)) for a in schema.axes)
    return replace(schema, fields=fields, axes=axes)


def _some(names: list[str], words: Words) -> str:
    """Return names one after the other, of many the first."""
    if len(names) <= _MOST_NAMES:
        return words.list(names)
    first = words.list(names[: _MOST_NAMES - 1])
    return words("page.more", first=first, count=len(names) - _MOST_NAMES + 1)
