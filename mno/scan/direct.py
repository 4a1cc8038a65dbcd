"""The compiled scan called directly, without torch's dispatcher.

The dispatcher takes longer than a short scan. Only where somebody traces or transforms does the
registered operator of `mno.scan.op` have to be seen; it calls the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mno.scan import cpu
from mno.scan.arguments import ScanArguments, ScanPath, packed
from mno.scan.lines import scan_by_lines
from mno.scan.plain import plain_recurrence


class Arrangement(Protocol):
    """How the tensors of a caller lie, and how those of the backends do.

    Tensors come in the order of `ScanArguments.tensors`; all that is returned are views.
    """

    def inward(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Return the inputs as the backends take them."""
        ...

    def outward(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Return the gradients by the inputs as those lie."""
        ...

    def of_output(self, y: Tensor) -> Tensor:
        """Return the backends' output as the caller wants it."""
        ...

    def to_output(self, y: Tensor) -> Tensor:
        """Undo `of_output`."""
        ...


class _AsTheyAre:
    """The arrangement of the backends themselves."""

    def inward(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        return tensors

    def outward(self, tensors: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        return tensors

    def of_output(self, y: Tensor) -> Tensor:
        return y

    def to_output(self, y: Tensor) -> Tensor:
        return y


AS_THEY_ARE = _AsTheyAre()


def is_direct(tensors: Sequence[Tensor | None]) -> bool:
    """Say whether a scan of these tensors can be computed by `direct_scan`.

    Not where anybody has to see the operator: a tracer, a transform, a mode, a subclass; and only
    in float32 on a processor that has the kernels.
    """
    return (
        not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
        and all(x is None or _is_plain(x) for x in tensors)
        and cpu.unavailable() is None
    )


def _is_plain(x: Tensor) -> bool:
    usual = type(x) is Tensor or type(x) is nn.Parameter
    return usual and x.dtype == torch.float32 and x.device.type == "cpu"


def direct_scan(
    arrangement: Arrangement,
    tensors: Sequence[Tensor | None],
    path: ScanPath,
    softplus: bool,
    discretization: str,
) -> Tensor:
    """Compute a scan without torch's dispatcher, which takes longer than a short scan does."""
    wants = wants_gradient(tensors)
    y, _ = _DirectScan.apply(arrangement, path, softplus, discretization, wants, *tensors)
    return y


class _DirectScan(torch.autograd.Function):
    """The operator and its gradient, for tensors in any arrangement."""

    @staticmethod
    def forward(
        arrangement: Arrangement,
        path: ScanPath,
        softplus: bool,
        discretization: str,
        save: bool,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        options = (packed(path.directions), softplus, discretization, save)
        y, states = run(*arrangement.inward(tensors), path.factors, path.order, *options)
        return arrangement.of_output(y), states

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *ctx.options, _ = inputs[:5]
        ctx.save_for_backward(*inputs[5:], output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        *tensors, states = ctx.saved_tensors
        arrangement, path, *how = ctx.options
        dy, nothing = grad_outputs[0], (None,) * 5
        if dy is None:
            return (*nothing, *(None for _ in tensors))
        if torch.is_grad_enabled():
            needed = ctx.needs_input_grad[5:]
            return (*nothing, *plain_gradients(arrangement, tensors, needed, dy, path, *how))
        grads = run_backward(
            *arrangement.inward(tensors), path.factors, path.order, states,
            arrangement.to_output(dy), packed(path.directions), *how,
        )  # fmt: skip
        return (*nothing, *arrangement.outward(grads))


def run(*inputs: Any) -> tuple[Tensor, Tensor]:
    """Return the output and the states to keep; the inputs are those of the operator."""
    from mno.scan.cpu import launch  # loads numba

    *tensors_and_layout, softplus, discretization, save = inputs
    return launch.forward(
        *tensors_and_layout, softplus=softplus, discretization=discretization, save=save
    )


def run_backward(*inputs: Any) -> tuple[Tensor | None, ...]:
    """Return the gradients by the first eight inputs, `None` for those that are not there."""
    from mno.scan.cpu import launch

    *tensors_and_layout, softplus, discretization = inputs
    return launch.backward(*tensors_and_layout, softplus=softplus, discretization=discretization)


def wants_gradient(tensors: Sequence[Tensor | None]) -> bool:
    """Say whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def plain_gradients(
    arrangement: Arrangement,
    tensors: Sequence[Tensor | None],
    needed: Sequence[bool],
    dy: Tensor,
    path: ScanPath,
    softplus: bool,
    discretization: str,
) -> list[Tensor | None]:
    """Differentiate the plain form, since a graph of the gradients themselves was asked for."""
    inputs: Any = arrangement.inward(tensors)
    scan = ScanArguments(*inputs, path=path, softplus=softplus, discretization=discretization)
    y = arrangement.of_output(scan_by_lines(scan, plain_recurrence))
    asked = [need and x is not None for x, need in zip(tensors, needed, strict=False)]
    wanted = [x for x, ask in zip(tensors, asked, strict=True) if ask and x is not None]
    grads = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(grads) if ask else None for ask in asked]
