"""What training predicts of a batch: one answer, unrolled steps, or the last of several steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mno.core.batch import Batch
from mno.surrogate.description import Description
from mno.surrogate.rollout import next_frame
from mno.training.config import TrainConfig
from mno.training.rollout import pushed

Fields = Mapping[str, Tensor]


@dataclass(frozen=True)
class Prediction:
    """A prediction in training, beside what it is measured by. All fields are normalised.

    Attributes:
        fields: What is predicted, by name; of states, frames that follow each other.
        truth: The same as solved.
        given: What it follows from, as it was before noise: inputs, and of states frames that end
            with the one before the first predicted; of forcings frames that begin with these.
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
    """Predict the fields of a batch.

    Args:
        operator: What is trained.
        description: What it is given and predicts.
        fields: All fields of the batch, normalised; for rollouts windows of at least as many frames
            as are given and predicted.
        seen: What the operator sees: what it is given of these fields, perhaps with noise.
        steps: Frames to predict, where it rolls out.
        pushforward: Whether to return the last of them alone, with a gradient through its step.
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
