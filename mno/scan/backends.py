"""The backends of a scan, and the choice among them.

The dispatcher of torch takes longer than a short scan, so the kernels of `mno.scan.cpu` are called
past it. Where somebody traces or transforms, as `torch.export` does, the scan is made of operations
of torch (`chunked`), which other programs know, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from mno.scan import cpu, plain
from mno.scan.arguments import Carried, How, Inputs, ScanArguments, Tensors
from mno.scan.trapezoidal import trapezoidal_scan


def mamba_recurrence(
    u: plain.Lines, dt: plain.Lines, A: plain.StateMatrix, B: plain.LineWeights,
    C: plain.LineWeights, h: plain.State | None = None, *, rule: str,
) -> tuple[plain.Lines, None]:  # fmt: skip
    """Compute what `plain_recurrence` does, `simplified`, with the CUDA kernel of `mamba_ssm`.

    It starts from rest, and hands no state on.

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
        arXiv:2312.00752; package `mamba_ssm`, function `selective_scan_fn`.
    """
    interface = import_module("mamba_ssm.ops.selective_scan_interface")
    y = interface.selective_scan_fn(
        *(x.permute(0, 2, 3, 1).flatten(1, 2).contiguous() for x in (u, dt)),
        A.transpose(1, 2).flatten(0, 1).contiguous(),
        *(x.permute(0, 2, 3, 1).contiguous() for x in (B, C)),
        delta_softplus=False,
    )
    return y.unflatten(1, u.shape[2:]).permute(0, 3, 1, 2), None


def compiled_scan(scan: ScanArguments) -> tuple[Inputs, Carried | None]:
    """Compute a scan with the kernels of `mno.scan.cpu`, with a float32 state.

    Where these cannot be called directly, `chunked` does it.
    """
    *tensors, initial = (None if x is None else x.float() for x in (*scan.tensors, scan.initial))
    if not is_direct((*tensors, initial)):
        return BACKENDS["chunked"](scan)
    y, state = direct_scan(tensors, scan.how, initial)
    return y.to(scan.u.dtype), state


BACKENDS: dict[str, Callable[[ScanArguments], tuple[Inputs, Carried | None]]] = {
    "reference": partial(plain.scan_by_lines, recurrence=plain.plain_recurrence),
    "chunked": partial(plain.scan_by_lines, recurrence=plain.chunked_recurrence),
    "cpu": compiled_scan,
    "mamba_ssm": partial(plain.scan_by_lines, recurrence=mamba_recurrence),
}


def compute(scan: ScanArguments, backend: str | None = None) -> Inputs:
    """Return the output of a scan; see `compute_and_carry`."""
    return compute_and_carry(scan, backend)[0]


def compute_and_carry(
    scan: ScanArguments, backend: str | None = None
) -> tuple[Inputs, Carried | None]:
    """Compute a scan.

    Without a backend given: `cpu` on a processor, in float32 and narrower types; on CUDA
    `mamba_ssm` where it is installed and can do what is asked, so not with a state; `reference` for
    float64; `chunked` otherwise.

    Returns:
        The output, and what each walk ends with, float32 or float64, where its beginning was given.

    Raises:
        ValueError: The backend is not known, or cannot compute this scan here, or there is a state
            for walks of several lines.
    """
    lines = {direction.line for direction in scan.path.directions}
    if scan.initial is not None and lines != {scan.u.shape[1]}:
        raise ValueError(
            f"a state is given for {scan.u.shape[1]} points in lines of {sorted(lines)}, which "
            "start from rest; give it to walks of a single line"
        )
    if scan.discretization == "trapezoidal":
        return trapezoidal_scan(scan, partial(compute_and_carry, backend=backend))
    if backend is None:
        preferred = ("cpu", "mamba_ssm")
        usable = (name for name in preferred if _obstacle(name, scan) is None)
        backend = "reference" if scan.needs_float64 else next(usable, "chunked")
    elif backend not in BACKENDS:
        raise ValueError(
            f"backend={backend!r} does not exist; choose one of {', '.join(BACKENDS)}, or leave it "
            "out to have one chosen"
        )
    elif obstacle := _obstacle(backend, scan):
        raise ValueError(
            f"backend={backend!r} cannot compute this scan: {obstacle}; leave the backend out to "
            "have one chosen that can"
        )
    return BACKENDS[backend](scan)


def _obstacle(backend: str, scan: ScanArguments) -> str | None:
    """Say why a backend cannot compute a scan here, or return `None`."""
    device = scan.u.device
    if backend == "cpu":
        if device.type != "cpu":
            return f"it runs on processors, and the input is on {device}"
        if scan.needs_float64:
            return "it computes in float32, and an input is float64"
        return cpu.unavailable()
    if backend != "mamba_ssm":
        return None
    if scan.initial is not None:
        return "it takes no state in and hands none on"
    for package in ("mamba_ssm", "selective_scan_cuda"):
        if not _installed(package):
            kernel = "" if package == "mamba_ssm" else ", the kernel of mamba_ssm, built with it,"
            return f"the package {package}{kernel} is not installed"
    if device.type != "cuda":
        return f"it runs on CUDA, and the input is on {device}"
    if scan.discretization != "simplified":
        return f"it does not know discretization={scan.discretization!r}"
    return "it has no float64" if scan.needs_float64 else None


@cache
def _installed(package: str) -> bool:
    return find_spec(package) is not None


def is_direct(tensors: Tensors) -> bool:
    """Say whether a scan of these tensors can be computed by `direct_scan`.

    Not where anybody has to see its operations: a tracer, a transform, a mode, a subclass; and only
    in float32 on a processor that has the kernels.
    """
    return (
        not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and all(x is None or _is_plain(x) for x in tensors)
        and cpu.unavailable() is None
    )


def _is_plain(x: Tensor) -> bool:
    usual = type(x) is Tensor or type(x) is nn.Parameter
    return usual and x.dtype == torch.float32 and x.device.type == "cpu"


def _wants_gradient(tensors: Tensors) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def direct_scan(
    tensors: Tensors, how: How, initial: Carried | None
) -> tuple[Tensor, Carried | None]:
    """Compute a scan, in any arrangement of its tensors, without torch's dispatcher.

    What each walk begins and ends with is as in the glossary, whatever the arrangement.
    """
    if _wants_gradient((*tensors, initial)):
        return _DirectScan.apply(how, *tensors, initial)
    y, _, state = _launch().arranged_forward(tensors, how, initial, save=False)
    return y, state


class _DirectScan(torch.autograd.Function):
    # No `setup_context`: with it, torch binds the arguments by their names in each call.
    @staticmethod
    def forward(ctx: Any, how: Any, *inputs: Tensor | None) -> tuple[Tensor, Tensor | None]:
        *tensors, initial = inputs
        y, states, state = _launch().arranged_forward(tensors, how, initial, save=True)
        ctx.how = how
        ctx.save_for_backward(*inputs, states)
        ctx.set_materialize_grads(False)
        return y, state

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        *inputs, states = ctx.saved_tensors
        dy, dstate = grad_outputs
        if dy is None and dstate is None:
            return (None,) * (1 + len(inputs))
        if torch.is_grad_enabled():
            form, needed = partial(_plain_form, ctx.how), ctx.needs_input_grad[1:]
            return (None, *plain_gradients(form, inputs, needed, grad_outputs))
        *tensors, initial = inputs
        if initial is not None and dstate is None:
            dstate = torch.zeros_like(initial)
        return (None, *_launch().arranged_backward(tensors, ctx.how, states, dy, dstate))


def _launch() -> Any:
    from mno.scan.cpu import launch  # loads numba

    return launch


def _plain_form(how: How, *inputs: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return y and what each walk ends with, given the tensors and what each begins with."""
    scan = ScanArguments.arranged(inputs[:-1], how)
    y, state = plain.scan_by_lines(replace(scan, initial=inputs[-1]), plain.plain_recurrence)
    return how[0].of_output(y), state


def plain_gradients(
    form: Callable[..., Tensors], inputs: Tensors, needed: Sequence[bool], by_outputs: Tensors
) -> list[Tensor | None]:
    """Differentiate a plain form, since a graph of the gradients themselves was asked for."""
    # One may have been made of another, whose gradient here is without what comes through it.
    inputs = [None if x is None else x.view_as(x) for x in inputs]
    outputs = zip(form(*inputs), by_outputs, strict=True)
    heard = [(x, dx) for x, dx in outputs if x is not None and dx is not None]
    asked = [need and x is not None for x, need in zip(inputs, needed, strict=False)]
    wanted = [x for x, ask in zip(inputs, asked, strict=True) if ask and x is not None]
    ends, by_ends = zip(*heard, strict=True)
    grads = iter(torch.autograd.grad(ends, wanted, by_ends, create_graph=True, allow_unused=True))
    return [next(grads) if ask else None for ask in asked]
