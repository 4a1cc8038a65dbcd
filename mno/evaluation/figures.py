"""All figures of an evaluation, each with the words that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.evaluation.curves import NARROW, draw_histogram, draw_losses, draw_over_time
from mno.evaluation.errors import OverTime
from mno.evaluation.examples import draw_example
from mno.evaluation.metrics import mean
from mno.evaluation.result import Evaluation, Example
from mno.evaluation.words import number, percent
from mno.fields import Field

if TYPE_CHECKING:
    from mno.data.reading import Schema


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure with the words that go with it.

    Attributes:
        name: File name without `.png`.
        title: Its heading in the report.
        caption: What to look for.
        alt: What it shows, for who cannot see it.
        png: The picture.
        narrow: The same for the screen of a telephone.
        full_width: Whether it wants the whole width of a page.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    narrow: bytes
    full_width: bool = False


def draw_figures(
    evaluation: Evaluation, schema: Schema, history: Mapping[str, Any]
) -> tuple[Figure, ...]:
    """Draw the examples, the error over time where there is any, the histogram, the loss curves.

    Args:
        evaluation: What `evaluate` returned.
        schema: The dataset's, for axes and units.
        history: Training curves, what training's `History.to_dict()` returns.

    Returns:
        Figures whose bytes depend on nothing but what they show.
    """
    examples = (_example(example, schema) for example in evaluation.examples)
    over_time = [_over_time(evaluation.over_time)] if evaluation.over_time else []
    return (*examples, *over_time, _histogram(evaluation), _losses(history))


def _example(example: Example, schema: Schema) -> Figure:
    rank = " and ".join(example.ranks)
    inputs = ", ".join(_given(field, example) for field in schema.inputs)
    outputs = ", ".join(field.long_name for field in schema.outputs)
    error = percent(example.relative_l2)
    gaps = any(field.gaps for field in schema.fields)
    blank = " What is missing in the data is left blank, in the error, too." if gaps else ""
    return Figure(
        name="example_" + "_".join(example.ranks),
        title=f"{rank.capitalize()} test sample",
        caption=f"Sample {example.index}, relative L2 {error}. Input: {inputs}. Truth, prediction "
        f"and error (prediction minus truth): {outputs}. Truth and prediction share one scale; "
        f"the error has its own.{blank}",
        alt=f"The {rank} test sample: input {inputs}, then true {outputs}, its prediction and the "
        f"error; relative L2 {error}.",
        png=draw_example(example, schema),
        narrow=draw_example(example, schema, columns=2),
        full_width=True,
    )


def _given(field: Field, example: Example) -> str:
    """Name an input, with its value where that is one number."""
    if not field.is_scalar:
        return field.long_name
    unit = "" if field.units == "1" else f" {field.units}"
    return f"{field.long_name} = {number(float(example.inputs[field.name]), 3)}{unit}"


def _over_time(errors: OverTime) -> Figure:
    known = np.flatnonzero(~np.isnan(errors.baseline))  # else no sample has a true value there
    ends = known[[0, -1]] if known.size else (0, -1)
    first, last = (percent(float(errors.model[k])) for k in ends)
    blank = known.size < len(errors.times)
    left_out = " Frames without any true value are left out." if blank else ""
    return Figure(
        name="error_over_time",
        title="Error over time",
        caption=f"Relative L2 of each predicted frame, the mean over test samples: {first} in the "
        f"first, {last} in the last. Beside it, what keeping the last given frame would leave, and "
        f"the mean over training samples at the same time.{left_out}",
        alt=f"Relative L2 against time over {len(errors.times)} predicted frames: {first} in the "
        f"first frame, {last} in the last.",
        png=draw_over_time(errors),
        narrow=draw_over_time(errors, NARROW),
    )


def _histogram(evaluation: Evaluation) -> Figure:
    known = evaluation.measured
    errors = evaluation.relative_l2[known]
    baseline = mean(evaluation.baseline_relative_l2[known])
    finite = errors[np.isfinite(errors)]
    spread = "no sample has a finite error"
    if finite.size:
        spread = (
            f"the best sample has {percent(float(finite.min()))}, the median "
            f"{percent(float(np.median(finite)))}, the worst {percent(float(finite.max()))}"
        )
    lost = errors.size - finite.size
    missing = f" {lost} of {errors.size} samples have no finite error: not shown." if lost else ""
    if not known.all():
        missing += f" {int((~known).sum())} samples have no true value to compare with: left out."
    return Figure(
        name="error_histogram",
        title="How the error is spread over the test samples",
        caption=f"Relative L2 of each test sample: {spread}.{missing} The dashed line is the mean "
        "error of always predicting the mean field of the training split.",
        alt=f"Histogram of the relative L2 error of {errors.size} test samples: {spread}.",
        png=draw_histogram(errors, baseline),
        narrow=draw_histogram(errors, baseline, NARROW),
    )


def _losses(history: Mapping[str, Any]) -> Figure:
    best, epochs = history["best_epoch"], len(history["epochs"])
    kept = "No epoch has a validation error."
    if best is not None:
        kept = f"The validation error is lowest in epoch {best}; those weights are the model's."
    return Figure(
        name="loss_curves",
        title="How training went",
        caption=f"Relative L2 on the training and the validation split over {epochs} epochs. "
        f"{kept} A validation curve that rises while the training curve still falls shows a model "
        "that memorises.",
        alt=f"Training and validation error over {epochs} epochs, log scale. {kept}",
        png=draw_losses(history),
        narrow=draw_losses(history, NARROW),
    )
