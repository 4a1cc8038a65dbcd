"""What was made again, held against what was recorded."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import zarr
from safetensors.numpy import save_file

from mno.lineage.audit.objects import md5_on_disk
from mno.lineage.record import candidate_digest
from mno.lineage.replay_compare import (
    Agreement,
    Outcome,
    Remade,
    Tolerance,
    compare_dataset,
    compare_model,
    compare_report,
)

ALLOWED = Tolerance(data=1e-3, weights=1e-2, figures=1e-2)


def report(folder: Path, name: str, content: object) -> Path:
    path = folder / name / "metrics.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


REPORT = {"a": 1.0, "b": [2.0, {"c": 3}]}


@pytest.mark.parametrize(
    ("now", "exact", "allowed"),
    [
        (REPORT, Agreement.IDENTICAL, Agreement.IDENTICAL),
        (REPORT | {"a": math.nextafter(1.0, 2.0)}, Agreement.DIFFERENT, Agreement.CLOSE),
        (REPORT | {"b": [2.03, {"c": 3}]}, Agreement.DIFFERENT, Agreement.DIFFERENT),
        (REPORT | {"b": [2.0, {"c": 4}]}, Agreement.DIFFERENT, Agreement.DIFFERENT),
        (REPORT | {"b": [2.0]}, Agreement.DIFFERENT, Agreement.DIFFERENT),
        (REPORT | {"a": None}, Agreement.DIFFERENT, Agreement.DIFFERENT),
        (REPORT | {"a": math.nan}, Agreement.DIFFERENT, Agreement.DIFFERENT),
        ({"a": 1.0}, Agreement.DIFFERENT, Agreement.DIFFERENT),
    ],
)
def test_figures_are_compared_to_the_last_digit(
    tmp_path: Path, now: object, exact: Agreement, allowed: Agreement
) -> None:
    before, made = report(tmp_path, "before", REPORT), report(tmp_path, "now", now)
    assert compare_report(before, made, None).agreement is exact
    assert compare_report(before, made, ALLOWED).agreement is allowed


def test_a_figure_that_is_off_is_named(tmp_path: Path) -> None:
    before = report(tmp_path, "before", {"a": 1.0, "b": [2.0, {"c": 3.0}]})
    item = compare_report(before, report(tmp_path, "now", {"a": 1.0, "b": [2.0, {"c": 3.1}]}), None)
    assert "at b 1 c" in item.note
    assert "3.2e-02" in item.note


def test_the_same_figures_written_otherwise_are_identical(tmp_path: Path) -> None:
    before, now = (report(tmp_path, name, {"a": 1.0}) for name in ("before", "now"))
    now.write_text('{\n"a": 1.00}')
    assert compare_report(before, now, None).agreement is Agreement.IDENTICAL


def test_what_was_not_kept_cannot_be_compared_and_what_was_not_made_is_different(
    tmp_path: Path,
) -> None:
    made = report(tmp_path, "now", {"a": 1.0})
    assert compare_report(None, made, None).agreement is Agreement.UNKNOWN
    assert compare_report(made, tmp_path / "nowhere.json", ALLOWED).agreement is Agreement.DIFFERENT
    made.write_text("{")
    before = report(tmp_path, "before", {"a": 1.0})
    assert compare_report(before, made, ALLOWED).agreement is Agreement.DIFFERENT


def model(folder: Path, weights: np.ndarray) -> Path:
    folder.mkdir()
    save_file({"weight": weights}, folder / "weights.safetensors")
    (folder / "surrogate.json").write_text("{}")
    return folder


def compared(before: Path, now: Path, tolerance: Tolerance | None) -> dict[str, Agreement]:
    items = compare_model(candidate_digest(before), before, now, tolerance)
    return {item.name: item.agreement for item in items}


def test_weights_are_compared_bit_for_bit(tmp_path: Path) -> None:
    weights = np.array([3.0, 4.0], np.float32)
    before, same = (model(tmp_path / name, weights) for name in ("before", "same"))
    assert set(compared(before, same, None).values()) == {Agreement.IDENTICAL}
    near = model(tmp_path / "near", np.nextafter(weights, np.float32(9)))
    assert compared(before, near, None)["weights.safetensors"] is Agreement.DIFFERENT
    assert compared(before, near, ALLOWED) == {
        "surrogate.json": Agreement.IDENTICAL, "weights.safetensors": Agreement.CLOSE,
    }  # fmt: skip
    far = model(tmp_path / "far", weights + np.float32(0.5))
    assert compared(before, far, ALLOWED)["weights.safetensors"] is Agreement.DIFFERENT


@pytest.mark.parametrize("values", [[-0.0, 4.0], [math.nan, 4.0], [0.0]])
def test_weights_of_another_kind_are_different(tmp_path: Path, values: list[float]) -> None:
    before = model(tmp_path / "before", np.array([0.0, 4.0], np.float32))
    now = model(tmp_path / "now", np.array(values, np.float32))
    assert compared(before, now, ALLOWED)["weights.safetensors"] is Agreement.DIFFERENT


def test_a_recorded_model_that_is_damaged_is_not_what_is_compared_with(tmp_path: Path) -> None:
    weights = np.array([3.0, 4.0], np.float32)
    before, now = model(tmp_path / "before", weights), model(tmp_path / "now", weights * 2)
    sha256 = candidate_digest(before)
    (before / "surrogate.json").write_text("[]")
    item, *others = compare_model(sha256, before, now, ALLOWED)
    assert (item.agreement, others) == (Agreement.DIFFERENT, [])
    assert "not at hand" in item.note


def dataset(folder: Path, values: np.ndarray) -> tuple[Path, str]:
    group = zarr.open_group(folder, mode="w")
    group.create_array("pressure", data=values, chunks=(1, 3))
    group.create_array("split", data=np.array([0, 1]))
    return folder, md5_on_disk(folder)


def test_a_dataset_is_compared_by_bytes_and_then_by_values(tmp_path: Path) -> None:
    values = np.array([[1.0, math.nan, 3.0], [4.0, 5.0, 6.0]])
    before, md5 = dataset(tmp_path / "before", values)
    same, _ = dataset(tmp_path / "same", values)
    assert compare_dataset(md5, None, same, None).agreement is Agreement.IDENTICAL
    near, _ = dataset(tmp_path / "near", values * (1 + 1e-9))
    assert compare_dataset(md5, before, near, None).agreement is Agreement.DIFFERENT
    item = compare_dataset(md5, before, near, ALLOWED)
    assert item.agreement is Agreement.CLOSE
    assert "pressure at most 1.0e-09" in item.note
    assert compare_dataset(md5, None, near, ALLOWED).agreement is Agreement.DIFFERENT
    values[0, 1] = 2.0
    filled, _ = dataset(tmp_path / "filled", values)
    assert compare_dataset(md5, before, filled, ALLOWED).agreement is Agreement.DIFFERENT
    other, _ = dataset(tmp_path / "other", values[:1])
    assert compare_dataset(md5, before, other, ALLOWED).agreement is Agreement.DIFFERENT


@pytest.mark.parametrize(
    ("agreements", "reproduced"),
    [
        ([Agreement.IDENTICAL, Agreement.CLOSE, Agreement.UNKNOWN], True),
        ([Agreement.IDENTICAL, Agreement.DIFFERENT], False),
        ([Agreement.UNKNOWN], False),
        ([], False),
    ],
)
def test_a_model_is_reproduced_if_something_was_compared_and_nothing_differs(
    agreements: list[Agreement], reproduced: bool
) -> None:
    items = [Remade("thing", agreement) for agreement in agreements]
    assert Outcome([], [], [], [], "none", items).reproduced is reproduced
