"""The objective: what training minimises, put together from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mno.core.batch import Batch
from mno.core.errors import InputError
from mno.core.grid import Grid
from mno.data.normalise import Normaliser
from mno.scenarios.residuals import residual_of
from mno.surrogate.description import Description
from mno.surrogate.rollout import advanced, check_steps, next_frame
from mno.training.config import TrainConfig

Fields = Mapping[str, Tensor]

# A field weaker than this share of its standard deviation in the training split is measured
# against that share: dividing by a norm near zero would let one silent sample drown all others.
NORM_FLOOR = 0.01


def relative_l2(predicted: Fields, truth: Fields, normaliser: Normaliser) -> Tensor:
    r"""Return each sample's error `‖u_pred − u‖₂ / ‖u‖₂`, averaged over the fields.

    Args:
        predicted: Normalised fields of shape `(batch, *grid)` or `(batch, frames, *grid)`, by name;
            frames are values like others.
        truth: The same fields as solved, normalised likewise; NaN where a value is missing.
        normaliser: Brings both to the physical units in which the norms are taken.

    Returns:
        Errors of shape `(batch,)`, nondimensional.
    """
    return _relative(predicted, truth, normaliser, None)


def relative_h1(predicted: Fields, truth: Fields, normaliser: Normaliser, grid: Grid) -> Tensor:
    r"""Return each sample's error `‖u_pred − u‖ / ‖u‖` in H1, averaged over the fields.

    `‖u‖² = Σ u² + Σ (Δu / h)²`: values, and first differences between neighbours along every axis
    over their distance; pairs of which one is missing are left out. Lengths are in longest sides of
    the domain, so that the error has no unit. Arguments and result are as for `relative_l2`, `grid`
    that of all fields.

    Source:
        Czarnecki et al., "Sobolev Training for Neural Networks", arXiv:1706.04859.
    """
    return _relative(predicted, truth, normaliser, grid)


def _relative(
    predicted: Fields, truth: Fields, normaliser: Normaliser, grid: Grid | None
) -> Tensor:
    errors, known, whole = [], [], True
    for name, field in predicted.items():
        std, solved = normaliser.std[name], truth[name]
        present = _present(solved)
        # The difference is taken before decoding, where the mean cancels without rounding.
        difference = field - solved
        wrong = _only(present, difference).flatten(1)
        values = _only(present, normaliser.decode(name, solved)).flatten(1)
        if grid is None:
            error, size = std * wrong.norm(dim=1), values.norm(dim=1)
        else:
            slopes = _slopes(solved, grid)
            pairs = None if present is None else ~slopes.isnan()
            steps = _only(pairs, _slopes(difference, grid))
            error = (std * torch.cat([wrong, steps], dim=1)).norm(dim=1)
            size = torch.cat([values, std * _only(pairs, slopes)], dim=1).norm(dim=1)
        if present is None:
            errors.append(error / size.clamp_min(NORM_FLOOR * std * values.shape[1] ** 0.5))
            known.append(torch.ones_like(error, dtype=torch.bool))
        else:
            counts, whole = present.flatten(1).sum(dim=1), False
            floor = NORM_FLOOR * std * counts.clamp_min(1).to(size).sqrt()
            errors.append(error / size.maximum(floor))
            known.append(counts > 0)
    each = torch.stack(errors)
    if whole:
        return each.mean(dim=0)
    return each.sum(dim=0) / torch.stack(known).sum(dim=0).clamp_min(1)


def samples_with_truth(truth: Fields) -> int:
    """Return how many samples of a batch have a true value of any field."""
    known = torch.zeros(len(next(iter(truth.values()))), dtype=torch.bool)
    for field in truth.values():
        present = _present(field)
        if present is None:
            return len(known)
        known = known.to(field.device) | present.flatten(1).any(dim=1)
    return int(known.sum())


def _present(truth: Tensor) -> Tensor | None:
    """Return where there is a true value; `None` where everywhere, which costs one sum to see."""
    return ~truth.isnan() if truth.sum().isnan() else None


def _only(present: Tensor | None, values: Tensor) -> Tensor:
    """Return values with zeros where nothing is present, through which no gradient passes."""
    return values if present is None else torch.where(present, values, 0.0)


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


def pushforward_loss(
    operator: nn.Module, batch: Batch, truth: Fields, error: Callable[[Fields, Fields], Tensor]
) -> Tensor:
    """Return the error of the last frame of a rollout, with a gradient through its last step alone.

    The operator sees its own mistakes as inputs, and learns not to let them grow; the steps before
    the last cost no memory. With one frame of truth it is the error of one step. To record the
    gradient through all steps, take the error of what `roll_out` returns.

    Args:
        operator: As for `roll_out`.
        batch: As for `roll_out`.
        truth: The frames that follow those of the batch, shape `(batch, steps, *place)`, of every
            output, by name.
        error: Compares predicted fields with true ones, both of shape `(batch, *place)`, by name;
            for example `relative_l2` with its normaliser filled in.

    Source:
        Brandstetter, Worrall and Welling, "Message Passing Neural PDE Solvers", arXiv:2202.03376,
        section 3.1: the stability loss.
    """
    last = next_frame(operator, pushed(operator, batch, next(iter(truth.values())).shape[1]))
    predicted = {name: frame[:, 0] for name, frame in last.items()}
    return error(predicted, {name: truth[name][:, -1] for name in predicted})


@torch.no_grad()
def pushed(operator: nn.Module, batch: Batch, steps: int, forcings: Collection[str] = ()) -> Batch:
    """Return the batch before the last of the steps of a rollout, without gradients.

    The arguments are those of `roll_out`.
    """
    check_steps(steps)
    for _ in range(steps - 1):
        batch = advanced(batch, next_frame(operator, batch, forcings), forcings)
    # In mixed precision the casts of weights are kept, and these would pass no gradient on.
    torch.clear_autocast_cache()
    return batch


class Prediction(NamedTuple):
    """A prediction in training, beside what it is measured by. All fields are normalised.

    Of states, `fields` and `truth` hold frames that follow each other. `given` is what they follow
    from, as it was before noise: inputs, and of states frames that end with the one before the
    first predicted; of forcings frames that begin with these.
    """

    fields: Fields
    truth: Fields
    given: Fields


def drawn_steps(description: Description, config: TrainConfig) -> int:
    """Return the steps that training takes at a time: a random number of them to push forward.

    With fresh weights a push of several steps ends in frames that say nothing of the first, from
    which nothing is learned; so any number up to `train.unroll` may come up, a single step too. The
    number is drawn from torch's generator, which starts anew in each epoch.
    """
    if not (description.rolls_out and config.pushforward):
        return config.unroll
    return int(torch.randint(1, config.unroll + 1, ()))


def predict_batch(
    operator: nn.Module,
    description: Description,
    fields: Fields,
    seen: Batch,
    steps: int = 1,
    *,
    pushforward: bool = False,
) -> Prediction:
    """Predict what a description says of a batch, by an operator that sees `seen`.

    `fields` are all of the batch, normalised; for rollouts windows of at least as many frames as
    are given and predicted. `seen` is what is given of them, perhaps with noise. Of a rollout,
    `steps` frames are predicted; with `pushforward` the last of them alone is returned, with a
    gradient through its step.
    """
    given, truth = description.given(fields), description.truth(fields)
    if description.rolls_out:
        truth = {name: frames[:, :steps] for name, frames in truth.items()}
    if description.rolls_out and pushforward and steps > 1:
        last = pushed(operator, seen, steps, description.forcings)
        answer = next_frame(operator, last, description.forcings)
        truth = {name: frames[:, -1:] for name, frames in truth.items()}
        moving = (*description.states, *description.forcings)
        given = given | {name: last.fields[name] for name in moving}
    else:
        answer = description.answer(operator, seen, steps).fields
    # In the precision of the true fields, whatever that of the layers is.
    predicted = {name: field.to(truth[name].dtype) for name, field in answer.items()}
    return Prediction(predicted, truth, given)


class Objective:
    """The error of a prediction, and the weighted residual that it leaves in the equation.

    The grid is that of the training data, none of unordered points; `parameters` are the
    scenario's own, of which a residual may need those that are numbers.

    Raises:
        InputError: A residual is asked for, and the scenario has none, or inputs with gaps; or what
            is asked for needs a grid.
    """

    def __init__(
        self,
        description: Description,
        grid: Grid | None,
        config: TrainConfig,
        parameters: Mapping[str, Any],
    ) -> None:
        self.description, self._grid = description, grid
        self.error, self.residual_weight = config.loss, config.residual_weight
        weight = f"train.residual_weight={config.residual_weight}"
        if grid is None and (config.loss == "h1" or config.residual_weight):
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
        self.numbers = {
            name: torch.tensor(float(value), dtype=torch.float64)
            for name, value in parameters.items()
            if isinstance(value, int | float)
        }
        self.residual = residual_of(description.scenario) if config.residual_weight else None

    @property
    def grid(self) -> Grid:
        """The grid of the training data, where what is asked for needs one."""
        assert self._grid is not None  # noqa: S101  (else `__init__` has refused)
        return self._grid

    @property
    def is_relative_l2(self) -> bool:
        """Whether it is the relative L2 error and nothing else."""
        return self.error == "relative_l2" and self.residual is None

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return what is minimised for each sample, shape `(batch,)`, nondimensional."""
        normaliser = self.description.normaliser
        grid = self.grid if self.error == "h1" else None
        loss = _relative(prediction.fields, prediction.truth, normaliser, grid)
        if self.residual is None:
            return loss
        known = self.known(prediction)
        fields = {name: normaliser.decode(name, field) for name, field in known.items()}
        place, forecast = self.grid, self.description.forecast
        if forecast is not None:  # in space and time
            frames = known[self.description.states[0]].shape[1]
            place = place.in_time(frames, forecast.interval)
        return loss + self.residual_weight * self.residual(fields | self.numbers, place)

    def known(self, prediction: Prediction) -> dict[str, Tensor]:
        """Return all fields, those with frames from the last given to the last predicted."""
        given, predicted = prediction.given, prediction.fields
        known = dict(given) | dict(predicted)
        forecast = self.description.forecast
        if forecast is None:
            return known
        for name in self.description.states:  # a difference in time needs the frame before
            known[name] = torch.cat([given[name][:, -1:], predicted[name]], dim=1)
        intervals = known[self.description.states[0]].shape[1] - 1
        for name in self.description.forcings:  # one frame per interval, the last said again
            held = given[name][:, forecast.history - 1 :][:, :intervals]
            known[name] = torch.cat([held, held[:, -1:]], dim=1)
        return known
