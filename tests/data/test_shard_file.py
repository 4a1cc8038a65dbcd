from __future__ import annotations

import numpy as np
import pytest
import zarr
from numcodecs.zstd import compress
from zarr.codecs import ZstdCodec

from mno.data.shard_file import content_size, read_index, write_shard_file


@pytest.fixture(params=[(), (7,), (5, 4), (3, 32, 33)], ids=str)
def array(request, tmp_path):
    """A new array of ten samples in shards of four."""
    group = zarr.create_group(tmp_path)
    return group.create_array(
        "a",
        shape=(10, *request.param),
        dtype="float32",
        chunks=(1, *request.param),
        shards=(4, *request.param),
        compressors=ZstdCodec(level=1),
        fill_value=np.nan,
    )


def path_of(array, tmp_path, shard):
    return tmp_path.joinpath("a", "c", str(shard), *("0" for _ in array.shape[1:]))


def test_the_bytes_are_those_that_zarr_writes(array, tmp_path):
    values = np.random.default_rng(0).normal(size=array.shape).astype(np.float32)
    array[:] = values
    for shard in range(3):
        path = path_of(array, tmp_path, shard)
        theirs = path.read_bytes()
        path.unlink()
        write_shard_file(path, values[4 * shard : 4 * shard + 4], 4)
        assert path.read_bytes() == theirs
        assert not list(tmp_path.rglob("*.partial"))


def test_zarr_reads_what_is_written_and_samples_of_nan_are_there(array, tmp_path):
    values = np.random.default_rng(0).normal(size=array.shape).astype(np.float32)
    values[1] = values[4:8] = np.nan
    for shard in range(3):
        write_shard_file(path_of(array, tmp_path, shard), values[4 * shard : 4 * shard + 4], 4)
    np.testing.assert_array_equal(array[:], values)


def test_large_samples_are_compressed_as_hard_as_is_worth_it(tmp_path):
    """A sample that hardly gets smaller is stored faster; zarr reads the one like the other."""
    noise = np.random.default_rng(0).normal(size=(1, 2**19)).astype(np.float32)
    steps = np.arange(2**19, dtype=np.float32)[None] // 64
    values = np.concatenate([noise, steps])
    group = zarr.create_group(tmp_path)
    codec = {"compressors": ZstdCodec(level=1), "dtype": "float32"}
    array = group.create_array("a", shape=(2, 2**19), chunks=(1, 2**19), shards=(2, 2**19), **codec)
    path = path_of(array, tmp_path, 0)
    write_shard_file(path, values, 2)
    np.testing.assert_array_equal(array[:], values)
    with open(path, "rb") as file:
        lengths = [length for _, length in read_index(file.fileno(), 2)]
    content = values[0].tobytes(), values[1].tobytes()
    assert lengths == [len(compress(content[0], -1)), len(compress(content[1], 1))]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65791, 65792, 2**20])
@pytest.mark.parametrize("made", ["zeros", "noise"])
def test_a_chunk_tells_the_size_of_its_content(size, made):
    rng = np.random.default_rng(0)
    content = bytes(size) if made == "zeros" else rng.bytes(size)
    assert content_size(compress(content, 1)) == size


@pytest.mark.parametrize("frame", [b"", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\0\0", b"P" * 40])
def test_what_is_no_chunk_tells_no_size(frame):
    assert content_size(frame) == -1
