"""Samples and batches for torch, whole or in part, from memory or files, made ready ahead."""

import pickle
import threading
import time

import numpy as np
import pytest
import torch
from plates import Plate, Sensors, released
from torch.utils.data import DataLoader

from mno.core.errors import InputError, MnoError
from mno.data import Loader, Samples
from mno.data.loading import prefetched
from mno.data.normalise import Normaliser
from mno.data.reading import read_split
from tests.data.conftest import flip

LAZY_AND_NOT = pytest.mark.parametrize("in_memory", [False, True])


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    return released(tmp_path_factory.mktemp("plate"), Plate)


@pytest.fixture(scope="module")
def sensors(tmp_path_factory):
    return released(tmp_path_factory.mktemp("sensors"), Sensors)


def stacked(samples):
    items = [samples[n] for n in range(len(samples))]
    assert all(len({item[name].dtype for item in items}) == 1 for name in items[0])
    return {name: torch.stack([item[name] for item in items]).numpy() for name in items[0]}


def same(ours, expected):
    assert list(ours) == list(expected)
    for name, values in expected.items():
        assert ours[name].dtype == values.dtype
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


def same_batches(ours, expected):
    ours, expected = list(ours), list(expected)
    assert len(ours) == len(expected) > 0
    for one, other in zip(ours, expected, strict=True):
        same({k: v.numpy() for k, v in one.items()}, {k: v.numpy() for k, v in other.items()})


@LAZY_AND_NOT
@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("store", ["plate", "sensors"])
def test_items_are_the_samples_of_the_split(store, split, in_memory, request):
    path = request.getfixturevalue(store)
    samples, expected = Samples(path, split, in_memory=in_memory), read_split(path, split)
    assert samples.in_memory is in_memory
    assert np.array_equal(samples.indices, expected.indices)
    assert len(set(expected.indices // 3)) > 1, "the split must span shards"
    same(stacked(samples), expected.fields)
    some = ["temperature", "power"]
    chosen = Samples(path, split, fields=some, in_memory=in_memory)
    same(stacked(chosen), {name: expected.fields[name] for name in some})


def test_a_normaliser_is_applied_and_gaps_are_nan(plate):
    whole = read_split(plate, "train").fields
    assert 0.1 < np.isnan(whole["reading"]).mean() < 0.5
    normaliser = Normaliser.fit({n: v[np.isfinite(v)] for n, v in whole.items()})
    encoded = {n: normaliser.encode(n, v).astype(np.float32) for n, v in whole.items()}
    same(stacked(Samples(plate, normaliser=normaliser)), encoded)


def test_a_batch_is_its_items_and_torch_makes_the_same(plate):
    samples = Samples(plate, in_memory=False)
    items = np.array([7, 0, 11, 7])
    batch = samples.batch(items)
    for row, item in enumerate(items):
        same(
            {name: values[row].numpy() for name, values in batch.items()},
            {name: values.numpy() for name, values in samples[int(item)].items()},
        )
    samples[0]  # what is used before a fork is used after it
    for context in ("fork", "spawn"):
        workers = {"num_workers": 1, "multiprocessing_context": context}
        same_batches(DataLoader(samples, 4, sampler=items.tolist(), **workers), [batch])
    with pytest.raises(IndexError):
        samples[60]


def test_what_is_small_lies_in_memory_by_itself(plate, monkeypatch):
    size = sum(array.nbytes for array in read_split(plate, "train").fields.values())
    assert Samples(plate).in_memory

    for memory, fits in ((4 * size, True), (4 * size - 1, False)):
        monkeypatch.setattr("mno.core.memory.available_memory", lambda memory=memory: memory)
        assert Samples(plate).in_memory is fits
        assert Samples(plate, in_memory=True).in_memory


def test_after_pickling_it_reads_the_same_and_nothing_is_open(plate):
    samples = Samples(plate, in_memory=False)
    before = stacked(samples)
    content = pickle.dumps(samples)
    assert len(content) < 10_000
    same(stacked(pickle.loads(content)), before)


def test_the_order_depends_on_seed_and_pass_alone_and_takes_each_item_once(plate):
    samples = Samples(plate, fields=["power"])
    known = samples.batch(np.arange(len(samples)))["power"].tolist()

    def orders(**options) -> list[list[int]]:
        batches = Loader(samples, 5, **options)
        assert len(batches) == 3
        passes = [[batch["power"] for batch in batches] for _ in range(2)]
        assert [len(batch) for batch in passes[0]] == [5, 5, 2]
        return [[known.index(v) for v in torch.cat(taken).tolist()] for taken in passes]

    first, second = orders(seed=1)
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second and first != list(range(12))
    assert orders(seed=1) == [first, second]
    assert orders(seed=2)[0] != first
    assert orders(shuffle=False) == [list(range(12))] * 2


def test_a_loader_continues_where_another_stopped(plate):
    samples = Samples(plate, in_memory=False)
    uninterrupted = Loader(samples, 5, seed=1)
    passes = [list(uninterrupted) for _ in range(3)]
    resumed = Loader(samples, 5, seed=1)
    resumed.epoch, resumed.batch = 1, 2
    same_batches(resumed, passes[1][2:])
    same_batches(resumed, passes[2])
    resumed.epoch = 0
    for _ in resumed:  # a pass that is left early is followed by a whole one
        break
    same_batches(resumed, passes[1])


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_damaged_file_is_named_before_anything_is_read(tmp_path, in_memory):
    store = released(tmp_path, Plate)
    flip(store / "temperature/c/1/0/0/0", 30)
    with pytest.raises(MnoError, match="temperature/c/1/0/0/0 does not match its recorded sha256"):
        Samples(store, in_memory=in_memory)


@pytest.mark.parametrize("damage", ["index", "chunk", "cut", "empty", "missing"])
def test_without_verification_a_damaged_file_is_named_when_it_is_read(tmp_path, damage):
    store = released(tmp_path, Plate)
    path = store / "temperature/c/1/0/0/0"
    if damage == "missing":
        path.unlink()
    elif damage in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: 50 if damage == "cut" else 0])
    else:
        flip(path, -10 if damage == "index" else 2)
    samples = Samples(store, in_memory=False, verify=False)
    with pytest.raises(MnoError, match="temperature/c/1/0/0/0 (is damaged|cannot be read)"):
        list(Loader(samples, 4))
    with pytest.raises(MnoError, match="temperature/c/1/0/0/0"):
        Samples(store, in_memory=True, verify=False)


