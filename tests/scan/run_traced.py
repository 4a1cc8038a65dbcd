"""Compile and export modules that mix, lay paths or carry a state, and print what agrees."""

import io
import sys

import torch
from torch import Tensor, nn

from mno.core.points import Points
from mno.nn import Grid, MambaCrossMixer, MambaMixer
from mno.scan import selective_scan
from mno.scan.arguments import DISCRETIZATIONS
from mno.scan.paths import Domain, scan_path
from mno.scan.plain import visited_points


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


def gradients(module, call, x):
    return torch.autograd.grad(call(x).square().sum(), tuple(module.parameters()))


def mixers():
    pair, x = Pair(), torch.randn(2, 24, 16)
    compiled = torch.compile(pair, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), pair(x))
    for fast, plain in zip(gradients(pair, compiled, x), gradients(pair, pair, x), strict=True):
        torch.testing.assert_close(fast, plain)
    print("compiled")
    for strict in (False, True):
        program = torch.export.export(pair, (x,), strict=strict)
        torch.testing.assert_close(program.module()(x), pair(x))
    print("exported")
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    torch.testing.assert_close(torch.export.load(file).module()(x), pair(x))
    print("saved")


class Walk(nn.Module):
    """Reads points along a path, as a mixer does: on a domain, or at coordinates it is given."""

    def __init__(self, path: str, domain: Domain = None) -> None:
        super().__init__()
        self.path, self.domain = path, domain

    def forward(self, x: Tensor, coordinates: Tensor | None = None) -> Tensor:
        domain = self.domain
        if coordinates is not None:
            domain = Points(coordinates, reference_spacing=0.1)
        laid = scan_path(self.path, domain, x.shape[1])
        visits = visited_points(laid, x.shape[1], x.device)
        y = torch.take_along_dim(x[:, None], visits[..., None], dim=2)
        return y if laid.scale is None else y * laid.scale[..., None]


def check(module, *inputs, ways=(False, True)):
    expected = module(*inputs)
    torch.compiler.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), expected)
    for strict in ways:
        program = torch.export.export(module, inputs, strict=strict)
        torch.testing.assert_close(program.run_decompositions().module()(*inputs), expected)
    # Tracing has left nothing behind in the cache of the curves.
    torch.testing.assert_close(module(*inputs), expected)


def paths():
    x = torch.rand(2, 12, 3)
    uneven = Grid((3, 4), ((0.5, 0.1, 0.2), 0.3), (0.1, 0.2))
    for path in ("axial", "hilbert", "zigzag"):
        for domain in ((3, 4), uneven):
            check(Walk(path, domain), x)
            print(path)
    check(Walk("hilbert"), x, torch.rand(2, 12, 2))
    print("points")


class Piece(nn.Module):
    """Scans a piece of a sequence, from one state to the next."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, u: Tensor, weights: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        A = -torch.ones(u.shape[1], weights.shape[2])
        options = {"discretization": self.rule, "return_state": True}
        return selective_scan(u, u, A, weights, weights, initial_state=state, **options)


def states():
    for rule in DISCRETIZATIONS:
        state = torch.randn(2, 3, 8 if rule == "trapezoidal" else 4)
        # Activation checkpointing, which `chunked` uses, is beyond the strict way.
        inputs = torch.randn(2, 3, 9), torch.randn(2, 1, 4, 9), state
        check(Piece(rule), *inputs, ways=(False,))
        print(rule)


if __name__ == "__main__":
    {"mixers": mixers, "paths": paths, "states": states}[sys.argv[1]]()
