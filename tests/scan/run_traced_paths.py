"""Compile and export modules that lay paths, and print the paths for which all results agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mno.core.grid import Grid
from mno.core.points import Points
from mno.scan.paths import Domain, scan_path
from mno.scan.plain import visited_points


class Walk(nn.Module):
    """Reads its points along a path, as a mixer does."""

    def __init__(self, path: str, domain: Domain) -> None:
        super().__init__()
        self.path, self.domain = path, domain

    def forward(self, x: Tensor) -> Tensor:
        return walked(x, self.path, self.domain)


class ScatteredWalk(nn.Module):
    """Reads points along a curve through coordinates that it is given."""

    def forward(self, x: Tensor, coordinates: Tensor) -> Tensor:
        return walked(x, "hilbert", Points(coordinates, reference_spacing=0.1))


def walked(x: Tensor, path: str, domain: Domain) -> Tensor:
    laid = scan_path(path, domain, x.shape[1])
    visits = visited_points(laid, x.shape[1], x.device)
    y = torch.take_along_dim(x[:, None], visits[..., None], dim=2)
    return y if laid.scale is None else y * laid.scale[..., None]


def check(module: nn.Module, *inputs: Tensor) -> None:
    expected = module(*inputs)
    torch.compiler.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), expected)
    for strict in (False, True):
        program = torch.export.export(module, inputs, strict=strict)
        torch.testing.assert_close(program.run_decompositions().module()(*inputs), expected)
    # Tracing has left nothing behind in the cache of the curves.
    torch.testing.assert_close(module(*inputs), expected)


if __name__ == "__main__":
    x = torch.rand(2, 12, 3)
    uneven = Grid((3, 4), ((0.5, 0.1, 0.2), 0.3), (0.1, 0.2))
    for path in ("axial", "hilbert", "zigzag"):
        for domain in ((3, 4), uneven):
            check(Walk(path, domain), x)
            print(path)
    check(ScatteredWalk(), x, torch.rand(2, 12, 2))
    print("points")
