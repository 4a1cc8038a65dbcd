"""The ready check of backbones: what every entry of `BACKBONES` must do."""

import pytest
import torch
from backbone_cases import build, change_on_a_finer_grid, learn, points, random, sums, unit_grid
from safetensors.torch import load, save

from mno.data import Batch
from mno.nn import Points
from mno.nn.backbones import BACKBONES
from mno.nn.mixers import MIXERS

MIXING = [name for name, entry in BACKBONES.items() if entry.own_mixers]
each = pytest.mark.parametrize("backbone", BACKBONES)
each_with_mixers = pytest.mark.parametrize("backbone", MIXING)
each_and_mixer = pytest.mark.parametrize(
    ("backbone", "mixer"),
    [(name, "own") for name in BACKBONES] + [(name, "mamba") for name in MIXING[1:]],
)


def batch_of(field, domain=None):
    return Batch({"a": field}, domain or unit_grid(*field.shape[1:]))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # with other sums, Transolver takes longer to leave a plateau
    yield
    torch.set_num_threads(before)


@each_and_mixer
def test_it_overfits_one_batch(backbone, mixer, one_thread):
    options = {"width": 16, "layers": 1, "modes": 4, "levels": 2, "perceptron_layers": 1}
    a = random(2, 6, 6)
    losses = learn(build(backbone, mixer, **options), batch_of(a), sums(a), 2e-3, 2500, 0.06)
    assert losses[0] > 0.5 and losses[-1] < 0.06


@pytest.mark.parametrize(
    ("backbone", "mixer"),
    [(name, "own") for name in BACKBONES] + [(name, mixer) for name in MIXING for mixer in MIXERS],
)
def test_all_that_it_computes_with_is_where_its_inputs_are(backbone, mixer):
    # What lies on `meta` has no values, and torch refuses to combine it with what does not.
    operator = build(backbone, mixer, scalars=("s",), gaps=("a",), walls="zero").to("meta")
    fields, scalars = {"a": random(2, 8, 8).to("meta")}, {"s": random(2).to("meta")}
    found = operator(Batch(fields, unit_grid(8, 8), scalars)).fields["p"]
    assert found.is_meta and found.shape == (2, 8, 8)
    found.sum().backward()
    assert all(w.grad is not None and w.grad.is_meta for w in operator.parameters())


@each_and_mixer
@pytest.mark.parametrize("shape", [(8,), (6, 5), (4, 6, 3)])
def test_one_code_serves_several_fields_frames_and_scalars_in_one_to_three_dimensions(
    backbone, mixer, shape
):
    operator = build(
        backbone, mixer, inputs={"a": 3, "b": None}, outputs={"p": 2, "q": 2}, scalars=("s",),
        dims=len(shape), experts=2, latent_steps=2,
    )  # fmt: skip
    fields = {"a": random(2, 3, *shape), "b": random(2, *shape, seed=2)}
    fields = {name: field.requires_grad_() for name, field in fields.items()}
    scalar = torch.tensor([0.5, 2.0], requires_grad=True)
    out = operator(Batch(fields, unit_grid(*shape), {"s": scalar}))
    assert list(out.fields) == ["p", "q"] and out.place == unit_grid(*shape)
    assert all(field.shape == (2, 2, *shape) for field in out.fields.values())
    sum((field * random(*field.shape, seed=4)).sum() for field in out.fields.values()).backward()
    for tensor in (scalar, *fields.values(), *operator.parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all()
    for tensor in (scalar[:, None], *fields.values()):
        given = scalar.grad[:, None] if tensor.ndim == 2 else tensor.grad
        assert (given.flatten(1).abs().amax(-1) > 0).all()  # of each sample


@each
def test_samples_do_not_touch_each_other_and_none_is_none(backbone):
    operator, a = build(backbone), random(3, 6, 6)
    whole, alone, none = (operator(batch_of(x)).fields["p"] for x in (a, a[1:2], a[:0]))
    torch.testing.assert_close(whole[1:2], alone)
    assert none.shape == (0, 6, 6)


@each
def test_the_same_seed_gives_the_same_weights_and_they_survive_safetensors(backbone):
    operator, again, other = build(backbone), build(backbone), build(backbone, seed=1)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in operator.state_dict().items())
    batch = batch_of(random(2, 8, 8))
    assert not torch.equal(other(batch).fields["p"], operator(batch).fields["p"])
    other.load_state_dict(load(save(operator.state_dict())))
    assert torch.equal(other(batch).fields["p"], operator(batch).fields["p"])


