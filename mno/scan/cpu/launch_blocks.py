"""Describe the blocks of a scan to the kernels of `blocks`, and run these in threads."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mno.scan.cpu import blocks as fields
from mno.scan.cpu.memory import empty
from mno.scan.cpu.threads import Kernel, compiled_tasks, run_tasks

# Tasks are as many as this where the sizes allow: enough for so many threads.
_TASKS = 8


def forward(
    u: Tensor, B: Tensor, C: Tensor, read: Tensor, write: Tensor, whole: Tensor, own: Tensor,
    products: Tensor, beam: Any, save: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the outputs of blocks, and the states at their starts if `save`.

    Symbols are those of `mno.scan.ssd`; u is `(block, step, head, channel)`, `products` are C . B
    between the steps of a block, zero but where one comes before the other.
    """
    y = empty(*u.shape)
    job = _Job(u, B, beam)
    states = empty(*job.states if save and beam.per_line > 1 else (0,))
    job.put(U=u, Y=y, B=B, C=C, READ=read, WRITE=write, WHOLE=whole, OWN=own, PRODUCTS=products)
    job.put(STATES=states)
    job.numbers[fields.SAVING] = states.numel() > 0
    job.run("forward")
    return y, states


def backward(
    u: Tensor, B: Tensor, C: Tensor, read: Tensor, write: Tensor, whole: Tensor, own: Tensor,
    products: Tensor, states: Tensor, dy: Tensor, beam: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the gradients by u, B, C, the products, read, write, whole and own.

    Those by B and C are without what comes through the products.
    """
    job = _Job(u, B, beam)
    du = empty(*u.shape)
    dB, dC, by_products = (empty(job.splits, *x.shape) for x in (B, C, products))
    dread, dwrite, dwhole, down = (torch.empty_like(x) for x in (read, write, whole, own))
    job.put(U=u, DY=dy, DU=du, B=B, C=C, READ=read, WRITE=write, WHOLE=whole, OWN=own)
    job.put(PRODUCTS=products, STATES=states, DB=dB, DC=dC, DPRODUCTS=by_products, DREAD=dread)
    job.put(DWRITE=dwrite, DWHOLE=dwhole, DOWN=down)
    job.run("backward")
    dB, dC, by_products = (x[0] if len(x) == 1 else x.sum(0) for x in (dB, dC, by_products))
    return du, dB, dC, by_products, dread, dwrite, dwhole, down


def exponents(z: Tensor, drive: Tensor, beam: Any, centred: bool) -> tuple[Tensor, ...]:
    """Return `read`, `write` and `whole`, given dt A and the drive, `(way, head, block, step)`."""
    read, write, whole = torch.empty_like(z), torch.empty_like(z), z.new_empty(z.shape[:-1])
    job = _Job(z[0].movedim(0, 2)[..., None], z, beam)
    job.put(Z=z, DRIVE=drive, READ=read, WRITE=write, WHOLE=whole)
    job.numbers[fields.CENTRED] = centred
    job.tasks = len(z)
    job.run("exponents")
    return read, write, whole


def exponents_back(
    drive: Tensor, dread: Tensor, dwrite: Tensor, dwhole: Tensor, beam: Any, centred: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients by dt A and by the drive."""
    dz, ddrive = torch.empty_like(drive), torch.empty_like(drive)
    job = _Job(drive[0].movedim(0, 2)[..., None], drive, beam)
    job.put(DRIVE=drive, DREAD=dread, DWRITE=dwrite, DWHOLE=dwhole, DZ=dz, DDRIVE=ddrive)
    job.numbers[fields.CENTRED] = centred
    job.tasks = len(drive)
    job.run("exponents_back")
    return dz, ddrive


class _Job:
    """The array of integers that describes the blocks to the kernels."""

    def __init__(self, u: Tensor, B: Tensor, beam: Any) -> None:
        blocks, size, heads, channels = u.shape
        state, lines = B.shape[-1], blocks // beam.per_line
        few_lines = math.ceil(lines / _TASKS)
        chunks = math.ceil(lines / few_lines)
        # Sums over heads in several parts cost more than they bring where lines are enough.
        few_heads = heads if chunks == _TASKS else math.ceil(heads / 2)
        self.splits = math.ceil(heads / few_heads)
        self.tasks = self.splits * chunks
        self.numbers = [0] * fields.BACKWARDS + [int(back) for back in beam.backwards]
        self.numbers[fields.BLOCKS : fields.SAVING] = (
            *(blocks, size, heads, channels, state, len(B)),
            *(beam.per_line, lines, few_lines, few_heads),
        )
        self.states = (len(B), heads, blocks, state, channels)
        self.scratch = fields.scratch_bytes(size, state, channels)
        self.work = blocks * size * heads * channels * (size + 2 * state)

    def put(self, **tensors: Tensor) -> None:
        """Give the addresses of tensors, contiguous and in float32."""
        for name, tensor in tensors.items():
            self.numbers[getattr(fields, name)] = tensor.data_ptr()

    def run(self, direction: str) -> None:
        """Run all tasks of a pass."""
        job = np.array(self.numbers, np.int64)
        run_tasks(_kernel(direction), job, self.tasks, self.scratch, self.work)


@cache
def _kernel(direction: str) -> Kernel:
    return compiled_tasks(fields.PASSES[direction], f"{direction}_blocks")
