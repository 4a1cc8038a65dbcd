"""An operator that knows that its outputs vanish at the walls, on whatever grid it is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.points import Points
from mno.data import Batch
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, Split
from mno.nn import Grid, ModelConfig, build_operator
from mno.nn.backbones import BACKBONES
from mno.nn.operator import wall_factor
from mno.surrogate.surrogate import DESCRIPTION_FILE, Surrogate
from mno.training.config import TrainConfig
from mno.training.fit import train

CELLS = 9  # along an axis, in training
LIKE = torch.zeros((), dtype=torch.float64)
SMALL = {"width": 16, "layers": 1, "d_state": 2, "modes": 2, "levels": 2, "slices": 4}


def uniform(n, dims=2):
    return Grid((n,) * dims, (2 / n,) * dims, (2 / CELLS,) * dims)


def factor_on(grid):
    return wall_factor(grid, LIKE).reshape(grid.shape)


def test_the_factor_is_linear_at_a_wall():
    near = [factor_on(uniform(n, dims=1))[0].item() for n in (900, 9_000, 90_000)]
    assert near[0] / near[1] == pytest.approx(10, rel=0.02)
    assert near[1] / near[2] == pytest.approx(10, rel=0.002)


def test_the_factor_of_several_axes_is_the_product_of_theirs_and_treats_all_walls_alike():
    line, square, cube = (factor_on(uniform(CELLS, dims)) for dims in (1, 2, 3))
    torch.testing.assert_close(square, line[:, None] * line)
    torch.testing.assert_close(cube, square[:, :, None] * line)
    torch.testing.assert_close(line, line.flip(0))


def test_the_factor_is_one_function_whatever_grid_it_is_seen_on():
    coarse, fine = factor_on(uniform(CELLS)), factor_on(uniform(9 * CELLS))
    torch.testing.assert_close(fine[4::9, 4::9], coarse)  # those are the same places
    line = factor_on(uniform(9 * CELLS, dims=1))
    widths = (2 / (9 * CELLS) * 3,) * 9 + (2 / (9 * CELLS),) * 54
    uneven = Grid((len(widths),), (widths,), (2 / CELLS,))
    torch.testing.assert_close(factor_on(uneven), torch.cat([line[1:27:3], line[27:]]))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_output_of_every_backbone_is_multiplied_by_it_and_nothing_else_changes(backbone):
    torch.manual_seed(0)
    free, zero = (
        build_operator(
            ModelConfig(backbone=backbone, walls=walls, **SMALL),
            inputs=("a",),
            outputs={"p": 2, "q": 2},
        ).eval()
        for walls in ("free", "zero")
    )
    zero.load_state_dict(free.state_dict())
    grid = uniform(8)
    batch = Batch({"a": torch.randn(3, 8, 8)}, grid)
    with torch.no_grad():
        expected, given = free(batch).fields, zero(batch).fields
    factor = wall_factor(grid, torch.zeros(())).reshape(grid.shape)
    torch.testing.assert_close(given["p"], expected["p"] * factor)
    torch.testing.assert_close(given["q"], expected["q"] * factor)
    assert not torch.allclose(given["p"], expected["p"])


def test_points_which_have_no_walls_are_refused():
    config = ModelConfig(walls="zero", mixer="softmax", **SMALL)
    operator = build_operator(config, inputs=("a",), outputs=("p",))
    points = Points(torch.rand(10, 2))
    with pytest.raises(ValueError, match=r"walls='zero' needs a grid.*walls='free'"):
        operator(Batch({"a": torch.randn(2, 10)}, points))


def test_a_normaliser_about_zero_divides_by_the_root_mean_square_and_leaves_other_fields_alone():
    fields = {"a": np.array([1.0, 3.0]), "p": np.array([3.0, 4.0]), "q": np.zeros(2)}
    plain, about_zero = Normaliser.fit(fields), Normaliser.fit(fields, about_zero=("p", "q"))
    assert about_zero.mean == {"a": plain.mean["a"], "p": 0.0, "q": 0.0}
    assert about_zero.std == pytest.approx({"a": 1.0, "p": np.sqrt(12.5), "q": 1.0})
    assert plain.mean == {"a": 2.0, "p": 3.5, "q": 0.0}
    assert about_zero.decode("p", np.zeros(1)) == 0.0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A surrogate that was trained for one epoch on a field far from zero on average."""
    n, samples = 8, 6
    axes = tuple(Axis(x, "m", x, (np.arange(n) + 0.5) / n, (0.0, 1.0)) for x in "xy")
    fields = (
        Field("source", "K", "source", "input", ("x", "y")),
        Field("temperature", "K", "temperature", "output", ("x", "y")),
    )
    source = np.random.default_rng(0).standard_normal((samples, n, n)).astype(np.float32)
    arrays = {"source": source, "temperature": 5 + source}
    split = Split("train", Schema("heat", fields, axes), arrays, np.arange(samples))
    return train(
        split,
        split,
        model=ModelConfig(walls="zero", **SMALL),
        config=TrainConfig(epochs=1, batch_size=3, threads=1),
        seed=0,
        work=tmp_path_factory.mktemp("work"),
        quiet=True,
    )[0]


def test_a_trained_surrogate_vanishes_at_the_walls_in_physical_units(trained):
    assert trained.description.normaliser.mean["temperature"] == 0.0
    assert trained.description.normaliser.mean["source"] != 0.0
    edges = []
    for n in (8, 80, 240):  # the source does not change with the grid
        out = trained.predict({"source": np.ones((1, n, n))})["temperature"][0]
        edges.append(np.abs(out[0]).max() / np.abs(out).max())
    assert edges[1] < 0.25 * edges[0] and edges[2] < 0.5 * edges[1]


def test_it_is_saved_and_loaded_with_what_it_knows_of_the_walls(trained, tmp_path):
    trained.save(tmp_path)
    loaded = Surrogate.load(tmp_path)
    assert loaded.description.model.walls == "zero"
    source = {"source": np.random.default_rng(1).standard_normal((2, 12, 12))}
    np.testing.assert_array_equal(
        loaded.predict(source)["temperature"], trained.predict(source)["temperature"]
    )


def test_a_model_whose_outputs_are_shifted_is_refused_where_they_vanish(trained, tmp_path):
    trained.save(tmp_path)
    path = tmp_path / DESCRIPTION_FILE
    shifted = path.read_text().replace('"temperature": 0.0', '"temperature": 5.0')
    path.write_text(shifted)
    with pytest.raises(InputError, match="normalised about .*expected 0"):
        Surrogate.load(tmp_path)
