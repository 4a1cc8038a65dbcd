"""Time as an axis of an operator: pieces, steps, causality, irregular times, refusals."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from backbone_cases import random, unit_grid
from hypothesis import given, settings
from hypothesis import strategies as st

from mno.data import Batch
from mno.nn import Grid, ModelConfig, Points, build_operator
from mno.nn.along_time import TimeBlock
from mno.nn.lean import LeanTimeBlock, lean
from mno.nn.mixers.time import TimeMixer
from mno.nn.replace import replace_mixer

FRAMES = 9
PLACES = {
    "line": Grid((8,), (1 / 8,)),
    "plane": unit_grid(8, 4),
    "points": Points(random(2, 6, 2, seed=5)),
}
BACKBONES = {
    "plain": {"mixer": ["mamba", "softmax"]},
    "latent": {"patch": 2, "local_width": 4, "mixer": ["softmax"]},
}


def build(backbone="plain", dims=1, gaps=(), **options):
    torch.manual_seed(0)
    small = {"width": 8, "layers": 2, "heads": 2, "d_state": 2, "time_state": 3, "path": "axial"}
    config = ModelConfig(backbone=backbone, **{**small, **BACKBONES[backbone], **options})
    inputs = {"level": 1, "load": 1, "ground": None}
    return build_operator(
        config, inputs=inputs, outputs={"level": 1}, scalars=("loss",), dims=dims, gaps=gaps,
        along_time=True,
    ).eval()  # fmt: skip


def batch_at(place, samples=2, frames=FRAMES, seed=0):
    shape = place.shape if isinstance(place, Grid) else (place.num_points,)
    fields = {
        "level": random(samples, frames, *shape, seed=seed),
        "load": random(samples, frames, *shape, seed=seed + 1),
        "ground": random(samples, *shape, seed=seed + 2),
    }
    drawn = torch.Generator().manual_seed(seed)
    intervals = 0.2 + 2 * torch.rand(samples, frames + 1, generator=drawn)
    return Batch(fields, place, {"loss": random(samples, seed=seed + 3)}, intervals)


def piece(batch, start, stop):
    fields = {n: f if n == "ground" else f[:, start:stop] for n, f in batch.fields.items()}
    return dataclasses.replace(batch, fields=fields, intervals=batch.intervals[:, start : stop + 1])


def answered(operator, batch, state=None):
    answer, state = operator(batch, state, return_state=True)
    return answer.fields["level"], state


def assert_near(found, expected):
    """Assert that they differ by 1e-6 of the largest value at most."""
    assert found.shape == expected.shape
    if expected.numel():
        assert (found - expected).abs().amax() <= 1e-6 * expected.abs().amax()


def cases():
    for place in PLACES:
        for backbone in BACKBONES:
            cells = {"cells": 3} if (place, backbone) == ("points", "latent") else {}
            path = {"path": "bidirectional"} if place == "points" else {}
            yield pytest.param(backbone, place, {**cells, **path}, id=f"{backbone}-{place}")


@pytest.mark.parametrize(("backbone", "place", "options"), list(cases()))
def test_pieces_and_steps_answer_as_the_whole(backbone, place, options):
    dims = 1 if place == "line" else 2
    operator, batch = build(backbone, dims, **options), batch_at(PLACES[place])
    whole, behind = answered(operator, batch)
    assert whole.shape == batch.fields["level"].shape
    for cuts in ((4,), range(1, FRAMES)):
        state, found, ends = None, [], [0, *cuts, FRAMES]
        for start, stop in zip(ends, ends[1:], strict=False):
            part, state = answered(operator, piece(batch, start, stop), state)
            found.append(part)
        torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(state, behind, rtol=1e-5, atol=1e-6)
    assert behind.shape[:2] == (2, 2)  # samples, layers
    assert behind.dtype == torch.float32


@settings(max_examples=20, deadline=None)
@given(
    cuts=st.sets(st.integers(1, 11)) | st.just(set(range(1, 12))), frames=st.integers(1, 12),
    lines=st.integers(1, 4), wide=st.integers(1, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_mixer_follows_any_split_of_any_sequence(cuts, frames, lines, wide, seed):
    torch.manual_seed(seed)
    mixer = TimeMixer(4, d_state=3, expand=wide)
    x = random(frames, lines, 4, seed=seed).transpose(0, 1)  # not contiguous
    intervals = 0.1 + random(lines, frames, seed=seed).abs()
    whole, behind = mixer(x, intervals)
    ends, state, found = [0, *sorted(c for c in cuts if c < frames), frames], None, []
    for start, stop in zip(ends, ends[1:], strict=False):
        y, state = mixer(x[:, start:stop], intervals[:, start:stop], state)
        found.append(y)
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state, behind, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("backbone", "place", "options"), list(cases()))
def test_the_lean_form_answers_alike_whole_in_pieces_and_step_by_step(backbone, place, options):
    dims = 1 if place == "line" else 2
    operator, batch = build(backbone, dims, **options), batch_at(PLACES[place])
    whole, behind = answered(operator, batch)
    form = lean(operator)
    with torch.inference_mode():
        for cuts in ((), (4,), range(1, FRAMES)):
            state, found, ends = None, [], [0, *cuts, FRAMES]
            for start, stop in zip(ends, ends[1:], strict=False):
                part, state = answered(form, piece(batch, start, stop), state)
                found.append(part)
            assert_near(torch.cat(found, 1), whole)
            assert_near(state, behind)
        part, state = answered(form, piece(batch, 0, 4))  # and takes over from each other
        assert_near(answered(operator, piece(batch, 4, FRAMES), state)[1], behind)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    lines=st.integers(0, 70), frames=st.integers(0, 5), width=st.integers(1, 50),
    wide=st.integers(1, 2), kept=st.integers(1, 9), rest=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_lean_layer_of_any_size_is_the_layer(lines, frames, width, wide, kept, rest, seed):
    torch.manual_seed(seed)
    config = ModelConfig(width=width, expand=wide, time_state=kept, dropout=0.2)
    block = TimeBlock(config).eval().requires_grad_(False)
    for weight in (block.norm.weight, block.norm.bias, *block.mixer.out_norm.parameters()):
        weight += 0.3 * torch.randn(width if weight.shape == (width,) else width * wide)
    block.mixer.window_bias.normal_()
    x = random(frames, lines, width, seed=seed).transpose(0, 1)  # not contiguous
    intervals = 0.1 + random(lines, frames, seed=seed).abs()
    state = None if rest else random(lines, wide * width, kept + 3, seed=seed)
    given_state = None if rest else state.clone()
    for found, expected in zip(
        LeanTimeBlock(block)(x, intervals, state), block(x, intervals, state), strict=True
    ):
        assert_near(found, expected)
    assert rest or torch.equal(state, given_state)


def test_a_lean_layer_takes_double_precision_the_layers_own_way_and_refuses_what_does_not_fit():
    block = TimeBlock(ModelConfig(width=4)).eval()
    x, intervals = random(3, 2, 4), torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"intervals: shape \(3, 1\), expected \(3, 2\)"):
        LeanTimeBlock(block)(x, intervals[:, :1], None)
    block.double()
    given = x.double(), intervals.double(), None
    assert torch.equal(LeanTimeBlock(block)(*given)[0], block(*given)[0])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_later_frame_changes_no_earlier_answer(backbone):
    operator, batch = build(backbone), batch_at(PLACES["line"])
    before = answered(operator, batch)[0]
    fields = {n: f.clone() for n, f in batch.fields.items()}
    fields["level"][:, 5:], fields["load"][:, 5:] = 7.0, -3.0
    intervals = batch.intervals.clone()
    intervals[:, 6:] = 3.0
    after = answered(operator, dataclasses.replace(batch, fields=fields, intervals=intervals))[0]
    assert torch.equal(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 5:], before[:, 5:])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_answer_remembers_all_frames_and_hears_how_far_apart_they_are(backbone):
    operator, batch = build(backbone).double(), batch_at(PLACES["line"])
    fields = {n: f.double() for n, f in batch.fields.items()}
    scalars = {"loss": batch.scalars["loss"].double()}
    batch = dataclasses.replace(batch, fields=fields, scalars=scalars)
    before = answered(operator, batch)[0][:, -1]
    for change in ("level", "load", "between", "ahead"):
        fields = {n: f.clone() for n, f in batch.fields.items()}
        intervals = batch.intervals.clone()
        if change in fields:
            fields[change][:, 0] += 1.0
        else:
            intervals[:, {"between": 4, "ahead": -1}[change]] += 1.0
        other = dataclasses.replace(batch, fields=fields, intervals=intervals)
        after = answered(operator, other)[0][:, -1]
        assert (after - before).abs().amax() > 1e-9, change


def test_equal_intervals_need_not_be_said():
    operator, batch = build(), batch_at(PLACES["line"])
    said = dataclasses.replace(batch, intervals=torch.ones(2, FRAMES + 1))
    unsaid = dataclasses.replace(batch, intervals=None)
    assert torch.equal(*(operator(b).fields["level"] for b in (said, unsaid)))


def test_missing_frames_are_told_and_gradients_reach_all_weights():
    operator, batch = build(gaps=("level",)).train(), batch_at(PLACES["line"])
    batch.fields["level"][:, 3:] = torch.nan
    answer, state = operator(batch, return_state=True)
    (answer.fields["level"].square().mean() + state.square().mean()).backward()
    for name, weight in operator.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name


def test_gradients_come_back_through_the_state():
    operator, batch = build(), batch_at(PLACES["line"])
    first = batch.fields["level"].clone().requires_grad_()
    early = piece(batch, 0, 4)
    early = dataclasses.replace(early, fields={**early.fields, "level": first[:, :4]})
    _, state = answered(operator, early)
    answered(operator, piece(batch, 4, 5), state)[0].sum().backward()
    assert (first.grad[:, :4].abs().amax(dim=(0, 2)) > 0).all()


def test_a_state_goes_on_in_another_process(tmp_path):
    operator, batch = build(), batch_at(PLACES["line"])
    whole = answered(operator, batch)[0]
    state = answered(operator, piece(batch, 0, 4))[1]
    torch.save({"state": state, "batch": vars(piece(batch, 4, FRAMES)) | {"place": None},
                "weights": operator.state_dict()}, tmp_path / "kept.pt")  # fmt: skip
    code = """
