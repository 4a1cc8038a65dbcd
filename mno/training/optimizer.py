"""The optimisers of a training: AdamW, and Muon for what is a matrix."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from mno.training.config import TrainConfig

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Muon's polynomial, which takes singular values between 0 and 1 to some 0.7 to 1.2."""
ITERATIONS = 5
MOMENTUM = 0.95
RMS = 0.2
"""Root mean square of Muon's steps at a rate of one, about that of AdamW's."""

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def optimizers_of(operator: nn.Module, config: TrainConfig) -> list[Optimizer]:
    """Return what makes the steps of an operator's weights, of which matrices alone decay.

    Those are of linear layers and convolutions. Decay would pull a norm's gain, a bias or a scan's
    time constant to zero, which for these is not the simpler function. With `muon`, matrices are
    Muon's, and so are those of each mode of complex weights, the FNO's; the rest remains AdamW's.
    The fused AdamW is faster, but takes no complex weights; in mixed precision it is left out.
    """
    layers = {id(m.weight) for m in operator.modules() if isinstance(m, LAYERS)}
    matrices = [weight for weight in operator.parameters() if id(weight) in layers]
    others = [weight for weight in operator.parameters() if id(weight) not in layers]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": config.weight_decay}]
    optimizers: list[Optimizer] = []
    if config.optimizer == "muon":
        modes = [weight for weight in others if _is_of_modes(weight)]
        others = [weight for weight in others if not _is_of_modes(weight)]
        optimizers.append(Muon([*groups, {"params": modes}], config.learning_rate))
        groups = []
    groups.append({"params": others, "weight_decay": 0.0})
    is_real = not any(weight.is_complex() for group in groups for weight in group["params"])
    groups = [group for group in groups if group["params"]]
    fused = is_real and config.precision == 32
    adamw = AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), fused=fused)
    return [*optimizers, adamw]


def _is_of_modes(weight: Tensor) -> bool:
    return weight.is_complex() and weight.ndim > 2


class Muon(Optimizer):
    """Gradient descent with momentum, whose steps have singular values all near one.

    Of each matrix W with gradient G, in step t,

        M_t = 0.95 M_{t-1} + 0.05 G,   W <- (1 - rate decay) W - rate 0.2 sqrt(n) U,

    where U is the orthogonal factor of 0.05 G + 0.95 M_t, to the few per cent of five iterations,
    and n the longer side of W. A convolution is the matrix from all that it sees to its channels;
    of weights that are complex, the first two axes make a matrix for each place along the others.

    Source:
        Jordan et al., "Muon: An optimizer for hidden layers in neural networks",
        kellerjordan.github.io/posts/muon, 2024; the factor 0.2 sqrt(n), with which rates are
        AdamW's, Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982.
    """

    def __init__(self, groups: list[dict[str, Any]], learning_rate: float) -> None:
        defaults = {"lr": learning_rate, "weight_decay": 0.0}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Callable[[], float] | None = None
    ) -> None:
        """Take one step; matrices of one shape are made orthogonal together."""
        for group in self.param_groups:
            together = defaultdict(list)
            for weight in group["params"]:
                together[weight.shape].append(weight)
            for weights in together.values():
                self._step(weights, group)

    def _step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        steps = torch.stack([torch.zeros_like(w) if w.grad is None else w.grad for w in weights])
        state = self.state[weights[0]]  # of all of this shape
        if not state:
            state["momenta"] = torch.zeros_like(steps)
        momenta = state["momenta"].lerp_(steps, 1 - MOMENTUM)
        steps.lerp_(momenta, MOMENTUM)
        if steps.is_complex():
            by_mode = steps.movedim((1, 2), (-2, -1))
            longer = max(by_mode.shape[-2:])
            steps = orthogonal(by_mode.flatten(0, -3)).view(by_mode.shape).movedim((-2, -1), (1, 2))
        else:
            matrices = steps.flatten(2)
            longer, steps = max(matrices.shape[-2:]), orthogonal(matrices)
        rate = group["lr"]
        for weight, step in zip(weights, steps, strict=True):
            weight.mul_(1 - rate * group["weight_decay"])
            weight.sub_(step.reshape(weight.shape), alpha=rate * RMS * longer**0.5)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return the orthogonal factors of matrices `(number, n, m)`, nearly: by Newton-Schulz steps.

    Their singular values are between 0.7 and 1.2, but for those below a hundredth of the matrix's
    norm, which are not reached by so few iterations.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mH
    x = x.contiguous() / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    x = _orthogonal_long(x) if x.shape[-1] > 2 * x.shape[-2] else _orthogonal(x)
    return x if wide else x.mH


def _orthogonal(x: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = torch.bmm(x, x.mH)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def _orthogonal_long(x: Tensor) -> Tensor:
    """Do the same for less where lines are long: all that multiplies x is a polynomial of x xH."""
    a, b, c = COEFFICIENTS
    square, factor = torch.bmm(x, x.mH), None
    for _ in range(ITERATIONS):
        by = torch.baddbmm(square, square, square, beta=b, alpha=c)
        by.diagonal(dim1=-2, dim2=-1).add_(a)
        factor = by if factor is None else torch.bmm(by, factor)
        square = torch.bmm(torch.bmm(by, square), by)
    return x if factor is None else torch.bmm(factor, x)
