"""Other mixers in a trained operator: what changes, what stays, and how it is trained again."""

import copy

import numpy as np
import pytest
import torch

from mno.data import Batch
from mno.data.normalise import Normaliser
from mno.nn import Grid, ModelConfig, build_operator
from mno.nn.backbones import BACKBONES
from mno.nn.replace import replace_mixer
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

GRID = Grid((6, 6), (1 / 6, 1 / 6))
WITH_MIXERS = sorted(set(BACKBONES) - {"fno", "unet"})
each_backbone = pytest.mark.parametrize("backbone", WITH_MIXERS)


def build(seed=0, **options):
    torch.manual_seed(seed)
    values = {"mixer": "softmax", "width": 16, "layers": 3, "modes": 3, **options}
    return build_operator(ModelConfig(**values), inputs=("a",), outputs=("p",))


def random_batch(size=2):
    return Batch({"a": torch.randn(size, 6, 6, generator=torch.Generator().manual_seed(7))}, GRID)


def kinds(operator):
    found: dict[int, set[str]] = {}
    for layer, name in operator.mixers():
        found.setdefault(layer, set()).add(type(operator.get_submodule(name)).__name__)
    return found


@each_backbone
def test_each_mixer_is_found_in_its_layer(backbone):
    mixers = ["softmax", "linear", "mamba"]
    found = kinds(build(backbone=backbone, mixer=mixers))
    assert sorted(found) == [0, 1, 2]
    for layer, name in enumerate(mixers):
        assert all(kind.lower().startswith(name) for kind in found[layer])


@each_backbone
def test_named_layers_get_the_mixer_and_all_other_weights_stay(backbone):
    operator = build(backbone=backbone)
    before = copy.deepcopy(operator.state_dict())
    new = replace_mixer(operator, [0, 2], "mamba", path="bidirectional", d_state=3)
    assert new.config.mixer == ["mamba", "softmax", "mamba"]
    assert new.config.path == ["bidirectional", "axial", "bidirectional"]
    assert new.config.d_state == 3
    replaced = [f"{name}." for layer, name in operator.mixers() if layer != 1]
    after = new.state_dict()
    kept = [key for key in before if not key.startswith(tuple(replaced))]
    assert len(kept) > 10 and all(torch.equal(after[key], before[key]) for key in kept)
    mambas = kinds(new)
    assert all(kind.startswith("Mamba") for layer in (0, 2) for kind in mambas[layer])
    assert all(kind.startswith("Softmax") for kind in mambas[1])
    out = new(random_batch()).fields["p"]
    assert out.isfinite().all() and not torch.allclose(out, operator(random_batch()).fields["p"])


def test_the_operator_that_is_given_is_not_touched_and_shares_nothing():
    operator = build()
    before = copy.deepcopy(operator.state_dict())
    new = replace_mixer(operator, [1], "linear")
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.add_(1.0)
    assert kinds(operator) == {layer: {"SoftmaxMixer"} for layer in range(3)}
    assert all(torch.equal(before[key], value) for key, value in operator.state_dict().items())


def test_type_and_mode_are_those_of_the_operator():
    operator = build().double().eval()
    new = replace_mixer(operator, [0], "linear")
    assert {p.dtype for p in new.parameters()} == {torch.float64} and not new.training
    assert all(p.requires_grad for p in new.parameters())
    assert replace_mixer(operator.train(), [0], "linear").training


def test_replacing_every_layer_gives_one_name_and_replacing_back_gives_the_first_configuration():
    operator = build()
    assert kinds(replace_mixer(build(backbone="transolver"), [1], "own"))[1] == {"PhysicsMixer"}
    mamba = replace_mixer(operator, range(3), "mamba")
    assert mamba.config.mixer == ["mamba"]
    assert replace_mixer(mamba, [0, 1, 2], "softmax").config == operator.config


def test_a_surrogate_with_other_mixers_is_saved_and_loaded(tmp_path):
    operator = build()
    description = Description(
        "darcy",
        {"a": "1"},
        {"p": "1"},
        (1.0, 1.0),
        (1 / 6, 1 / 6),
        Normaliser({"a": 1.0, "p": 2.0}, {"a": 3.0, "p": 4.0}),
        operator.config,
    )
    surrogate = Surrogate(description, operator)
    new = surrogate.with_operator(replace_mixer(operator, [0, 1], "mamba", path="cross"))
    assert new.description.model.mixer == ["mamba", "mamba", "softmax"]
    new.save(tmp_path)
    loaded = Surrogate.load(tmp_path)
    inputs = {"a": np.random.default_rng(0).standard_normal((2, 8, 8))}
    assert np.array_equal(loaded.predict(inputs)["p"], new.predict(inputs)["p"])
    assert loaded.description == new.description


@each_backbone
def test_training_in_stages_lowers_the_loss_first_by_the_new_mixers_alone(backbone):
    batch = random_batch()
    target = batch.fields["a"].cumsum(1) / 3
    new = replace_mixer(build(backbone=backbone), [1], "mamba")
    mixers = [new.get_submodule(name) for layer, name in new.mixers() if layer == 1]
    best = []
    for weights in ([w for mixer in mixers for w in mixer.parameters()], list(new.parameters())):
        losses, optimiser = [], torch.optim.AdamW(weights, 3e-3)
        for _ in range(8):
            loss = (new(batch).fields["p"] - target).square().mean()
            losses.append(loss.item())
            new.zero_grad()
            loss.backward()
            optimiser.step()
        best += [losses[0], min(losses)]
    assert best[0] > best[1] > best[3]


@pytest.mark.parametrize(
    ("layers", "mixer", "options", "message"),
    [
        ([3], "mamba", {}, r"layers=\[3\]: this operator has mixers in layers 0, 1, 2; name at"),
        ([-1, 0], "mamba", {}, r"layers=\[-1\]: this operator has mixers in layers 0, 1, 2"),
        ([], "mamba", {}, r"layers=\[\]: this .* name at least one"),
        ([0], "conv", {}, "mixer='conv' is not known; choose one of own, mamba, ssd, softmax"),
        ([0], "mamba", {"states": 4}, r"\['states'\] are not options of mixers; choose among path"),
        ([0], "mamba", {"width": 8}, r"\['width'\] are not options of mixers"),
        ([0], "mamba", {"d_state": 0}, "d_state.*does not fit: Input should be greater than"),
        ([0], "mamba", {"path": "spiral"}, "does not fit: .*axial"),
        ([0], "linear", {"heads": 2}, "heads=2 would change the softmax mixer of layer 1, too"),
        ([0], "linear", {"heads": 5}, "does not fit: Value error, width=16 cannot be divided"),
    ],
)
def test_what_cannot_be_replaced_is_refused_with_the_remedy(layers, mixer, options, message):
    with pytest.raises(ValueError, match=message):
        replace_mixer(build(), layers, mixer, **options)


@pytest.mark.parametrize("backbone", ["fno", "unet"])
def test_backbones_without_mixers_say_so(backbone):
    operator = build(backbone=backbone, layers=1)
    with pytest.raises(ValueError, match=f"backbone='{backbone}' has no mixers to replace"):
        replace_mixer(operator, [0], "mamba")
