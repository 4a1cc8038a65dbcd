"""The objective: what training minimises, put together from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from mno.core.batch import Batch
from mno.core.errors import InputError
from mno.core.fields import LOG, PLAIN, RATE
from mno.core.grid import Grid
from mno.core.points import Points
from mno.data.normalise import Normaliser
from mno.scenarios.residuals import residual_of
from mno.surrogate.description import Description
from mno.surrogate.equation import residual_left
from mno.training.config import TrainConfig

Fields = Mapping[str, Tensor]

# A field weaker than this share of its standard deviation in the training split (of its geometric
# mean, on the scale `log`) is measured against that share: dividing by a norm near zero would let
# one silent sample drown all others.
NORM_FLOOR = 0.01


def relative_error(
    predicted: Fields, truth: Fields, normaliser: Normaliser, grid: Grid | None = None,
    given: Fields | None = None, *, by_frame: bool = False, by_deviation: bool = False,
) -> Tensor:  # fmt: skip
    r"""Return each sample's error `‖u_pred − u‖ / ‖u‖`, averaged over the fields, in L2 or H1.

    With a grid it is that in H1, `‖u‖² = Σ u² + Σ (Δu / h)²`: values, and first differences between
    neighbours along every axis over their distance; pairs of which one is missing are left out.
    Lengths are in longest sides of the domain, so that the error has no unit. Norms are of physical
    fields, whatever the scale on which they are normalised.

    Args:
        predicted: Normalised fields of shape `(batch, *grid)` or `(batch, frames, *grid)`, by name;
            frames are values like others.
        truth: The same fields as solved, normalised likewise; NaN where a value is missing, through
            which no gradient passes.
        normaliser: Brings both to the physical units in which the norms are taken.
        grid: That of all fields, for H1.
        given: Normalised inputs of the same samples, among them those that fields are less.
        by_frame: Whether the error is the mean over the frames of each one's own, in L2 alone: then
            those that are hard to tell do not drown the others.
        by_deviation: Whether it is relative to the field's deviation in the training split, and not
            to the sample's norm: then what varies little, as far as it is from zero, counts, too.

    Returns:
        Errors of shape `(batch,)`, nondimensional; zero where no value is known.

    Source:
        For H1, Czarnecki et al., "Sobolev Training for Neural Networks", arXiv:1706.04859.
    """
    beside = normaliser.references(given or {})
    errors, known = [], []
    for name, field in predicted.items():
        scale, solved = normaliser.scale(name), truth[name]
        present = ~solved.isnan()
        physical = normaliser.decode(name, solved, beside)
        if scale == LOG:
            difference, unit = normaliser.decode(name, field) - physical, 1.0
        else:
            # Taken before decoding, where what both are less cancels without rounding.
            difference, unit = field - solved, normaliser.std[name]
        start = 2 if by_frame and grid is None else 1
        wrong = torch.where(present, difference, 0.0).flatten(start)
        values = torch.where(present, physical, 0.0).flatten(start)
        if grid is None:
            error, size = unit * wrong.norm(dim=-1), values.norm(dim=-1)
        else:
            of_unit = scale == PLAIN  # the mean cancels in slopes, too
            slopes = _slopes(solved if of_unit else physical, grid)
            pairs = ~slopes.isnan()
            slopes = (unit if of_unit else 1.0) * torch.where(pairs, slopes, 0.0)
            steps = torch.where(pairs, _slopes(difference, grid), 0.0)
            error = (unit * torch.cat([wrong, steps], dim=1)).norm(dim=1)
            size = torch.cat([values, slopes], dim=1).norm(dim=1)
        counts = present.flatten(start).sum(dim=-1)
        deviation = normaliser.unit(name) * counts.clamp_min(1).double().sqrt().to(size)
        size = deviation if by_deviation else size.maximum(NORM_FLOOR * deviation)
        relative, there = error / size, counts > 0
        if start == 2:
            relative = relative.sum(dim=1) / there.sum(dim=1).clamp_min(1)
            there = there.any(dim=1)
        errors.append(relative)
        known.append(there)
    return torch.stack(errors).sum(dim=0) / torch.stack(known).sum(dim=0).clamp_min(1)


def samples_with_truth(truth: Fields) -> int:
    """Return how many samples of a batch have a true value of any field."""
    known = [(~field.isnan()).flatten(1).any(dim=1) for field in truth.values()]
    return int(torch.stack(known).any(dim=0).sum())


def _slopes(field: Tensor, grid: Grid) -> Tensor:
    """Return the differences between neighbours over their distance, shape `(batch, pairs)`."""
    sides = [
        sum(h) if isinstance(h, tuple) else n * h
        for h, n in zip(grid.spacing, grid.shape, strict=True)
    ]
    slopes = []
    for axis, side in enumerate(sides):
        dim = field.ndim - len(sides) + axis
        steps = field.new_tensor([b - a for a, b in pairwise(grid.centres(axis))])
        distances = steps * (side / max(sides))
        shape = [-1 if d == dim else 1 for d in range(field.ndim)]
        slopes.append((field.diff(dim=dim) / distances.view(shape)).flatten(1))
    return torch.cat(slopes, dim=1)


class Prediction(NamedTuple):
    """A prediction in training, beside what it is measured by. All fields are normalised.

    Of states, `fields` and `truth` hold frames that follow each other. `given` is what they follow
    from, as it was before noise: inputs, and of states frames that end with the one before the
    first predicted; of forcings frames that begin with these.
    """

    fields: Fields
    truth: Fields
    given: Fields


def predict_batch(
    operator: nn.Module, description: Description, fields: Fields, seen: Batch, steps: int = 1
) -> Prediction:
    """Predict what a description says of a batch, by an operator that sees `seen`.

    `fields` are all of the batch, normalised; for rollouts windows of at least as many frames as
    are given and predicted. `seen` is what is given of them, perhaps with noise. Of a rollout,
    `steps` frames are predicted.
    """
    given, truth = description.given(fields), description.truth(fields)
    if description.along_time and not description.observes:
        if description.forecast and not description.rolls_out:
            steps = description.forecast.steps
        answer = description.all_answers(operator, seen, steps).fields  # also to given frames
        truth = {n: fields[n][:, 1 : 1 + frames.shape[1]] for n, frames in answer.items()}
        given = given | {name: fields[name][:, :1] for name in description.states}
        return Prediction(_as_precise(answer, truth), truth, given)
    if description.rolls_out:
        truth = {name: frames[:, :steps] for name, frames in truth.items()}
    answer = description.answer(operator, seen, steps).fields
    return Prediction(_as_precise(answer, truth), truth, given)


def predict_rates(
    operator: nn.Module, description: Description, fields: Fields, seen: Batch
) -> tuple[Prediction, Tensor]:
    """Predict as `predict_batch` does; also return how far rates are off, `(batch,)`.

    The rates of a prediction along the direction of each sample are compared with those in the
    batch, all normalised: the norm of the difference over that of the true rates, both over all
    fields that are predicted.

    Source:
        O'Leary-Roseberry et al., "Derivative-Informed Neural Operator", arXiv:2206.10745.
    """
    names = {*description.given_names, *description.outputs}
    rates = {n: fields.get(RATE + n, torch.zeros_like(fields[n])) for n in names}
    along, truth = description.batch(description.given(rates)), description.truth(rates)

    def answer(given: Fields, scalars: Fields, places: Fields) -> dict[str, Tensor]:
        moved = replace(seen, fields=given, scalars=scalars, place=replace(seen.place, **places))
        return dict(description.answer(operator, moved).fields)

    with sdpa_kernel(SDPBackend.MATH):  # which alone is differentiated forwards
        given, directions = ((dict(b.fields), dict(b.scalars), _places(b)) for b in (seen, along))
        found, moving, *_ = jvp(answer, given, directions)
    apart, size = (
        torch.stack([x.flatten(1).norm(dim=1) for x in of]).norm(dim=0)
        for of in ([moving[n] - rate for n, rate in truth.items()], [*truth.values()])
    )
    values = sum(rate[0].numel() for rate in truth.values())
    solved = description.truth(fields)
    predicted = Prediction(_as_precise(found, solved), solved, description.given(fields))
    return predicted, apart / size.clamp_min(NORM_FLOOR * values**0.5)


def _places(batch: Batch) -> dict[str, Tensor]:
    """Return the coordinates of a batch's points, by their name there; none of a grid."""
    return {"coordinates": batch.place.coordinates} if isinstance(batch.place, Points) else {}


