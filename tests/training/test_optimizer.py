"""The optimisers: which weights are whose, and Muon's steps against torch's own and by hand."""

import pytest
import torch
from runner import weights_of
from smoothing_problem import CONFIG, MODEL, run
from torch import nn

from mno.nn.build import build_operator
from mno.nn.config import ModelConfig
from mno.training.optimizer import RMS, Muon, optimizers_of, orthogonal

MUON = CONFIG.model_copy(update={"optimizer": "muon", "weight_decay": 0.1})


def drawn(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def stepped(weight, gradients, decay=0.0, rate=0.1):
    weight = nn.Parameter(weight.clone())
    optimizer = Muon([{"params": [weight], "weight_decay": decay}], rate)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_weight_is_optimised_once_and_only_matrices_decay(optimizer):
    operator = build_operator(MODEL, inputs=("a",), outputs=("u",))
    config = CONFIG.model_copy(update={"optimizer": optimizer, "weight_decay": 0.1})
    groups = [group for each in optimizers_of(operator, config) for group in each.param_groups]
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in operator.parameters())
    decaying = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    linear = {id(m.weight) for m in operator.modules() if isinstance(m, nn.Linear)}
    biases = {id(p) for name, p in operator.named_parameters() if name.endswith("bias")}
    assert linear <= decaying
    assert not biases & decaying


def test_muon_has_the_matrices_of_layers_and_of_fourier_modes():
    pytest.importorskip("neuralop")
    fno = ModelConfig(backbone="fno", width=8, layers=2, modes=4)
    operator = build_operator(fno, inputs=("a",), outputs=("u",))
    muon, adamw = optimizers_of(operator, MUON)
    matrices, modes = (group["params"] for group in muon.param_groups)
    assert len(modes) == 2 and all(p.is_complex() and p.ndim == 4 for p in modes)
    left = [p for group in adamw.param_groups for p in group["params"]]
    assert all(p.numel() == max(p.shape) for p in left)  # offsets, as images of one point
    assert len(matrices) > 4


@pytest.mark.parametrize("shape", [(1, 24, 24), (1, 16, 30), (3, 40, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_a_step_has_singular_values_near_one_in_the_directions_of_its_matrix(shape, dtype):
    matrices = drawn(*shape, dtype=dtype)
    made = orthogonal(matrices)
    singular = torch.linalg.svdvals(made)
    # The smallest of a square matrix may be too small for five iterations.
    assert singular.max() < 1.25 and singular[..., :-1].min() > 0.3
    assert (singular > 0.65).double().mean() > 0.9
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    across = u.mH @ made @ vh.mH
    aside = across - torch.diag_embed(across.diagonal(dim1=-2, dim2=-1))
    assert aside.abs().max() < 1e-4


def test_steps_are_those_of_torch():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch is older than its own Muon (2.9)")
    weight, gradients = drawn(24, 40), [drawn(24, 40, seed=i) for i in (1, 2, 3)]
    theirs = nn.Parameter(weight.clone())
    options = {"weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    optimizer = torch.optim.Muon([theirs], lr=0.1, **options)
    for gradient in gradients:
        theirs.grad = gradient.clone()
        optimizer.step()
    ours, moved = stepped(weight, gradients, decay=0.1), (theirs.detach() - weight).norm()
    assert (ours - theirs.detach()).norm() < 0.02 * moved  # theirs are of half precision


def test_a_convolution_is_a_matrix_and_each_mode_another():
    image, gradient = drawn(8, 4, 3, 3), drawn(8, 4, 3, 3, seed=1)
    flat = stepped(image.flatten(1), [gradient.flatten(1)])
    torch.testing.assert_close(stepped(image, [gradient]), flat.view_as(image))
    modes = [drawn(6, 6, 5, dtype=torch.complex64, seed=i) for i in (1, 2)]
    made = stepped(modes[0], [modes[1]])
    for i in range(5):
        step = orthogonal(modes[1][None, ..., i])[0] * (0.1 * RMS * 6**0.5)
        torch.testing.assert_close(made[..., i], modes[0][..., i] - step)


def test_weights_without_a_gradient_stay():
    weights = [nn.Parameter(drawn(4, 4)), nn.Parameter(drawn(4, 4))]
    before = weights[1].detach().clone()
    optimizer = Muon([{"params": weights}], 0.1)
    weights[0].grad = drawn(4, 4, seed=1)
    optimizer.step()
    assert torch.equal(weights[1], before)


def test_training_with_muon_continues_as_if_it_had_never_ended(tmp_path):
    whole, history = run(tmp_path / "whole", optimizer="muon", epochs=4)

    class EndedError(Exception):
        pass

    def ends(epoch, _):
        if epoch == 2:
            raise EndedError

    with pytest.raises(EndedError):
        run(tmp_path / "parts", optimizer="muon", epochs=4, observers=[ends])
    continued, again = run(tmp_path / "parts", optimizer="muon", epochs=4)
    assert weights_of(continued) == weights_of(whole)
    assert again == history
    assert history.records[-1].train_relative_l2 < history.records[0].train_relative_l2
