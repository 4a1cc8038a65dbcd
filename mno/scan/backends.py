"""The choice of a backend for a scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec

from mno.scan import op
from mno.scan.arguments import Inputs, ScanArguments
from mno.scan.chunked import chunked_recurrence
from mno.scan.plain import Lines, LineWeights, StateMatrix, plain_recurrence, scan_by_lines


def mamba_recurrence(
    u: Lines, dt: Lines, A: StateMatrix, B: LineWeights, C: LineWeights, *, rule: str
) -> Lines:
    """Compute what `plain_recurrence` does, `simplified`, with the CUDA kernel of `mamba_ssm`.

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
    return y.unflatten(1, u.shape[2:]).permute(0, 3, 1, 2)


BACKENDS: dict[str, Callable[[ScanArguments], Inputs]] = {
    "reference": partial(scan_by_lines, recurrence=plain_recurrence),
    "chunked": partial(scan_by_lines, recurrence=chunked_recurrence),
    "cpu": op.compiled_scan,
    "mamba_ssm": partial(scan_by_lines, recurrence=mamba_recurrence),
}


def compute(scan: ScanArguments, backend: str | None = None) -> Inputs:
    """Compute a scan.

    Without a backend given: `cpu` on a processor, in float32 and narrower types; on CUDA
    `mamba_ssm` where it is installed and can do what is asked; `reference` for float64; `chunked`
    otherwise.

    Raises:
        ValueError: The backend is not known, or cannot compute this scan here.
    """
    if backend is not None and backend not in BACKENDS:
        raise ValueError(
            f"backend={backend!r} does not exist; choose one of {', '.join(BACKENDS)}, or leave it "
            "out to have one chosen"
        )
    obstacle = None if backend is None else _obstacle(backend, scan)
    if obstacle:
        raise ValueError(
            f"backend={backend!r} cannot compute this scan: {obstacle}; leave the backend out to "
            "have one chosen that can"
        )
    return BACKENDS[backend or _chosen(scan)](scan)


def _chosen(scan: ScanArguments) -> str:
    if scan.needs_float64:
        return "reference"
    preferred = ("cpu", "mamba_ssm")
    return next((name for name in preferred if _obstacle(name, scan) is None), "chunked")


def _obstacle(backend: str, scan: ScanArguments) -> str | None:
    """Say why a backend cannot compute a scan here, or return `None`."""
    if backend == "cpu":
        return op.obstacle(scan)
    if backend != "mamba_ssm":
        return None
    for package in ("mamba_ssm", "selective_scan_cuda"):
        if not _installed(package):
            kernel = "" if package == "mamba_ssm" else ", the kernel of mamba_ssm, built with it,"
            return f"the package {package}{kernel} is not installed"
    if scan.u.device.type != "cuda":
        return f"it runs on CUDA, and the input is on {scan.u.device}"
    if scan.discretization != "simplified":
        return f"it does not know discretization={scan.discretization!r}"
    return "it has no float64" if scan.needs_float64 else None


@cache
def _installed(package: str) -> bool:
    return find_spec(package) is not None
