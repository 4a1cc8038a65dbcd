from __future__ import annotations

import gc
import threading

import pytest
import torch

from mno.scan import selective_scan
from mno.scan.cpu import memory

COUNT = 200_000  # large enough to be kept


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Begin without blocks of other tests."""
    monkeypatch.setattr(memory, "_kept", memory._Kept())


def test_a_dropped_result_leaves_its_memory_to_the_next():
    first = memory.empty(COUNT)
    address = first.data_ptr()
    del first
    assert memory.empty(COUNT // 2, 2).data_ptr() == address


def test_memory_is_not_handed_out_while_any_view_of_it_lives():
    first = memory.empty(2, COUNT)
    first.fill_(1.0)
    view, address = first[:, 5:].mT, first.data_ptr()
    del first
    gc.collect()
    others = [memory.empty(2, COUNT).fill_(2.0) for _ in range(3)]
    assert all(other.data_ptr() != address for other in others)
    assert bool((view == 1.0).all())
    del view
    assert memory.empty(2, COUNT).data_ptr() == address


def test_no_more_is_kept_than_the_limit_and_the_oldest_goes_first(monkeypatch):
    monkeypatch.setattr(memory, "MOST_KEPT", 3_000_000)
    tensors = [memory.empty(n) for n in (250_000, 300_000, 350_000)]
    newest = tensors[2].data_ptr()
    del tensors[0], tensors[0], tensors[0]
    sizes = [block.size for block in memory._kept.blocks]
    assert memory._kept.size == sum(sizes) <= 3_000_000 and min(sizes) >= 4 * 300_000
    assert memory.empty(350_000).data_ptr() == newest


def test_a_large_result_does_not_drive_out_the_others():
    small = memory.empty(COUNT)
    address = small.data_ptr()
    del small
    huge = memory.empty(memory.MOST_KEPT // 8)
    del huge
    assert memory.empty(COUNT).data_ptr() == address


def test_threads_never_get_the_same_memory():
    number = 4
    together = threading.Barrier(number)
    rounds = [[0] * number for _ in range(100)]

    def work(mine: int) -> None:
        for addresses in rounds:
            together.wait()
            x = memory.empty(COUNT)
            addresses[mine] = x.data_ptr()
            together.wait()  # all hold theirs
            del x

    threads = [threading.Thread(target=work, args=(mine,)) for mine in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(set(addresses)) == number and 0 not in addresses for addresses in rounds)
    assert len({address for addresses in rounds for address in addresses}) < 100  # handed out again


@pytest.mark.parametrize("shape", [(3, 5), (300, 1000), (0, 7), (3_000_000,)])
def test_it_is_as_any_other_tensor(shape):
    x = memory.empty(*shape)
    assert x.shape == shape and x.dtype == torch.float32 and x.is_contiguous()
    x.zero_()
    assert x.sum() == 0.0


def test_what_an_earlier_scan_returned_stays_when_later_ones_run():
    def scan(seed):
        draw = torch.Generator().manual_seed(seed)
        u, delta = (torch.randn(2, 64, 1024, generator=draw, requires_grad=True) for _ in "ab")
        B, C = (torch.randn(2, 1, 4, 1024, generator=draw, requires_grad=True) for _ in "ab")
        A = -torch.rand(64, 4, generator=draw) - 0.5
        y = selective_scan(u, delta, A, B, C, backend="cpu")
        return y, *torch.autograd.grad(y.square().sum(), (u, delta, B, C))

    kept = scan(0)
    copies = [x.clone() for x in kept]
    for seed in range(1, 4):
        scan(seed)
    assert all(torch.equal(x, y) for x, y in zip(kept, copies, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(scan(0), copies, strict=True))