def test_a_sample_of_nothing_but_gaps_is_read_as_such(tmp_path):
    class Silent(Plate):
        def solve(self, inputs):
            solved = super().solve(inputs)
            solved["reading"][:] = np.nan
            return solved

    store = released(tmp_path, Silent)
    assert np.isnan(stacked(Samples(store, in_memory=False))["reading"]).all()
    assert np.isnan(read_split(store, "test").fields["reading"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "all"}, "split='all' is not in"),
        ({"fields": ["pressure"]}, "expected a list of names among conductivity, power"),
        ({"fields": "power"}, "expected a list of names"),
        ({"fields": []}, "expected a list of names"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(plate, options, message):
    with pytest.raises(InputError, match=message) as caught:
        Samples(plate, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"seed": -1}])
def test_a_loader_refuses_numbers_that_are_too_small(plate, options):
    with pytest.raises(InputError, match="expected at least"):
        Loader(Samples(plate), **{"batch_size": 2} | options)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mno-prefetch")]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_items_come_in_their_order_and_the_thread_ends(ahead):
    assert list(prefetched(range(20), ahead)) == list(range(20))
    assert not threads()
    for n in prefetched(iter(range(10**9)), ahead):  # one that is forgotten takes its thread along
        if n == 2:
            break
    assert not threads()


def test_items_are_prepared_ahead_but_no_more_than_asked_for():
    begun = []

    def items():
        for n in range(10):
            begun.append(n)
            yield n

    taken = prefetched(items(), 2)
    assert begun == []
    assert next(taken) == 0
    end = time.monotonic() + 5
    while len(begun) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    assert begun == [0, 1, 2, 3]  # one handed out, two ready, one in hand
    taken.close()
    assert not threads()


def test_an_error_comes_in_its_place():
    def items():
        yield 1
        raise KeyError("broken")

    taken = prefetched(items(), 4)
    assert next(taken) == 1
    with pytest.raises(KeyError, match="broken"):
        next(taken)
    assert not threads()