@each
def test_features_are_dropped_in_training_only(backbone):
    operator, batch = build(backbone, dropout=0.5), batch_of(random(1, 6, 6))
    assert not torch.equal(operator(batch).fields["p"], operator(batch).fields["p"])
    operator.eval()
    assert torch.equal(operator(batch).fields["p"], operator(batch).fields["p"])


@each_with_mixers
def test_it_can_be_exported_and_runs_under_mixed_precision(backbone):
    operator, a = build(backbone, layers=1).eval(), random(2, 6, 5)

    class OnGrid(torch.nn.Module):  # only tensors can be arguments of an exported program
        def __init__(self):
            super().__init__()
            self.operator = operator

        def forward(self, a):
            return self.operator(batch_of(a)).fields["p"]

    exact = operator(batch_of(a)).fields["p"]
    torch.testing.assert_close(torch.export.export(OnGrid(), (a,)).module()(a), exact)
    with torch.autocast("cpu", torch.bfloat16):
        out = operator(batch_of(a)).fields["p"]
    out.float().sum().backward()
    assert (out - exact).norm() < 0.05 * exact.norm()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in operator.parameters())


# --- mixers


@each_with_mixers
def test_each_layer_may_have_its_own_mixer_and_path(backbone):
    operator = build(backbone, ["mamba", "softmax"], path=["zigzag", "axial"])
    kinds = [type(block.mixer).__name__ for block in operator.blocks]
    assert kinds == ["MambaMixer", "SoftmaxMixer"] and operator.blocks[0].mixer.path == "zigzag"
    if backbone == "gnot":
        kinds = [type(block.cross_mixers[0]).__name__ for block in operator.blocks]
        assert kinds == ["MambaCrossMixer", "SoftmaxCrossMixer"]
    if backbone == "oformer":
        assert type(operator.cross_mixer).__name__ == "SoftmaxCrossMixer"
    out = operator(batch_of(random(2, 4, 4))).fields["p"]
    assert out.shape == (2, 4, 4) and out.isfinite().all()


@each_with_mixers
def test_own_are_the_mixers_it_was_published_with_in_turn(backbone):
    own = BACKBONES[backbone].own_mixers
    found = [type(block.mixer).__name__ for block in build(backbone, layers=2).blocks]
    assert found == [MIXERS[(own * 2)[layer]].self_form for layer in range(2)]


@each_with_mixers
def test_the_same_weights_are_the_same_function_on_a_finer_grid(backbone):
    coarse, change = change_on_a_finer_grid(build(backbone, width=16))
    assert change.norm() < 0.05 * (coarse - coarse.mean()).norm()


# --- points without a grid


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name not in MIXING])
def test_scattered_points_are_refused_by_what_works_on_grids(backbone):
    with pytest.raises(ValueError, match=f"backbone='{backbone}' takes grids only, and was given"):
        build(backbone)(batch_of(random(2, 7), points(7)))


@pytest.mark.parametrize("backbone", ["gnot", "oformer", "transolver"])
@pytest.mark.parametrize("mixer", ["own", "softmax"])
def test_permuting_the_points_permutes_the_answer(backbone, mixer):
    operator, domain = build(backbone, mixer).double(), points(9)
    a, order = random(2, 9).double(), torch.randperm(9, generator=torch.Generator().manual_seed(5))
    turned = operator(batch_of(a[:, order], Points(domain.coordinates[order])))
    expected = operator(batch_of(a, domain)).fields["p"][:, order]
    torch.testing.assert_close(turned.fields["p"], expected)


@pytest.mark.parametrize("backbone", ["gnot", "oformer"])
@pytest.mark.parametrize("mixer", ["own", "mamba"])
def test_it_takes_unordered_points_and_fields_without_frames(backbone, mixer):
    operator = build(
        backbone, mixer, inputs=("a", "b"), outputs=("p", "q"), dims=3, path="bidirectional"
    )
    domain = points(9, dims=3)
    out = operator(Batch({"a": random(2, 9), "b": random(2, 9, seed=2)}, domain))
    assert out.fields["p"].shape == out.fields["q"].shape == (2, 9) and out.place is domain
