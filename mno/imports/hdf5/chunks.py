"""Compressed chunks of HDF5 files: none may unpack to more than it should.

HDF5 itself lets a chunk grow as long as there is something to unpack. What small chunks can become
is bounded by the compression's largest ratio; the others are unpacked here first, up to their
size, before HDF5 may do so.
"""

from __future__ import annotations

import math
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py

from mno.core.errors import InputError
from mno.imports.base import MAX_SAMPLE_BYTES

DEFLATE, SHUFFLE, FLETCHER32, LZF = 1, 2, 3, 32000
RATIOS = {DEFLATE: 1032, LZF: 100}
"""Largest ratio of the compressions that are read."""

_HARMLESS_BYTES = 700 * 2**20
# What a checksum, or data that cannot be compressed, may add.
_MARGIN = 65_536


class ChunkGuard:
    """Checks chunks before they are read.

    Args:
        path: The file.
        name: What the file calls the array.
        dataset: The array.

    Raises:
        InputError: It is compressed in a way that is not known, or has chunks that are too large.
    """

    def __init__(self, path: Path, name: str, dataset: h5py.Dataset) -> None:
        self._path, self._name, self._dataset = path, name, dataset
        self._chunk_bytes = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
        properties = dataset.id.get_create_plist()
        self._filters: list[tuple[int, tuple[int, ...]]] = []
        for number in range(properties.get_nfilters()):
            code, _, values, _ = properties.get_filter(number)
            self._filters.append((code, values))
        self._check_filters()

    def _check_filters(self) -> None:
        codes = [code for code, _ in self._filters]
        unknown = set(codes) - {DEFLATE, SHUFFLE, FLETCHER32, LZF}
        if unknown or sum(code in RATIOS for code in codes) > 1:
            raise InputError(
                f"{self._path}: {self._name} is compressed by HDF5 filters {codes}; expected gzip "
                f"({DEFLATE}) or lzf ({LZF}): convert the file by h5repack -f GZIP=1"
            )
        if self._chunk_bytes > MAX_SAMPLE_BYTES:
            raise InputError(
                f"{self._path}: {self._name} has chunks of shape {self._dataset.chunks}; expected "
                f"at most {MAX_SAMPLE_BYTES // 2**20} MiB each: write it in smaller ones"
            )
        if any(
            code == LZF and values[2:3] != (self._chunk_bytes,) for code, values in self._filters
        ):
            raise self._swollen()

    def check(self, where: Any) -> None:
        """Check the chunks of a part of the array.

        Args:
            where: One slice for each of the leading axes, or `...`.

        Raises:
            InputError: One of them unpacks to more than its size.
        """
        if not self._filters or not self._suspects:
            return
        for corner in [c for c in self._suspects if self._is_part(c, where)]:
            self._check_chunk(corner)
            self._suspects.remove(corner)

    @cached_property
    def _suspects(self) -> set[tuple[int, ...]]:
        """Corners of the chunks that could unpack to too much."""
        codes = [code for code, _ in self._filters if code in RATIOS]
        found: set[tuple[int, ...]] = set()
        if not codes:
            return found
        limit = _HARMLESS_BYTES // RATIOS[codes[0]]
        swollen = []

        def look(chunk: Any) -> None:
            if chunk.size > limit:
                found.add(chunk.chunk_offset)
            if chunk.size > self._chunk_bytes * 1.01 + _MARGIN:
                swollen.append(chunk.chunk_offset)

        self._dataset.id.chunk_iter(look)
        if swollen or found and codes == [LZF]:
            raise self._swollen()
        return found

    def _is_part(self, corner: tuple[int, ...], where: Any) -> bool:
        if where is ...:
            return True
        return all(
            part.start < low + length and low < part.stop
            for part, low, length in zip(where, corner, self._dataset.chunks or (), strict=False)
        )

    def _check_chunk(self, corner: tuple[int, ...]) -> None:
        skipped, data = self._dataset.id.read_direct_chunk(corner)
        for number in reversed(range(len(self._filters))):
            code, _ = self._filters[number]
            if skipped & (1 << number):
                continue
            if code == FLETCHER32:
                data = data[:-4]
            if code == DEFLATE:
                try:
                    size = len(zlib.decompressobj().decompress(data, self._chunk_bytes + _MARGIN))
                except zlib.error as error:
                    raise InputError(
                        f"{self._path}: {self._name} cannot be unpacked ({error}); expected an "
                        "undamaged file: get it anew"
                    ) from None
                if size > self._chunk_bytes + 4:
                    raise self._swollen()
                return

    def _swollen(self) -> InputError:
        return InputError(
            f"{self._path}: a chunk of {self._name} unpacks to more than its {self._chunk_bytes} "
            "bytes; expected chunks of gzip, or of lzf up to 7 MiB: get the file anew, or convert "
            "it by h5repack -f GZIP=1"
        )
