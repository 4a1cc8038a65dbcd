"""One field of some samples, read from its files when it is asked for.

A chunk is one sample, so any sample is one read from a shard, whose index says where it lies.
Nothing stays open and no thread is started between two reads: an array may be used after a fork,
and it is handed to other processes as a path and some numbers.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.zstd import decompress

from mno.core.errors import InputError, MnoError
from mno.data.shard_file import content_size, read_index

REPAIR = 'make the dataset again with "mno generate --repair"'
_AT_ONCE = 256  # samples, so that not too many files are open
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


class StoredArray:
    """A field of the chosen samples, float32: `array[numbers]` reads some of them.

    Args:
        store: The dataset.
        name: The field.
        indices: Numbers of the chosen samples in the dataset.

    Raises:
        InputError: The dataset does not store the field as this version does.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, store: Path, name: str, indices: np.ndarray) -> None:
        self.folder = store / name
        self.indices = np.asarray(indices, dtype=np.int64)
        try:
            metadata = json.loads((self.folder / "zarr.json").read_text(encoding="utf-8"))
            self.sample_shape, self._shard_size = _layout(metadata)
        except (OSError, ValueError, TypeError, KeyError, IndexError):
            raise InputError(
                f"{self.folder} is not stored as this version stores fields (float32, one sample a "
                f"chunk, zstd); {REPAIR}"
            ) from None
        self._indexes: dict[int, list[list[int]]] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples, and the shape of one."""
        return len(self.indices), *self.sample_shape

    @property
    def nbytes(self) -> int:
        """What all of it takes in memory, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, numbers: np.ndarray | slice) -> np.ndarray:
        """Read samples by their numbers among the chosen ones, shape `(numbers, *sample)`.

        Raises:
            MnoError: A file is missing or damaged.
        """
        samples = self.indices[numbers].tolist()
        values = np.empty((len(samples), *self.sample_shape), self.dtype)
        for start in range(0, len(samples), _AT_ONCE):
            self._read(samples[start : start + _AT_ONCE], values[start : start + _AT_ONCE])
        return values

    def _read(self, samples: list[int], values: np.ndarray) -> None:
        size = values[:1].nbytes
        with ExitStack() as files:
            # The system is told of all reads before the first one is waited for.
            places = self._announce(samples, files)
            for row, (path, file, offset, length) in enumerate(places):
                frame = os.pread(file, length, offset)
                if len(frame) != length or content_size(frame) != size:
                    raise _damaged(path)
                try:
                    decompress(frame, values[row : row + 1])
                except (RuntimeError, ValueError):
                    raise _damaged(path) from None

    def _announce(self, samples: list[int], files: ExitStack) -> list[tuple[Path, int, int, int]]:
        """Return of each sample its file's path and descriptor, and where it lies in the file."""
        opened: dict[int, tuple[Path, int]] = {}
        places = []
        for sample in samples:
            shard, row = divmod(sample, self._shard_size)
            if shard not in opened:
                opened[shard] = self._open(shard, files)
            path, file = opened[shard]
            offset, length = self._indexes[shard][row]
            if offset + length > os.fstat(file).st_size:
                raise _damaged(path)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file, offset, length, os.POSIX_FADV_WILLNEED)
            places.append((path, file, offset, length))
        return places

    def _open(self, shard: int, files: ExitStack) -> tuple[Path, int]:
        path = self.folder.joinpath("c", str(shard), *("0" for _ in self.sample_shape))
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise MnoError(f"{path} cannot be read: {error.strerror}; {REPAIR}") from None
        files.callback(os.close, file)
        if shard not in self._indexes:
            try:
                self._indexes[shard] = read_index(file, self._shard_size)
            except ValueError:
                raise _damaged(path) from None
        return path, file


def _layout(metadata: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """Return shape of a sample and samples per shard; an error of any kind if it is not ours."""
    _, *shape = metadata["shape"]
    shard_size, *whole = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    (sharding,) = metadata["codecs"]
    inner = sharding["configuration"]
    values, compression = inner["codecs"]
    if (
        metadata["data_type"] != "float32"
        or metadata["chunk_key_encoding"]["configuration"]["separator"] != "/"
        or sharding["name"] != "sharding_indexed"
        or whole != shape
        or inner["chunk_shape"] != [1, *shape]
        or values != _LITTLE
        or compression["name"] != "zstd"
        or inner["index_codecs"] != [_LITTLE, {"name": "crc32c"}]
        or inner["index_location"] != "end"
    ):
        raise ValueError("another layout")
    return tuple(int(length) for length in shape), int(shard_size)


def _damaged(path: Path) -> MnoError:
    return MnoError(f"{path} is damaged; {REPAIR}")
