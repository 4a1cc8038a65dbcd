"""What a prediction at one point listened to: its gradient with respect to every input.

For an output u at the point x, and an input a at the point y, both normalised by their standard
deviations over the training split (on their scales: of logarithms, where these are taken),

    influence(y) = |d u(x) / d a(y)|,    with frames: the sum over the input's frames,

by reverse-mode differentiation through the whole model, so for every backbone alike. It says how
strongly the prediction answers to a small change of the input at y, near this one sample. It does
not say that the input is the cause, nor what a large change would do. (Simonyan, Vedaldi and
Zisserman, 2014, arXiv:1312.6034, call it a saliency map.)
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mno.evaluation.result import Example
from mno.surrogate.surrogate import Surrogate


@dataclass(frozen=True, eq=False)
class Influence:
    """What one predicted value listened to."""

    example: Example
    output: str  # the predicted field
    point: tuple[int, ...]  # of the field: one number per axis of space
    maps: dict[str, np.ndarray]  # of each input with values at points, of the shape of space
    scalars: dict[str, float]  # of each input that is one number per sample

    @property
    def total(self) -> np.ndarray:
        """The influence of all inputs at each point, of the shape of space."""
        return np.sum(list(self.maps.values()), axis=0)


def influence(surrogate: Surrogate, example: Example) -> Influence:
    """Return what the prediction at the point of a sample's largest error listened to.

    Of states that is a point of the first predicted frame where the model rolls out, since a later
    one listens through those before it.
    """
    description = surrogate.description
    output = next(iter(description.outputs))
    frame = 0 if description.rolls_out else -1
    framed = output in description.timed
    error = np.abs(example.prediction[output] - example.truth[output])
    error = error[frame] if framed else error
    worst = np.argmax(np.where(np.isfinite(error), error, -1.0))  # the first where none is finite
    point = tuple(int(i) for i in np.unravel_index(worst, error.shape))

    given = {
        name: torch.from_numpy(np.array(array, dtype=np.float32)[None])
        for name, array in example.inputs.items()
        if name in description.given_names
    }
    leaves = {
        name: description.normaliser.encode(name, field, given).requires_grad_()
        for name, field in given.items()
    }
    cut = dict(leaves)
    if description.rolls_out:  # forcings as far as the first step needs them
        for name in description.forcings:
            cut[name] = cut[name][:, : description.frames_given(name, 1)]
    steps = 1 if description.rolls_out else None
    answer = description.answer(surrogate.operator, description.batch(cut), steps)
    values = answer.fields[output][0]
    asked = values[(frame, *point)] if framed and values.ndim > len(point) else values[point]
    gradients = torch.autograd.grad(asked, list(leaves.values()), allow_unused=True)
    sizes = {
        name: np.zeros(leaf.shape[1:]) if gradient is None else _size(gradient[0])
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
        if name in description.inputs
    }
    dims = len(description.space)
    maps = {n: s.reshape(-1, *s.shape[-dims:]).sum(0) for n, s in sizes.items() if s.ndim}
    scalars = {name: float(size) for name, size in sizes.items() if not size.ndim}
    return Influence(example, output, point, maps, scalars)


def _size(gradient: Tensor) -> np.ndarray:
    """Return the gradient's absolute value; 0 where a value is missing that nothing depends on."""
    return np.nan_to_num(gradient.abs().numpy().astype(np.float64), posinf=0.0)
