"""The accuracy study: its samples, its intervals, and one cell from end to end."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.accuracy import (
    cells,
    fine_darcy,
    in_time,
    page,
    public_darcy,
    published_darcy,
    study,
)
from benchmarks.accuracy.cells import Cell
from benchmarks.accuracy.intervals import interval, relative_change
from benchmarks.accuracy.recipes import Recipe
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from tests.support.untrained import untrained

POINTS = public_darcy.POINTS
RNG = np.random.default_rng(0)
CLASSES = {
    split: RNG.random((n, POINTS, POINTS)) > 0.5 for split, n in (("train", 130), ("test", 5))
}
PRESSURES = {split: x.cumsum(axis=1).astype(np.float32) for split, x in CLASSES.items()}


@pytest.fixture(params=["npz", "pt"])
def folder(request, tmp_path):
    for split, x in CLASSES.items():
        y = PRESSURES[split]
        if request.param == "npz":
            np.savez(tmp_path / f"darcy16_{split}.npz", x=x, y=y)
        else:
            content = {"x": torch.from_numpy(x), "y": torch.from_numpy(y)}
            torch.save(content, tmp_path / f"darcy_{split}_16.pt")
    return tmp_path


def test_both_forms_of_the_public_files_give_the_same_fields(folder):
    split = public_darcy.read(folder)["test"]
    permeability = split.fields["permeability"]
    np.testing.assert_array_equal(permeability, np.where(CLASSES["test"], np.float32(0.36), 0.02))
    np.testing.assert_array_equal(split.fields["pressure"], PRESSURES["test"])
    assert split.schema.offset == pytest.approx((0.019, 0.019), abs=1e-4)


def test_a_folder_without_the_files_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"darcy_train_16.pt nor darcy16_train.npz"):
        public_darcy.read(tmp_path)


def test_mirror_images_are_those_of_the_function_up_to_the_points_offset(folder):
    split = public_darcy.read(folder)["test"]
    x = split.schema.axes[0].points

    def bump(x, y):
        return x * (1 - x) ** 2 * np.sin(np.pi * y)

    of_points = np.meshgrid(x, x, indexing="ij")
    seen = {name: bump(*of_points)[None].astype(np.float32) for name in split.fields}
    four = public_darcy.mirrored(replace(split, fields=seen, indices=np.arange(1)))
    assert len(four) == 4
    x, y = of_points
    images = [bump(x, y), bump(1 - x, y), bump(x, 1 - y), bump(1 - x, 1 - y)]
    moved = 2 * public_darcy.POINTS * 0.5 / public_darcy.FINE / POINTS  # twice the points' offset
    slope = np.pi / 4
    for found, image in zip(four.fields["pressure"], images, strict=True):
        np.testing.assert_allclose(found, image, atol=2 * moved * slope)
    # On the first row a permeability is that of the second.
    found = four.fields["permeability"]
    np.testing.assert_array_equal(found[1, 0], found[1, 1])


@pytest.mark.parametrize("folder", ["npz"], indirect=True)
def test_an_averaged_prediction_is_carried_along_by_every_symmetry(folder):
    split = public_darcy.read(folder)["test"]
    model = ModelConfig(width=8, layers=1)
    surrogate = untrained(split.schema, split.fields, model=model, offset=split.schema.offset)
    given = split.fields["permeability"].copy()
    given[:, 0] = given[:, 1]  # as in a mirror image, so that mirroring twice changes nothing
    given[:, :, 0] = given[:, :, 1]

    def answer(permeability):
        fields = split.fields | {"permeability": permeability}
        found = public_darcy.averaged(surrogate, replace(split, fields=fields))["pressure"]
        return found[:, 1:, 1:]

    mirrored = given.copy()
    mirrored[:, 1:] = given[:, :0:-1]
    mirrored[:, 0] = mirrored[:, 1]
    once = answer(given)
    assert np.ptp(once) > 0
    np.testing.assert_allclose(answer(mirrored), once[:, ::-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer(given.swapaxes(1, 2)), once.swapaxes(1, 2), atol=1e-5)


def test_learning_mirror_images_too_takes_as_many_steps():
    recipe = Recipe(ModelConfig(**study.SMALL), {"batch_size": 16}, steps=1000)
    assert recipe.config(1000).epochs == round(1000 / 63)
    assert replace(recipe, mirrored=True).config(1000).epochs == 4
    assert recipe.config(100).patience == recipe.config(100).epochs == round(1000 / 7)


def test_an_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        samples, seeds = rng.standard_normal(50), rng.standard_normal((20, 1))
        found = interval(1.0 + seeds + samples)
        covered += found.low < 1.0 < found.high
    assert covered >= 88


def test_what_samples_have_in_common_does_not_widen_a_difference():
    rng = np.random.default_rng(2)
    base = 1.0 + rng.random((3, 50))
    change = relative_change(0.9 * base, base)
    assert change.mean == pytest.approx(-0.1)
    assert change.excludes_zero
    noisy = relative_change(base + 0.5 * rng.standard_normal((3, 50)), base)
    assert noisy.high - noisy.low > 3 * (change.high - change.low)


@pytest.mark.parametrize("folder", ["npz"], indirect=True)
def test_a_cell_is_kept_and_read_again_only_for_the_same_recipe(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "RESULTS", tmp_path / "results")
    recipe = Recipe(ModelConfig(width=8, layers=1), study.TRAINING, steps=2)
    cell = Cell("options", study.DARCY, 20, "plain", 0)
    made = cells.make(cell, recipe, study.splits(cell, folder))
    assert cells.read(cell, recipe) == made == json.loads(cell.path.read_text())
    assert cells.read(cell, replace(recipe, steps=3)) is None
    errors = made["errors"]
    assert {len(each) for each in errors.values()} == {len(CLASSES["test"])}
    assert errors["noise 0.1"] != errors["clean"] != errors["missing 0.1"]
    other = made | {"recipe": "EMA"}
    table = page.options_table([made, other])
    assert table.splitlines()[-1].endswith("| +0.0% (+0.0% to +0.0%) | brings nothing that shows |")
    assert len(page.robust_table([made, other]).splitlines()) == 4


def test_a_cell_in_time_is_measured_on_the_frames_that_follow(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "RESULTS", tmp_path)
    monkeypatch.setattr(in_time, "SAMPLES", {"train": 4, "validation": 2, "test": 3})
    splits = in_time.make()
    again = in_time.make()
    for split in splits:
        for name, field in splits[split].fields.items():
            np.testing.assert_array_equal(field, again[split].fields[name])
    small = ModelConfig(width=8, layers=1)
    recipe = Recipe(small, study.TRAINING | {"unroll": 2}, steps=2, task=in_time.TASK)
    made = cells.make(Cell("options", study.IN_TIME, 4, "unroll", 0), recipe, splits)
    assert made["errors"].keys() == {
        "clean",
        *(f"noise {level}" for level in cells.NOISE),
        *(f"missing {share}" for share in cells.MASK),
    }
    assert not any((tmp_path / cells.UNFINISHED).iterdir())
    # Saying zero everywhere is an error of one; a model that has hardly learned is near it.
    assert all(0.05 < error < 20 for error in made["errors"]["clean"])
    later = {name: field[:, 1:] for name, field in splits["test"].fields.items()}
    assert cells.relative_errors(later, splits["test"]) == [0.0] * 3
    assert cells.relative_errors({n: 2 * f for n, f in later.items()}, splits["test"]) == [1.0] * 3


def test_samples_of_the_published_protocol_are_every_fifth_cell_of_what_is_solved_finely():
    fields = fine_darcy.solve(published_darcy.FLOW, 1, 3)
    again = fine_darcy.solve(published_darcy.FLOW, 2, 3)
    assert set(np.unique(fields["permeability"])) == {3.0, 12.0}
    for name, field in fields.items():
        assert field.shape == (2, 85, 85)
        np.testing.assert_array_equal(field[1], again[name][0])
    # The scenario solves for the same function on its own grid, whose points are close by.
    scenario = make_scenario("darcy", 424, {})
    given = scenario.sample(np.random.default_rng([1, fine_darcy.FINE]))
    near = np.round((np.arange(85) * 5 + 0.5) / 421 * 424 - 0.5).astype(int)
    pressure = scenario.solve(given)["pressure"][np.ix_(near, near)]
    difference = np.linalg.norm(fields["pressure"][0] - pressure) / np.linalg.norm(pressure)
    assert difference < 0.02


def test_a_cell_that_is_kept_is_fresh_until_its_recipe_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "RESULTS", tmp_path)
    cell, recipe = study.cells()[0]
    made_with = recipe.made_with()
    del made_with["model"]["patch"]  # an option that came later
    cell.path.write_text(json.dumps({"made_with": made_with}))
    assert cells.read(cell, recipe) is not None
    assert cells.read(cell, replace(recipe, steps=recipe.steps + 1)) is None


def test_the_page_shows_only_trainings_whose_seeds_are_all_there(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "accuracy.md")
    monkeypatch.setattr(page, "ALL", tmp_path / "all.md")
    names = ("public", "published", "options", "robust")
    marks = "".join(f"<!-- {name} -->\nold\n<!-- end of {name} -->\n" for name in names)
    page.PAGE.write_text(f"before\n{marks}after\n")

    def cell(recipe, seed):
        kept = {"part": "options", "problem": "a problem", "samples": 1000, "recipe": recipe}
        return kept | {"seed": seed, "errors": {"clean": [0.1, 0.2 + 0.01 * seed]}}

    double = [cell("double", seed) for seed in (0, 1)]
    for of in double:
        of["errors"] = {"clean": [2 * error for error in of["errors"]["clean"]]}
    page.write([cell("plain", 0), cell("plain", 1), *double, cell("half", 0)], seeds=2)
    text, whole = page.PAGE.read_text(), page.ALL.read_text()
    assert "**a problem, 1,000 samples**" in whole and "| plain | 0.1525" in whole
    assert "| double | **+100.0%** (" in text
    assert "| a problem, 1,000 | plain | 0.15" in text
    assert "half" not in text + whole
    assert "old" not in text
    assert "<!-- public -->\nNot measured yet.\n<!-- end of public -->" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_the_cells_of_the_study_have_files_of_their_own():
    paths = [cell.path for cell, _ in study.cells()]
    assert len(set(paths)) == len(paths)
