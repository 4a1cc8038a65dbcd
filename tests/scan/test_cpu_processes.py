"""The compiled kernels in threads, forked processes, on lesser processors; cache and memory."""

import gc
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mno.scan import cpu, selective_scan
from mno.scan.cpu import memory, threads

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

PACKAGE = Path(cpu.__file__).parent
SCAN = """
import torch
from mno.scan import cpu
from mno.scan.cpu import launch
from tests.scan.scan_cases import flat

def scan(seed):
    generator = torch.Generator().manual_seed(seed)
    def normal(*shape):
        return torch.randn(*shape, generator=generator)
    u, delta = normal(2, 128, 2, 100), normal(2, 128, 2, 100)
    inputs = (u, delta, -normal(2, 5, 100).abs(), normal(2, 128, 2, 5), normal(2, 128, 2, 5))
    inputs += (normal(2, 100), normal(2, 100), None, None, None)
    layout = [128, 128, 1, 0, 16, 16, 8, 1]
    scan = flat(*inputs, layout, True, "simplified")
    y, states, _ = launch.arranged_forward(scan.tensors, scan.how, save=True)
    return y, *launch.arranged_backward(scan.tensors, scan.how, states, y)[:7]
"""
_scope: dict = {}
exec(SCAN, _scope)


def scan(seed):
    return _scope["scan"](seed)


def started(code, environment, python_path=None):
    """Start a Python process that has `scan`, of the package at a path if one is given."""
    root = PACKAGE.parents[2]
    paths = os.pathsep.join(map(str, (python_path or root, root)))  # tests are here alone
    changed = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCAN + code],
        cwd=python_path or root,
        env=os.environ | changed | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def close(ours, wanted):
    """Tell whether results differ by rounding only."""
    return all(
        (a - b).abs().max() <= 3e-6 * b.abs().max() for a, b in zip(ours, wanted, strict=True)
    )


def files(cache):
    return sorted(cache.glob("mno/scan-*/*.bin"))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_several_threads_scan_at_the_same_time():
    wanted = [scan(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(scan, [seed % 4 for seed in range(32)]))
    for seed, results in enumerate(found):
        for ours, expected in zip(results, wanted[seed % 4], strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.skipif(threads._open_mp() is None, reason="torch has another library of threads")
def test_no_thread_is_started_beside_those_of_torch():
    before = len(os.listdir("/proc/self/task"))
    torch.ones(2**20).exp()
    started_by_torch = max(before, len(os.listdir("/proc/self/task")))
    scan(0)
    assert len(os.listdir("/proc/self/task")) == started_by_torch


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_forked_after_a_scan_can_scan():
    code = """
import os
torch.set_num_threads(2)
wanted = scan(0)
child = os.fork()
if child == 0:
    # torch's own threads do not survive a fork, nor can its operations on many numbers; the scan
    # starts threads anew.
    same = all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(scan(0), wanted))
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    finished(started(code, {}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("haswell", "+avx2,+fma"),
        pytest.param("x86-64", "+sse2", marks=pytest.mark.nightly),
        pytest.param("generic", "", marks=pytest.mark.nightly),
    ],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names processors of another kind")
def test_processors_without_wide_vectors(name, features, tmp_path):
    target = tmp_path / "results.pt"
    code = f"""
from mno.scan.cpu import vectors
assert vectors.LANES == 8
torch.save(scan(1), {str(target)!r})
"""
    environment = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    finished(started(code, environment | {"XDG_CACHE_HOME": str(tmp_path)}))
    assert close(torch.load(target), scan(1))


@pytest.mark.slow
def test_kernels_that_different_processes_have_compiled_are_not_mixed_up(tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    compiling = "from mno.scan.cpu.launch import kernel\nkernel({!r}, {!r})"
    kernels = [(way, rule) for way in ("forward", "backward") for rule in ("zoh", "centred")]
    for one in reversed(kernels):
        finished(started(compiling.format(*one), environment))
    code = """
from tests.scan.scan_cases import TOLERANCE, differences, laid_out, random_inputs
inputs = random_inputs(3, batch=2, points=70, groups=2, channel=40, state=6, rank=2, scaled=True)
for rule in ("zoh", "centred"):
    for how in ("channels", "points"):
        given = inputs | {name: laid_out(inputs[name], how) for name in ("u", "B", "C")}
        errors = differences(given, [70, 70, 1, 0, 10, 10, 7, 1], rule=rule)
        assert max(errors.values()) < TOLERANCE, (rule, how, errors)
from mno.scan.cpu.launch import _kernels
assert not sum(len(kernel.run.stats.cache_misses) for kernel in _kernels.values())
"""
    finished(started(code, environment))


@pytest.mark.slow
@pytest.mark.nightly
def test_damaged_and_foreign_files_are_replaced(tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    finished(started("scan(0)", environment))
    first, second, *_ = files(tmp_path)
    whole = first.read_bytes(), second.read_bytes()
    first.write_bytes(whole[0][:1000])
    damaged = bytearray(whole[1])
    damaged[len(damaged) // 2] ^= 1
    second.write_bytes(damaged)
    finished(started("scan(0)", environment))
    assert all(path.stat().st_size > 1000 for path in files(tmp_path))
    assert bytes(damaged) != second.read_bytes()
    second.chmod(0o666)
    finished(started("scan(0)", environment))
    assert not second.stat().st_mode & 0o022


@pytest.mark.slow
@pytest.mark.nightly
def test_neither_a_home_nor_a_writable_package_is_needed(tmp_path):
    copy = tmp_path / "package"
    shutil.copytree(PACKAGE.parents[1], copy / "mno", ignore=shutil.ignore_patterns("__pycache__"))
    # A file where the folder should be keeps even the system's administrator from writing there.
    (copy / "mno/scan/cpu/__pycache__").touch()
    nowhere = tmp_path / "file"
    nowhere.touch()
    code = "\nassert cpu.__file__.startswith(" + repr(str(copy)) + ")\nscan(0)"
    finished(started(code, {"XDG_CACHE_HOME": str(nowhere)}, copy))


@pytest.mark.slow
@pytest.mark.nightly
def test_changed_sources_find_no_old_code(tmp_path):
    copy = tmp_path / "package"
    shutil.copytree(PACKAGE.parents[1], copy / "mno", ignore=shutil.ignore_patterns("__pycache__"))
    source = copy / "mno/scan/cpu/rules.py"
    source.write_text(source.read_text().replace("return x * LOG2E", "return x * (2 * LOG2E)"))
    target = tmp_path / "results.pt"
    scan(0)
    finished(started(f"torch.save(scan(0), {str(target)!r})", {}, copy))
    assert not close(torch.load(target), scan(0))


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
    sizes = [len(block) for block in memory._kept.blocks]
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
