"""The choice of a backend for a scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from mno.scan import mamba_ssm, op
from mno.scan.arguments import Inputs, ScanArguments
from mno.scan.chunked import chunked_recurrence
from mno.scan.lines import scan_by_lines
from mno.scan.plain import plain_recurrence

BACKENDS: dict[str, Callable[[ScanArguments], Inputs]] = {
    "reference": partial(scan_by_lines, recurrence=plain_recurrence),
    "chunked": partial(scan_by_lines, recurrence=chunked_recurrence),
    "cpu": op.compiled_scan,
    "mamba_ssm": mamba_ssm.fused_scan,
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
    if any(x is not None and x.dtype == torch.float64 for x in scan.tensors):
        return "reference"
    preferred = ("cpu", "mamba_ssm")
    return next((name for name in preferred if _obstacle(name, scan) is None), "chunked")


def _obstacle(backend: str, scan: ScanArguments) -> str | None:
    if backend == "cpu":
        return op.obstacle(scan)
    if backend == "mamba_ssm":
        return mamba_ssm.obstacle(scan)
    return None
