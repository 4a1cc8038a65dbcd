"""Small backbones that several tests look at, and how they are built and asked there."""

import torch

from mno.data import Batch
from mno.nn import Grid, ModelConfig, Points, build_operator

SMALL = {"width": 8, "layers": 2, "heads": 2, "modes": 3, "spectral_width": 8, "slices": 8}
SMALL |= {"levels": 3, "padding": 0.25}


def config(backbone, mixer="own", **options):
    return ModelConfig(backbone=backbone, mixer=mixer, **{**SMALL, **options})


def build(backbone, mixer="own", seed=0, **options):
    """An operator; options are those of the configuration and of `build_operator`."""
    given = {"inputs": ("a",), "outputs": ("p",)}
    for name in ("inputs", "outputs", "scalars", "dims", "gaps"):
        given |= {name: options.pop(name)} if name in options else {}
    torch.manual_seed(seed)
    return build_operator(config(backbone, mixer, **options), **given)


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit_grid(*shape):
    return Grid(shape, tuple(1 / n for n in shape))


def points(n, dims=2, seed=3):
    return Points(torch.rand(n, dims, generator=torch.Generator().manual_seed(seed)))


def learn(operator, batch, target, rate, steps, until=0.0):
    """Train on one batch until the loss is below a bound; return the losses."""
    optimiser, losses = torch.optim.AdamW(operator.parameters(), rate), []
    for _ in range(steps):
        loss = (operator(batch).fields["p"] - target).square().mean()
        losses.append(loss.item())
        if loss < until:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


def sums(a):
    """A field in which every point counts at many, of mean 0 and deviation 1."""
    target = a.cumsum(1).flip(2).cumsum(2).flip(2)
    return (target - target.mean()) / target.std()


def change_on_a_finer_grid(operator):
    """What an operator makes of a smooth field on 16 x 16 cells, and how that differs on 32 x 32.

    The latter is averaged over four cells each.
    """
    answers = []
    for n in (16, 32):
        x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        a = torch.sin(3 * x[:, None]) * torch.cos(2 * x)
        with torch.no_grad():
            batch = Batch({"a": a[None]}, Grid((n, n), (1 / n, 1 / n), (1 / 16, 1 / 16)))
            answers.append(operator.double()(batch).fields["p"])
    coarse, fine = answers
    return coarse, fine.unflatten(2, (-1, 2)).mean(3).unflatten(1, (-1, 2)).mean(2) - coarse
