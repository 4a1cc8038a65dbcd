"""The `mamba_ssm` backend: the CUDA kernel of the package of that name, where it is installed.

Source:
    Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
    arXiv:2312.00752; package `mamba_ssm`, function `selective_scan_fn`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch

from mno.scan.arguments import Inputs, ScanArguments
from mno.scan.lines import scan_by_lines
from mno.scan.plain import Lines, LineWeights, StateMatrix


@cache
def _installed() -> bool:
    return find_spec("mamba_ssm") is not None


def obstacle(scan: ScanArguments) -> str | None:
    """Say why this backend cannot compute a scan, or return `None`."""
    if not _installed():
        return "the package mamba_ssm is not installed"
    if scan.u.device.type != "cuda":
        return f"it runs on CUDA, and the input is on {scan.u.device}"
    if scan.discretization != "simplified":
        return f"it does not know discretization={scan.discretization!r}"
    if any(x is not None and x.dtype == torch.float64 for x in scan.tensors):
        return "it has no float64"
    return None


def fused_scan(scan: ScanArguments) -> Inputs:
    """Compute a scan on points with the CUDA kernel."""
    return scan_by_lines(scan, _recurrence)


def _recurrence(
    u: Lines, dt: Lines, A: StateMatrix, B: LineWeights, C: LineWeights, *, rule: str
) -> Lines:
    interface = import_module("mamba_ssm.ops.selective_scan_interface")
    y = interface.selective_scan_fn(
        *(x.permute(0, 2, 3, 1).flatten(1, 2).contiguous() for x in (u, dt)),
        A.transpose(1, 2).flatten(0, 1).contiguous(),
        *(x.permute(0, 2, 3, 1).contiguous() for x in (B, C)),
        delta_softplus=False,
    )
    return y.unflatten(1, u.shape[2:]).permute(0, 3, 1, 2)