def _as_precise(answer: Fields, truth: Fields) -> dict[str, Tensor]:
    """Return an answer in the precision of the true fields, whatever that of the layers is."""
    return {name: field.to(truth[name].dtype) for name, field in answer.items()}


class Objective:
    """The error of a prediction, and the weighted residual that it leaves in the equation.

    The parameters are the scenario's own, of which a residual may need those that are numbers. An
    `InputError` says that a residual is asked for, and the scenario has none, or inputs with gaps;
    or what is asked for needs a grid.
    """

    def __init__(
        self, description: Description, config: TrainConfig, parameters: Mapping[str, Any]
    ) -> None:
        self.description, self.parameters = description, parameters
        self.error, self.residual_weight = config.loss, config.residual_weight
        self.derivatives = config.derivatives
        weight = f"train.residual_weight={config.residual_weight}"
        if description.coordinates and (config.loss == "h1" or config.residual_weight):
            raise InputError(
                f"{'train.loss=h1' if config.loss == 'h1' else weight} takes differences between "
                "neighbours on a grid, but the dataset holds unordered points; set "
                "train.loss=relative_l2 and train.residual_weight=0"
            )
        if description.gaps and config.residual_weight:
            raise InputError(
                f"{weight} needs all values of the inputs, but {', '.join(description.gaps)} may "
                "have gaps; set train.residual_weight=0"
            )
        if config.residual_weight and description.forecast and description.forecast.intervals:
            raise InputError(
                f"{weight} takes differences in time between frames at equal distances; those of "
                "the dataset are not: set train.residual_weight=0"
            )
        if config.residual_weight:
            residual_of(description.scenario)  # refuses what has none

    @property
    def is_relative_l2(self) -> bool:
        """Whether it is the relative L2 error and nothing else."""
        more = self.residual_weight or self.derivatives or self.description.along_time
        return self.error == "relative_l2" and not more

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return what is minimised for each sample, shape `(batch,)`, nondimensional."""
        description, predicted = self.description, prediction.fields
        grid = description.grid_of(predicted) if self.error == "h1" else None
        normaliser, given = description.normaliser, prediction.given
        loss = relative_error(
            predicted, prediction.truth, normaliser, grid, given,
            by_frame=description.along_time and not description.observes,
            by_deviation=description.observes,
        )  # fmt: skip
        if not self.residual_weight:
            return loss
        beside = normaliser.references(given)
        given, predicted = (
            {name: normaliser.decode(name, field, beside) for name, field in fields.items()}
            for fields in (given, predicted)
        )
        left = residual_left(description, self.parameters, given, predicted)
        return loss + self.residual_weight * left
