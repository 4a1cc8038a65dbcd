"""Arrays that lie in an HDF5 file in one piece, without compression: read past HDF5.

HDF5 would clear and fill an array for all of a piece before its channels can be told apart. Here
the bytes go through a buffer that stays in a core's cache.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

_PIECE_BYTES = 2**19


@dataclass(frozen=True)
class Place:
    """Where an array lies.

    Attributes:
        file: Descriptor of the open file; HDF5 closes it.
        offset: Of its first byte.
        values: How many of float32 follow.
    """

    file: int
    offset: int
    values: int


def place_of(dataset: h5py.Dataset) -> Place | None:
    """Return where an array of float32 lies in its file; none where HDF5 has to read it."""
    properties, file = dataset.id.get_create_plist(), dataset.file
    if (
        dataset.dtype != np.dtype("<f4")
        or properties.get_layout() != h5py.h5d.CONTIGUOUS
        or properties.get_nfilters()
        or file.driver != "sec2"
        or file.userblock_size
        or dataset.id.get_storage_size() != dataset.nbytes
    ):
        return None
    offset = dataset.id.get_offset()
    if offset is None:
        return None
    return Place(file.id.get_vfd_handle(), offset, math.prod(dataset.shape))


def read_channels(place: Place, targets: Sequence[np.ndarray]) -> None:
    """Read an array whose last axis is that of the channels.

    Args:
        place: Where it lies.
        targets: Where to put the values of each channel, shape `(values of a channel,)`, float32.

    Raises:
        OSError: It cannot be read, or ends too early.
    """
    channels = len(targets)
    buffer = np.empty((max(1, _PIECE_BYTES // (4 * channels)), channels), dtype="<f4")
    points = place.values // channels
    for start in range(0, points, len(buffer)):
        piece = buffer[: points - start]
        _fill(piece, place.file, place.offset + start * buffer.strides[0])
        for channel, target in enumerate(targets):
            target[start : start + len(piece)] = piece[:, channel]


def _fill(piece: np.ndarray, file: int, offset: int) -> None:
    waiting = piece.data.cast("B")
    while waiting:
        length = os.preadv(file, [waiting], offset)
        if not length:
            raise OSError("the file ends within the array")
        waiting, offset = waiting[length:], offset + length
