"""The figure of the physics checks: what a dataset's own report says, drawn."""

from __future__ import annotations

import io
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from mno.data.generate.report import CheckReport
from mno.data.statistics import Margins
from mno.report.page import Figure
from mno.report.sections.data import check_figure


def dataset_of(*values: np.ndarray, tolerance: float = 1e-7) -> dict:
    checks = {
        f"check_{k}": asdict(
            CheckReport(
                f"balance {k}", tolerance, float(v.max()), float(v.mean()), Margins.of(v, tolerance)
            )
        )
        for k, v in enumerate(values)
    }
    return {"checks": checks}


def picture(figure: Figure | None) -> np.ndarray:
    assert figure is not None
    return np.asarray(Image.open(io.BytesIO(figure.png)).convert("RGB")).astype(int)


def blue_columns(figure: Figure | None) -> tuple[float, float]:
    """Where bars begin and end, as shares of the width."""
    red, _, blue = np.moveaxis(picture(figure), -1, 0)
    columns = np.flatnonzero((blue - red > 60).any(axis=0))
    return columns[0] / red.shape[1], columns[-1] / red.shape[1]


def test_bars_stand_where_the_samples_lie() -> None:
    near = blue_columns(check_figure(dataset_of(np.full(9, 0.9e-7))))
    far = blue_columns(check_figure(dataset_of(np.full(9, 1e-12))))
    none = blue_columns(check_figure(dataset_of(np.zeros(9))))
    both = blue_columns(check_figure(dataset_of(np.array([1e-12, 0.9e-7]))))
    assert none[1] < far[0] < far[1] < near[0] < near[1] < 0.92
    assert both == (pytest.approx(far[0], abs=0.01), pytest.approx(near[1], abs=0.01))


def test_the_words_name_every_check_with_its_largest_value() -> None:
    figure = check_figure(dataset_of(np.array([1e-8, 2e-8]), np.zeros(2)))
    assert figure is not None and figure.name == "physics_checks"
    assert "balance 0: largest 2.0\u202f×\u202f10⁻⁸, tolerance" in figure.alt
    assert "balance 1: largest 0" in figure.alt
    narrow = Image.open(io.BytesIO(figure.narrow))
    assert narrow.size[0] < picture(figure).shape[1]


def test_a_report_of_an_older_version_has_no_figure() -> None:
    older = dataset_of(np.ones(3) * 1e-8)
    for check in older["checks"].values():
        del check["margins"]
    assert check_figure(older) is None
    assert check_figure({}) is None and check_figure({"checks": {}}) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[0.0], [2e-7], [np.nan, 1e-8]])
def test_odd_values_are_drawn(values: list[float]) -> None:
    assert len(np.unique(picture(check_figure(dataset_of(np.array(values)))))) > 10


def test_a_tolerance_of_zero_is_drawn() -> None:
    assert blue_columns(check_figure(dataset_of(np.zeros(4), tolerance=0.0)))[1] < 0.2