import sys, torch
sys.path.insert(0, "tests/nn")
from test_along_time import PLACES, Batch, answered, build
kept = torch.load(sys.argv[1], weights_only=True)
operator = build()
operator.load_state_dict(kept["weights"])
batch = Batch(**kept["batch"] | {"place": PLACES["line"]})
torch.save(answered(operator, batch, kept["state"])[0].detach(), sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "kept.pt")], check=True)
    later = torch.load(tmp_path / "kept.pt", weights_only=True)
    torch.testing.assert_close(later, whole[:, 4:], rtol=1e-5, atol=1e-6)


def test_another_mixer_in_space_leaves_what_follows_time():
    operator, batch = build(), batch_at(PLACES["line"])
    other = replace_mixer(operator, [0], "softmax")
    assert other.signature.along_time
    weights = other.time_blocks[1].mixer.in_proj.weight
    assert torch.equal(weights, operator.time_blocks[1].mixer.in_proj.weight)
    assert answered(other, batch)[0].shape == batch.fields["level"].shape


def test_what_does_not_fit_is_refused():
    operator, batch = build(), batch_at(PLACES["line"])
    _, state = answered(operator, batch)
    with pytest.raises(ValueError, match=r"state has shape \(1, 2.*expected \(batch, layers"):
        operator(batch, state[:1])
    with pytest.raises(ValueError, match=r"state has shape .*give what this mixer returned"):
        operator(batch, state[..., :2])
    with pytest.raises(ValueError, match=r"intervals have shape \(2, 9\).*\(2, 10\)"):
        operator(dataclasses.replace(batch, intervals=batch.intervals[:, 1:]))
    short = {**batch.fields, "load": batch.fields["load"][:, 1:]}
    with pytest.raises(ValueError, match="as many frames"):
        operator(dataclasses.replace(batch, fields=short))
    with pytest.raises(ValueError, match=r"expected level, load"):
        operator(dataclasses.replace(batch, fields={"level": batch.fields["level"]}))
    plain = build_operator(ModelConfig(), inputs={"a": 2}, outputs={"a": 1}, dims=1)
    with pytest.raises(ValueError, match=r"has no state.*along_time=True"):
        plain(Batch({"a": random(1, 2, 8)}, PLACES["line"]), return_state=True)
    with pytest.raises(ValueError, match=r"fno.*choose one of plain, latent"):
        build_operator(
            ModelConfig(backbone="fno"), inputs={"a": 1}, outputs={"a": 1}, along_time=True
        )
    for inputs in ({"a": 2}, {"a": None}):
        with pytest.raises(ValueError, match="frames come one by one"):
            build_operator(ModelConfig(), inputs=inputs, outputs={"a": 1}, along_time=True)
