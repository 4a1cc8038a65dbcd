"""Samples and batches for torch, whole or in part, from memory or files, made ready ahead."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import flip
from plates import FRAMES, POINTS, SHAPE, Plate, Sensors, released
from torch.utils.data import DataLoader

from mno.core.errors import InputError, MnoError
from mno.data import Loader, Samples
from mno.data.loading import prefetched
from mno.data.normalise import Normaliser
from mno.data.reading import read_split

LAZY_AND_NOT = pytest.mark.parametrize("in_memory", [False, True])


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released(tmp_path_factory.mktemp("plate"), Plate)


@pytest.fixture(scope="module")
def sensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released(tmp_path_factory.mktemp("sensors"), Sensors)


def stacked(samples: Samples) -> dict[str, np.ndarray]:
    items = [samples[n] for n in range(len(samples))]
    assert all(len({item[name].dtype for item in items}) == 1 for name in items[0])
    return {name: torch.stack([item[name] for item in items]).numpy() for name in items[0]}


def same(ours: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(ours) == list(expected)
    for name, values in expected.items():
        assert ours[name].dtype == values.dtype
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


def same_batches(ours, expected) -> None:
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


@LAZY_AND_NOT
def test_only_the_fields_asked_for_are_there(plate, in_memory):
    samples = Samples(plate, fields=["temperature", "power"], in_memory=in_memory)
    expected = read_split(plate, "train").fields
    same(stacked(samples), {name: expected[name] for name in ("temperature", "power")})


@LAZY_AND_NOT
@pytest.mark.parametrize(
    ("window", "stride", "starts"),
    [(3, 1, [0, 1, 2, 3, 4]), (3, 2, [0, 2, 4]), (4, 2, [0, 2]), (FRAMES, 3, [0])],
)
def test_every_window_of_every_sample_is_an_item(plate, window, stride, starts, in_memory):
    samples = Samples(plate, window=window, stride=stride, in_memory=in_memory)
    whole = read_split(plate, "train").fields
    expected = {
        name: np.stack(
            [
                values[start : start + window] if values.ndim == 3 else values
                for values in whole[name]
                for start in starts
            ]
        )
        for name in whole
    }
    same(stacked(samples), expected)


@LAZY_AND_NOT
@pytest.mark.parametrize("every", [2, (2, 2), {"x": 2, "y": 2}])
def test_one_of_so_many_points_is_taken_along_each_axis(plate, every, in_memory):
    samples = Samples(plate, every=every, in_memory=in_memory)
    whole = read_split(plate, "train").fields
    expected = {n: v[..., ::2, ::2] if v.ndim > 1 else v for n, v in whole.items()}
    same(stacked(samples), expected)
    lengths = [len(axis.points) for axis in samples.axes]
    assert lengths == [FRAMES, SHAPE[0] // 2, SHAPE[1] // 2]
    np.testing.assert_allclose(samples.axes[1].points, [1 / 12, 5 / 12, 9 / 12])


def test_axes_may_be_thinned_differently_and_points_as_well(plate, sensors):
    whole = read_split(plate, "train").fields["temperature"]
    thin = stacked(Samples(plate, fields=["temperature"], every={"x": 3}))["temperature"]
    np.testing.assert_array_equal(thin, whole[:, :, ::3])
    whole = read_split(sensors, "train").fields
    thin = stacked(Samples(sensors, every=4))
    assert thin["x"].shape[1:] == (3,)
    for name in ("x", "temperature"):
        np.testing.assert_array_equal(thin[name], whole[name][..., ::4])


@LAZY_AND_NOT
def test_gaps_are_nan_or_told_by_a_mask(plate, in_memory):
    whole = read_split(plate, "train").fields
    gaps = np.isnan(whole["reading"])
    assert 0.1 < gaps.mean() < 0.5
    assert np.isnan(stacked(Samples(plate))["reading"]).sum() == gaps.sum()
    ours = stacked(Samples(plate, masked=True, in_memory=in_memory))
    expected = {**whole, "reading": np.nan_to_num(whole["reading"]), "reading_present": ~gaps}
    same(ours, expected)
    assert ours["reading_present"].dtype == bool


def test_a_normaliser_is_applied_before_gaps_are_filled(plate):
    whole = read_split(plate, "train").fields
    normaliser = Normaliser.fit({n: v[np.isfinite(v)] for n, v in whole.items()})
    ours = stacked(Samples(plate, normaliser=normaliser, masked=True))
    for name in ("temperature", "power"):
        np.testing.assert_array_equal(ours[name], normaliser.encode(name, whole[name]))
        assert ours[name].dtype == np.float32
    missing = np.isnan(whole["reading"])
    assert (ours["reading"][missing] == 0).all()
    encoded = normaliser.encode("reading", whole["reading"])
    np.testing.assert_array_equal(ours["reading"][~missing], encoded[~missing])


def test_a_grid_as_points_has_its_coordinates_beside(plate):
    ours, whole = stacked(Samples(plate, as_points=True, every=(2, 1))), read_split(plate, "train")
    assert ours["temperature"].shape == (12, FRAMES, 12)
    assert ours["x"].shape == ours["y"].shape == (12, 12)
    x, y = (np.round(ours["x"][3] * 6 - 0.5), np.round(ours["y"][3] * 2 - 0.5))
    found = whole.fields["temperature"][3][:, x.astype(int), y.astype(int)]
    np.testing.assert_array_equal(ours["temperature"][3], found)
    assert ours["power"].shape == (12,)


@LAZY_AND_NOT
@pytest.mark.parametrize("store", ["plate", "sensors"])
def test_drawn_points_are_points_of_the_sample_and_other_ones_in_each_epoch(
    store, in_memory, request
):
    path = request.getfixturevalue(store)
    form = {"as_points": store == "plate", "in_memory": in_memory}
    samples, whole = Samples(path, points=5, **form), stacked(Samples(path, **form))
    drawn = []
    for epoch in (0, 1, 0):
        samples.epoch = epoch
        ours = stacked(samples)
        assert ours["temperature"].shape == (12, FRAMES, 5)
        for row in range(12):
            places = np.stack([whole["x"][row], whole["y"][row]], -1).tolist()
            found = [
                places.index(p) for p in np.stack([ours["x"][row], ours["y"][row]], -1).tolist()
            ]
            assert len(set(found)) == 5
            for name in ("conductivity", "temperature", "reading"):
                np.testing.assert_array_equal(ours[name][row], whole[name][row][..., found])
        drawn.append(ours["x"])
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[0], drawn[2])
    assert len({tuple(row) for row in drawn[0]}) > 1
    other = stacked(Samples(path, points=5, seed=1, **form))
    assert not np.array_equal(other["x"], drawn[0])


def test_all_forms_at_once_are_the_same_in_memory_or_not(plate):
    form = {
        "window": 2, "stride": 2, "every": (1, 2), "as_points": True, "points": 6, "masked": True,
    }  # fmt: skip
    same(
        stacked(Samples(plate, **form, in_memory=True)),
        stacked(Samples(plate, **form, in_memory=False)),
    )


def test_a_batch_is_its_items_and_torch_makes_the_same(plate):
    samples = Samples(plate, window=3, in_memory=False)
    items = np.array([7, 0, 59, 7])
    batch = samples.batch(items)
    for row, item in enumerate(items):
        same(
            {name: values[row].numpy() for name, values in batch.items()},
            {name: values.numpy() for name, values in samples[int(item)].items()},
        )
    (of_torch,) = DataLoader(samples, batch_size=4, sampler=items.tolist())
    same_batches([of_torch], [batch])
    with pytest.raises(IndexError):
        samples[60]


def test_what_is_small_lies_in_memory_by_itself(plate, monkeypatch):
    size = sum(array.nbytes for array in read_split(plate, "train").fields.values())
    assert Samples(plate).in_memory

    def with_available(memory: int, **options) -> Samples:
        for owner in ("mno.core.memory", "mno.data.samples"):
            monkeypatch.setattr(f"{owner}.available_memory", lambda: memory)
        return Samples(plate, **options)

    assert with_available(4 * size).in_memory
    assert not with_available(4 * size - 1).in_memory
    assert with_available(size, in_memory=True).in_memory
    with pytest.raises(InputError, match="in_memory=True: the samples take .* set in_memory=False"):
        with_available(size - 1, in_memory=True)


def test_after_pickling_it_reads_the_same_and_nothing_is_open(plate):
    samples = Samples(plate, in_memory=False)
    before = stacked(samples)
    content = pickle.dumps(samples)
    assert len(content) < 10_000
    same(stacked(pickle.loads(content)), before)


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_any_workers_give_the_batches_of_none(plate, start_method):
    samples = Samples(plate, window=3, as_points=True, points=4, in_memory=False)
    samples[0]  # what is used before a fork is used after it
    alone = Loader(samples, 7, seed=3)
    workers = Loader(samples, 7, seed=3, workers=2, start_method=start_method)
    for _ in range(2):
        same_batches(workers, alone)


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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_continues_where_another_stopped(plate, workers):
    samples = Samples(plate, in_memory=False)
    uninterrupted = Loader(samples, 5, seed=1)
    passes = [list(uninterrupted) for _ in range(3)]
    resumed = Loader(samples, 5, seed=1, workers=workers)
    resumed.epoch, resumed.batch = 1, 2
    same_batches(resumed, passes[1][2:])
    same_batches(resumed, passes[2])


def test_a_pass_that_is_left_early_is_followed_by_a_whole_one(plate):
    samples = Samples(plate, in_memory=False)
    batches, expected = Loader(samples, 5), Loader(samples, 5)
    for _ in batches:
        break
    expected.epoch = 1
    same_batches(batches, expected)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_damaged_file_is_named_before_anything_is_read(tmp_path, in_memory):
    store = released(tmp_path, Plate)
    flip(store / "temperature/c/1/0/0/0", 30)
    with pytest.raises(MnoError, match="temperature/c/1/0/0/0 does not match its recorded sha256"):
        Samples(store, in_memory=in_memory)


@pytest.mark.parametrize("damage", ["index", "chunk", "cut", "empty", "missing"])
@pytest.mark.parametrize("workers", [0, 1])
def test_without_verification_a_damaged_file_is_named_when_it_is_read(
    tmp_path, damage, workers, monkeypatch
):
    # What torch waits for workers that it ends.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
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
        list(Loader(samples, 4, workers=workers))
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
        ({"window": 8}, "a sample has 7 frames; give a window of 1 to 7"),
        ({"window": 0}, "give a window of 1 to 7"),
        ({"window": 2, "stride": 0}, "a stride of 1 or more"),
        ({"window": 2, "fields": ["power"]}, "no field has a time axis among power"),
        ({"every": 0}, "every=0 does not fit the axes x, y"),
        ({"every": (1, 2, 3)}, "does not fit the axes x, y"),
        ({"every": {"z": 2}}, "does not fit the axes x, y"),
        ({"points": 3}, "set as_points=True as well"),
        ({"points": 25, "as_points": True}, "points=25 cannot be drawn from 24"),
        ({"points": 0, "as_points": True}, "points=0 cannot be drawn"),
        ({"normaliser": Normaliser({"power": 0.0}, {"power": 1.0})}, "nothing of conductivity"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(plate, options, message):
    with pytest.raises(InputError, match=message) as caught:
        Samples(plate, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"workers": -1}, {"ahead": -1}])
def test_a_loader_refuses_numbers_that_are_too_small(plate, options):
    (name,) = options
    with pytest.raises(InputError, match=f"{name}=.* expected [01] or more"):
        Loader(Samples(plate), **{"batch_size": 2} | options)


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no dataset"):
        Samples(tmp_path)


def test_points_of_unordered_data_are_all_there(sensors):
    assert stacked(Samples(sensors, as_points=True))["x"].shape == (12, POINTS)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("mno-prefetch")]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_items_come_in_their_order_and_the_thread_ends(ahead):
    assert list(prefetched(range(20), ahead)) == list(range(20))
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


def test_an_iterator_that_is_forgotten_takes_its_thread_along():
    for n in prefetched(iter(range(10**9)), 3):
        if n == 2:
            break
    assert not threads()
