from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from mno.imports.hdf5 import Hdf5File

SHAPE = (7, 50, 300, 3)  # 1.2 MiB, no whole number of pieces
FILES = [
    ({}, {}),
    ({"dtype": ">f4"}, {}),
    ({"dtype": "f8"}, {}),
    ({"chunks": (1, 50, 300, 3)}, {}),
    ({"compression": "gzip"}, {}),
    ({}, {"userblock_size": 512}),
]


def write(path: Path, array: dict, file: dict) -> np.ndarray:
    values = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    with h5py.File(path, "w", **file) as written:
        written["before"] = np.ones(11)
        written.create_dataset("data", data=values, **{"dtype": "f4", **array})
    return values


@pytest.mark.parametrize(("array", "file"), FILES, ids=str)
def test_channels_come_back_as_they_were_written(tmp_path: Path, array: dict, file: dict):
    written = write(tmp_path / "a.h5", array, file)
    out = np.zeros((3, 2, *SHAPE[:-1]), np.float32)
    with Hdf5File(tmp_path / "a.h5") as opened:
        stored = opened.needed(opened.root, "data")
        stored.read_channels(out[:, 1])  # a part of a larger array
    np.testing.assert_array_equal(out[:, 1], np.moveaxis(written, -1, 0))
    assert not out[:, 0].any()


def test_targets_may_lie_anyhow(tmp_path: Path):
    written = write(tmp_path / "a.h5", {}, {})
    out = np.empty((*SHAPE[:-1], 3), np.float32)
    with Hdf5File(tmp_path / "a.h5") as opened:
        opened.needed(opened.root, "data").read_channels(np.moveaxis(out, -1, 0))
    np.testing.assert_array_equal(out, written)
