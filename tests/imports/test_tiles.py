from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mno.core.errors import InputError
from mno.imports import tiles

PATH = Path("data.mat")
SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(shape=SHAPES, width=st.integers(1, 8), limit=st.integers(1, 600))
def test_pieces_cover_an_array_once_in_order(shape: list[int], width: int, limit: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_PIECE_BYTES", limit)
        pieces = list(tiles.pieces(shape, width))
    numbers = np.arange(np.prod(shape)).reshape(shape)
    found = np.concatenate([numbers[piece].ravel() for piece in pieces])
    np.testing.assert_array_equal(found, numbers.ravel())
    assert all(width * numbers[piece].size <= max(limit, width) for piece in pieces)


@given(shape=SHAPES, limit=st.integers(8, 600))
def test_boxes_follow_one_another_in_a_file_of_matlab(shape: list[int], limit: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_BOX_BYTES", limit)
        boxes = list(tiles.boxes(shape, None, 8, range(len(shape))))
    numbers = np.arange(np.prod(shape)).reshape(shape, order="F")
    found = np.concatenate([numbers[box].ravel(order="F") for box in boxes])
    np.testing.assert_array_equal(found, np.arange(numbers.size))
    assert all(8 * numbers[box].size <= limit for box in boxes)


@given(data=st.data(), shape=SHAPES, limit=st.integers(1, 600))
def test_samples_are_what_was_in_the_boxes(data: st.DataObject, shape: list[int], limit: int):
    chunks = [data.draw(st.integers(1, length)) for length in shape]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_BOX_BYTES", limit)
        boxes = list(tiles.boxes(shape, chunks, 4, range(len(shape))))
    for box in boxes:  # whole chunks, so that none is unpacked twice
        assert all(part.start % chunk == 0 for part, chunk in zip(box, chunks, strict=True))
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    ordered = tiles.SampleTiles(PATH, shape, ((box, values[box]) for box in boxes))
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start + 1, shape[0]))
    np.testing.assert_array_equal(ordered.read(start, stop), values[start:stop])


def test_a_full_disk_is_told_in_one_line():
    values = np.zeros((4, 2**20))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(InputError, match=r"File too large.*expected 0.0 GiB.*set TMPDIR"):
            tiles.SampleTiles(PATH, values.shape, [((slice(0, 4), slice(0, 2**20)), values)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
