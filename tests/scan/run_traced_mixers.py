"""Compile and export an operator, and print what agrees with the operator itself."""

from __future__ import annotations

import io

import torch
from torch import Tensor, nn

from mno.nn import Grid, MambaCrossMixer, MambaMixer


class Pair(nn.Module):
    """A self and a cross mixer behind one another, on a grid of their own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.grid = Grid((4, 6), (0.1, 0.2), (0.1, 0.1))
        self.first = MambaMixer(16, d_state=4, path="axial")
        self.second = MambaCrossMixer(16, d_state=3, path="hilbert", discretization="zoh")

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x, self.grid), x, self.grid)


def gradients(module: nn.Module, call: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(call(x).square().sum(), tuple(module.parameters()))


if __name__ == "__main__":
    pair, x = Pair(), torch.randn(2, 24, 16)
    compiled = torch.compile(pair, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), pair(x))
    for fast, plain in zip(gradients(pair, compiled, x), gradients(pair, pair, x), strict=True):
        torch.testing.assert_close(fast, plain)
    print("compiled")
    for strict in (False, True):
        program = torch.export.export(pair, (x,), strict=strict)
        assert "mno.selective_scan" in program.graph_module.code
        torch.testing.assert_close(program.module()(x), pair(x))
    print("exported")
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    torch.testing.assert_close(torch.export.load(file).module()(x), pair(x))
    print("saved")
