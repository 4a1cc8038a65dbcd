"""The file of one shard, as Zarr v3 defines it: one compressed chunk per sample, and their index.

`ZEP 2 <https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/>`_: the chunks one
after the other; then offset and length of each, and a checksum of these. Written by hand, since
zarr-python leaves out chunks of nothing but the fill value, whatever it is told, and a lost sample
and a missing one would look the same; and since it copies all values twice.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from google_crc32c import value as crc32c
from numcodecs.zstd import compress

from mno.core.files import replacing

COMPRESSION_LEVEL = 1
FAST_LEVEL = -1
"""For what hardly gets smaller, such as a smooth field's digits: a third of the time."""

_WORTH = 7 / 8
_PROBE_BYTES = 2**17
_EMPTY = 2**64 - 1
_MAGIC = b"\x28\xb5\x2f\xfd"


def write_shard_file(path: Path, values: np.ndarray, size: int) -> str:
    """Write samples as a whole shard, in the file's place once complete; return its SHA-256.

    Values have shape `(samples, *sample)`, float32; an array's last shard may have fewer samples.
    """
    digest = hashlib.sha256()
    index = np.full((size, 2), _EMPTY, dtype="<u8")
    offset = 0
    # Dask may run a task twice when it loses sight of a worker: names beside must not clash.
    # A frame is hashed while it is written: either takes as long as all that comes before.
    with replacing(path) as beside, ThreadPoolExecutor(1) as hashing, open(beside, "wb") as file:
        for row, frame in enumerate(_compressed(values)):
            hashed = hashing.submit(digest.update, frame)
            index[row] = offset, len(frame)
            offset += file.write(frame)
            hashed.result()
        content = index.tobytes()
        content += crc32c(content).to_bytes(4, "little")
        file.write(content)
        digest.update(content)
    return digest.hexdigest()


def _compressed(values: np.ndarray) -> Iterator[bytes]:
    """Yield the chunk of each sample; the next ones are made while one is written."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[bytes]] = deque()
        for sample in values:
            ahead.append(pool.submit(_compress, sample))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _compress(sample: np.ndarray) -> bytes:
    """Compress a sample; how hard is tried on a part of a large one."""
    values, level = np.ascontiguousarray(sample, dtype="<f4").reshape(-1), COMPRESSION_LEVEL
    if values.nbytes >= 8 * _PROBE_BYTES:
        start, length = values.size // 2, _PROBE_BYTES // values.itemsize
        probe = compress(values[start : start + length], COMPRESSION_LEVEL)
        level = COMPRESSION_LEVEL if len(probe) <= _WORTH * _PROBE_BYTES else FAST_LEVEL
    return compress(values, level)


def read_index(file: int, size: int) -> list[list[int]]:
    """Return offset and length of each sample's chunk in a shard of `size` samples.

    `file` is the descriptor of the open file; a damaged index is a `ValueError`.
    """
    whole, length = os.fstat(file).st_size, 16 * size + 4
    content = os.pread(file, length, max(0, whole - length))
    if len(content) != length or crc32c(content[:-4]) != int.from_bytes(content[-4:], "little"):
        raise ValueError("the index is damaged")
    return np.frombuffer(content, "<u8", 2 * size).reshape(-1, 2).tolist()


def content_size(frame: bytes) -> int:
    """Return the size that a chunk says its content has (RFC 8878, 3.1.1.1); -1 if it does not."""
    header = frame[:18].ljust(18, b"\0")
    flags = header[4]
    single = flags >> 5 & 1
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    length = (single, 2, 4, 8)[flags >> 6]
    if header[:4] != _MAGIC or not length:
        return -1
    return int.from_bytes(header[start : start + length], "little") + 256 * (length == 2)
