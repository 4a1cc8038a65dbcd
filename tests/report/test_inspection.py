"""What an inspection finds in stores of which everything is known."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import axis, plan_of, release

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.data.generate.report import CheckReport, FieldReport
from mno.data.statistics import Margins
from mno.report.inspection import Inspection, inspect_store
from mno.report.inspection_page import write_inspection

SIZE, FRAMES, SAMPLES = 12, 5, 16
SOURCE = Field("source", "W", "source", "input", ("x", "y"))
HEAT = Field("heat", "K", "temperature", "state", ("time", "x", "y"))
DIFFUSIVITY = Field("diffusivity", "m2 s-1", "diffusivity", "input", ())
WALL = Field("wall", "K", "temperature of the wall", "input", ("time",))
AXES = (axis("time", FRAMES, 2.0), axis("x", SIZE), axis("y", SIZE, 2.0))


def fields_of(samples: int = SAMPLES) -> dict[Field, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        SOURCE: rng.normal(2, 1, (samples, SIZE, SIZE)).astype(np.float32),
        HEAT: rng.normal(300, 5, (samples, FRAMES, SIZE, SIZE)).astype(np.float32),
        DIFFUSIVITY: rng.uniform(1, 2, samples).astype(np.float32),
        WALL: rng.normal(size=(samples, FRAMES)).astype(np.float32),
    }


def split_numbers(split: str) -> list[int]:
    splits = plan_of((SOURCE,), AXES, SAMPLES, 4).splits()
    return np.flatnonzero(splits == split).tolist()


@pytest.fixture
def clean(tmp_path: Path) -> Inspection:
    return inspect_store(release(tmp_path / "data", fields_of(), AXES))


def test_figures_are_those_of_the_whole_arrays(clean: Inspection) -> None:
    found = clean.to_dict()
    assert clean.problems == []
    assert found["splits"] == {"train": 8, "validation": 4, "test": 4}
    for field, values in fields_of().items():
        ours, values = found["fields"][field.name], values.astype(np.float64)
        assert (ours["min"], ours["max"]) == (values.min(), values.max())
        assert ours["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert ours["std"] == pytest.approx(values.std(), rel=1e-10)
        assert (ours["role"], ours["units"]) == (field.role, field.units)
        assert ours["shape"] == list(values.shape[1:])
    train = fields_of()[SOURCE][split_numbers("train")].mean(dtype=np.float64)
    assert found["fields"]["source"]["means_by_split"]["train"] == pytest.approx(train, rel=1e-12)
    assert found["axes"]["time"]["spacing"] == [0.5, 0.5]
    assert found["axes"]["time"]["samples_per_unit_time"] == 2.0
    assert found["axes"]["y"]["spacing"][0] == pytest.approx(2 / SIZE)
    assert found["axes"]["x"]["equal"] is True
    measured = {m.field.name: m for m in clean.fields}
    assert measured["diffusivity"].spectrum is None and measured["wall"].spectrum is None
    assert measured["heat"].spectrum is not None and measured["heat"].spectrum.count == 5 * SAMPLES
    assert measured["source"].noise == pytest.approx(1.0, rel=0.1)


def test_the_size_of_shards_changes_nothing_but_rounding(tmp_path: Path) -> None:
    one, many = (
        inspect_store(release(tmp_path / str(size), fields_of(), AXES, size)).to_dict()
        for size in (16, 3)
    )
    for field in (*one["fields"].values(), *many["fields"].values()):
        for key in ("share_at_cutoff", "noise_of_spectrum"):
            field[key] = field[key] and round(field[key], 9)
    assert {**one, "data": ""} == {**many, "data": ""}


def test_duplicates_and_leakage_are_told_apart(tmp_path: Path) -> None:
    fields = fields_of()
    train, test = split_numbers("train"), split_numbers("test")
    for values in fields.values():
        values[train[1]] = values[train[0]]
    fields[HEAT][train[1], 1:] += 1  # another solution of the same inputs
    found = inspect_store(release(tmp_path / "within", fields, AXES))
    assert (found.duplicates.samples, found.duplicates.in_two_splits) == (1, 0)
    assert found.duplicates.pairs == ((train[0], train[1]),)
    for values in fields.values():
        values[test[0]] = values[train[0]]
    found = inspect_store(release(tmp_path / "between", fields, AXES))
    assert (found.duplicates.samples, found.duplicates.in_two_splits) == (2, 1)
    assert "leakage" in found.problems[0]


def test_samples_that_differ_in_one_number_are_no_duplicates(tmp_path: Path) -> None:
    fields = fields_of()
    for values in fields.values():
        values[:] = values[:1]
    fields[DIFFUSIVITY][:] = np.arange(SAMPLES)
    assert inspect_store(release(tmp_path / "data", fields, AXES)).duplicates.samples == 0


def test_gaps_are_named_with_their_field(tmp_path: Path) -> None:
    fields = fields_of()
    fields[SOURCE][3, 0, :6] = np.nan
    fields[SOURCE][4] = np.inf
    fields[SOURCE][7] = 1.5
    fields[HEAT][2, 3] = fields[HEAT][2, 2]
    fields[DIFFUSIVITY][:] = 1.0
    found = inspect_store(release(tmp_path / "data", fields, AXES))
    count = 6 + SIZE**2
    share = f"{100 * count / fields[SOURCE].size:.2g}\u202f%"
    assert found.problems == [
        f"source: {count} values ({share}) are not finite",
        "source: 1 samples are constant (7)",
    ]
    assert "diffusivity is 1 in all samples" in found.remarks
    assert any(r.startswith("heat: 1 frames repeat the one before") for r in found.remarks)
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_a_field_without_any_finite_value_is_no_obstacle(tmp_path: Path) -> None:
    fields = fields_of()
    fields[HEAT][:], fields[DIFFUSIVITY][:] = np.nan, np.nan
    found = inspect_store(release(tmp_path / "data", fields, AXES))
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert write_inspection(found, tmp_path / "page").exists()


def test_splits_that_differ_are_remarked_on(tmp_path: Path) -> None:
    fields = fields_of(64)
    alike = inspect_store(release(tmp_path / "alike", fields, AXES))
    assert not [remark for remark in alike.remarks if "standard errors" in remark]
    fields[SOURCE][alike.splits == "test"] *= 5
    found = inspect_store(release(tmp_path / "data", fields, AXES))
    off = found.imbalance(found.fields[0])
    assert off["test"] == max(off.values(), key=abs) > 6
    assert any(r.startswith("source: the mean norm of test is +") for r in found.remarks)


def test_unequal_spacing_is_told_and_has_no_spectrum(tmp_path: Path) -> None:
    uneven = replace(axis("x", SIZE), points=np.linspace(0, 1, SIZE) ** 2)
    found = inspect_store(release(tmp_path / "data", {SOURCE: fields_of()[SOURCE]},
                                  (uneven, axis("y", SIZE))))  # fmt: skip
    facts = found.to_dict()["axes"]["x"]
    assert facts["equal"] is False and facts["spacing"][0] < facts["spacing"][1] / 5
    assert found.fields[0].spectrum is None


def test_states_in_one_dimension_are_drawn_and_older_figures_go(tmp_path: Path) -> None:
    state = Field("height", "m", "height", "state", ("time", "x"))
    values = np.random.default_rng(0).normal(size=(8, FRAMES, SIZE))
    found = inspect_store(release(tmp_path / "data", {state: values}, AXES[:2]))
    page = tmp_path / "page"
    page.mkdir()
    for name in ("samples_of_yesterday.png", "physics_checks.png", "notes.txt"):
        (page / name).write_text("")
    write_inspection(found, page)
    assert {path.name for path in page.iterdir()} == {
        *("index.html", "inspection.json", "samples_height.png", "spectra.png", "values.png"),
        "notes.txt",
    }


def points_store(folder: Path, dims: int) -> Path:
    rng, count = np.random.default_rng(5), 40
    at = ("point",)
    fields = {
        Field(name, "m", name, "coordinate", at): rng.uniform(size=(8, count))
        for name in "xyz"[:dims]
    }
    fields[Field("load", "1", "load", "input", at)] = rng.normal(size=(8, count))
    return release(folder / f"points{dims}", fields, (axis("point", count),))  # type: ignore[arg-type]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_unordered_points_are_measured_and_drawn(tmp_path: Path, dims: int) -> None:
    found = inspect_store(points_store(tmp_path, dims))
    assert found.problems == [] and all(m.spectrum is None for m in found.fields)
    write_inspection(found, tmp_path / "page")
    assert (tmp_path / "page/samples_load.png").exists()


def test_memory_does_not_grow_with_the_dataset(tmp_path: Path) -> None:
    def peak(samples: int) -> int:
        big = Field("big", "1", "big", "input", ("x", "y"))
        values = np.random.default_rng(0).normal(size=(samples, 64, 64))
        folder = tmp_path / f"{samples}-{len(list(tmp_path.iterdir()))}"
        store = release(folder, {big: values}, (axis("x", 64), axis("y", 64)))
        del values
        tracemalloc.start()
        inspect_store(store)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(8)  # whatever is loaded or cached once
    few, many = peak(8), peak(64)
    assert many - few < (64 - 8) * 64 * 64 * 4 / 4, "a fraction of the values that were added"


def report_of(found: Inspection) -> dict[str, Any]:
    values = np.array([1e-8, 3e-8])
    check = CheckReport("balance of heat", 1e-7, 3e-8, 2e-8, Margins.of(values, 1e-7))
    fields = {}
    for m in found.fields:
        values = (getattr(m.total, key) for key in ("min", "max", "mean", "std", "missing"))
        fields[m.field.name] = asdict(FieldReport(m.field.role, m.field.units, (), *values))
    checks = {"balance": asdict(check)}
    report = {"scenario": "given", "samples": SAMPLES, "fields": fields, "checks": checks}
    return json.loads(json.dumps(report))


def test_checks_are_shown_only_of_the_report_that_belongs_to_the_data(clean: Inspection) -> None:
    report = report_of(clean)
    assert inspect_store(clean.store, report).checks == report["checks"]
    assert "there is no reports/dataset.json" in clean.checks_missing
    report["fields"]["heat"]["max"] += 1e-3
    other = inspect_store(clean.store, report)
    assert not other.checks and "of other data" in other.checks_missing
    assert "of other data" in inspect_store(clean.store, {}).checks_missing


def test_the_page_is_complete_in_itself_with_figures_beside_it(
    clean: Inspection, tmp_path: Path
) -> None:
    found = inspect_store(clean.store, report_of(clean))
    page = write_inspection(found, tmp_path / "reports" / "inspection")
    html = page.read_text(encoding="utf-8")
    assert {path.name for path in page.parent.iterdir()} == {
        *("index.html", "inspection.json", "samples_source.png", "samples_heat.png"),
        *("samples_wall.png", "spectra.png", "values.png", "physics_checks.png"),
    }
    assert "http" not in html.replace("http-equiv", "")
    assert html.count("<img") == 6 == html.count('src="data:image/png')
    assert "No duplicates, no leakage between splits, no gaps." in html
    for shown in ("temperature of the wall", "balance of heat", "m2 s-1", "Sampling rate"):
        assert shown in html
    assert json.loads((page.parent / "inspection.json").read_text()) == found.to_dict()


def test_progress_is_told_after_every_shard(clean: Inspection) -> None:
    told: list[tuple[int, int]] = []
    inspect_store(clean.store, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 16), (4, 16), (8, 16), (12, 16), (16, 16)]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda store: (store / "zarr.json").unlink(), "holds no dataset"),
        (lambda store: (store / "zarr.json").write_text("{}"), "no released dataset"),
        (lambda store: flip(store / "heat/c/1/0/0/0"), "heat/c/1/0/0/0 does not match"),
        (lambda store: (store / "wall/c/2/0").unlink(), "wall/c/2/0 is missing"),
        (lambda store: (store / "stray").write_text(""), "stray is not part"),
    ],
)
def test_bad_input_is_one_line(clean: Inspection, damage: Any, words: str) -> None:
    damage(clean.store)
    with pytest.raises(InputError, match=words) as caught:
        inspect_store(clean.store)
    assert "\n" not in str(caught.value) and "mno generate" in str(caught.value)
