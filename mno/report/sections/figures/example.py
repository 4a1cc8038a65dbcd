"""Figure of a single sample, with the words that go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.report.examples import draw_example
from mno.report.figures import Figure

if TYPE_CHECKING:
    from mno.core.fields import Field
    from mno.data.reading import Schema
    from mno.evaluation.result import Example
    from mno.report.language import Words


def example_figure(example: Example, schema: Schema, words: Words) -> Figure:
    """Return the figure of one sample of an evaluation."""
    said = {
        "rank": words("and").join(words(f"rank.{rank}") for rank in example.ranks),
        "index": example.index,
        "inputs": words.list(_given(field, example, words) for field in schema.inputs),
        "outputs": words.list(field.long_name for field in schema.outputs),
        "error": words.percent(example.relative_l2),
        "blank": words("blank") if any(field.gaps for field in schema.fields) else "",
    }
    wide, narrow = draw_example(example, schema, words)
    return Figure(
        name="example_" + "_".join(example.ranks),
        title=words("example.title", **said),
        caption=words("example.caption", **said),
        alt=words("example.alt", **said),
        png=wide,
        narrow=narrow,
        full_width=True,
    )


def _given(field: Field, example: Example, words: Words) -> str:
    """Name an input, with its value where that is one number."""
    if not field.is_scalar:
        return field.long_name
    unit = "" if field.units == "1" else f" {field.units}"
    return f"{field.long_name} = {words.number(float(example.inputs[field.name]), 3)}{unit}"
