"""Rollouts and the pushforward loss."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.data.normalise import Normaliser
from mno.nn.build import build_operator
from mno.nn.config import ModelConfig
from mno.surrogate.rollout import roll_out
from mno.training.objective import pushforward_loss, relative_l2

GRID = Grid((6,), (1 / 6,))
CONFIG = ModelConfig(width=8, layers=1, d_state=2)
ERROR = partial(relative_l2, normaliser=Normaliser({"u": 0.0}, {"u": 1.0}))


def make_operator(frames: int | None = 3, out: int | None = 1) -> nn.Module:
    torch.manual_seed(0)
    return build_operator(
        CONFIG,
        inputs={"u": frames, "forcing": None},
        outputs={"u": out},
        scalars=("viscosity",),
        dims=1,
    )


def make_batch(frames: int | None = 3) -> Batch:
    torch.manual_seed(1)
    shape = (4, 6) if frames is None else (4, frames, 6)
    fields = {"u": torch.randn(shape), "forcing": torch.randn(4, 6)}
    return Batch(fields, GRID, {"viscosity": torch.rand(4)})


class Recurrence(nn.Module):
    """`u_next = u_last + u_first + forcing`: a rollout that can be written out."""

    def forward(self, batch: Batch) -> Batch:
        u = batch.fields["u"]
        return Batch({"u": u[:, -1] + u[:, 0] + batch.fields["forcing"]}, batch.place)


@pytest.mark.parametrize("out", [1, None])
def test_a_rollout_of_one_step_is_the_horizon_of_one_frame(out):
    operator, batch = make_operator(out=out), make_batch()
    horizon = operator(batch).fields["u"].view(4, 1, 6)
    assert torch.equal(roll_out(operator, batch, 1).fields["u"], horizon)


def test_each_step_sees_the_last_frames_and_what_stays():
    batch = make_batch(frames=2)
    first, second = batch.fields["u"].unbind(1)
    forcing, expected = batch.fields["forcing"], []
    for _ in range(5):
        first, second = second, second + first + forcing
        expected.append(second)
    found = roll_out(Recurrence(), batch, 5).fields
    assert set(found) == {"u"}
    torch.testing.assert_close(found["u"], torch.stack(expected, dim=1))
    assert batch.fields["u"].shape == (4, 2, 6), "the batch that is given is left alone"


@pytest.mark.parametrize("frames", [3, 1, None])
def test_a_longer_rollout_goes_on_where_a_shorter_one_ended(frames):
    operator, batch = make_operator(frames), make_batch(frames)
    whole = roll_out(operator, batch, 5).fields["u"]
    assert whole.shape == (4, 5, 6)
    torch.testing.assert_close(whole[:, :4], roll_out(operator, batch, 4).fields["u"])
    known = batch.fields["u"] if frames else batch.fields["u"][:, None]
    window = torch.cat([known, whole[:, :4]], dim=1)[:, -(frames or 1) :]
    last = Batch({**batch.fields, "u": window if frames else window[:, 0]}, GRID, batch.scalars)
    torch.testing.assert_close(roll_out(operator, last, 1).fields["u"], whole[:, 4:])


def gradients(operator: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(operator.parameters())))


def test_the_pushforward_has_the_gradient_of_the_last_step_alone():
    operator, batch, truth = make_operator(), make_batch(), torch.randn(4, 3, 6)
    loss = pushforward_loss(operator, batch, {"u": truth}, ERROR).mean()
    with torch.no_grad():
        known = roll_out(operator, batch, 2).fields["u"]
    window = torch.cat([batch.fields["u"], known], dim=1)[:, -3:]
    last = operator(Batch({**batch.fields, "u": window}, GRID, batch.scalars)).fields["u"][:, 0]
    alone = ERROR({"u": last}, {"u": truth[:, -1]}).mean()
    assert loss.item() == pytest.approx(alone.item())
    expected = gradients(operator, alone)
    for ours, theirs in zip(gradients(operator, loss), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    # Through all steps it is another one.
    through = roll_out(operator, batch, 3).fields["u"][:, -1]
    unrolled = ERROR({"u": through}, {"u": truth[:, -1]}).mean()
    assert unrolled.item() == pytest.approx(loss.item())
    others = gradients(operator, unrolled)
    assert not all(torch.allclose(a, b) for a, b in zip(others, expected, strict=True))


def test_with_one_frame_of_truth_the_pushforward_is_the_error_of_one_step():
    operator, batch, truth = make_operator(), make_batch(), torch.randn(4, 1, 6)
    one = ERROR({"u": operator(batch).fields["u"][:, 0]}, {"u": truth[:, 0]})
    torch.testing.assert_close(pushforward_loss(operator, batch, {"u": truth}, ERROR), one)


def test_what_cannot_be_rolled_out_is_refused():
    with pytest.raises(ValueError, match="expected one frame"):
        roll_out(make_operator(out=2), make_batch(), 2)
    with pytest.raises(ValueError, match="steps=0"):
        roll_out(make_operator(), make_batch(), 0)
    stranger = build_operator(CONFIG, inputs={"u": 3}, outputs={"v": 1}, dims=1)
    with pytest.raises(ValueError, match="output v continues no input"):
        roll_out(stranger, make_batch(), 1)
