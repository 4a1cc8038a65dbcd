"""The mean field of a split that is read block by block."""

from __future__ import annotations

import numpy as np

from mno.core.fields import Axis, Field
from mno.data import reading as blocks
from mno.data.reading import Schema, Split
from mno.evaluation.scoring import mean_fields

SAMPLES, POINTS = 23, 6
AXES = (Axis("x", "m", "x", (np.arange(POINTS) + 0.5) / POINTS, (0.0, 1.0)),)
FIELDS = (
    Field("whole", "K", "whole", "output", ("x",)),
    Field("gaps", "K", "with gaps", "output", ("x",), gaps=True),
)


def test_it_is_that_of_all_samples_whatever_the_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(SAMPLES, POINTS)).astype(np.float32)
    gaps = np.where(rng.random(whole.shape) < 0.5, np.float32(np.nan), whole)
    gaps[:, 2] = np.nan
    schema = Schema("rod", FIELDS, AXES)
    split = Split("train", schema, {"whole": whole, "gaps": gaps}, np.arange(SAMPLES))
    expected = np.array([np.nanmean(gaps[:, k].astype(float)) for k in range(POINTS) if k != 2])
    for size in (4 * POINTS, 5 * 4 * POINTS, 2**26):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
        means = mean_fields(split)
        np.testing.assert_allclose(means["whole"], whole.mean(axis=0, dtype=float), rtol=1e-12)
        np.testing.assert_allclose(np.delete(means["gaps"], 2), expected, rtol=1e-12)
        np.testing.assert_allclose(means["gaps"][2], np.nanmean(gaps.astype(float)), rtol=1e-12)
