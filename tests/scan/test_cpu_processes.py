"""The compiled kernels in threads, forked processes, on lesser processors, and their cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mno.scan import cpu

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

PACKAGE = Path(cpu.__file__).parent
SCAN = """
import torch
from mno.scan import cpu
from mno.scan.cpu import ScanInputs, launch

def scan(seed):
    generator = torch.Generator().manual_seed(seed)
    def normal(*shape):
        return torch.randn(*shape, generator=generator)
    u, delta = normal(2, 128, 2, 100), normal(2, 128, 2, 100)
    inputs = (u, delta, -normal(2, 5, 100).abs(), normal(2, 128, 2, 5), normal(2, 128, 2, 5))
    inputs += (normal(2, 100), normal(2, 100), None, None, None)
    layout = [128, 128, 1, 0, 16, 16, 8, 1]
    scan = ScanInputs(*inputs, layout, True)
    y, states = launch.forward(scan, save=True)
    return y, *launch.backward(scan, states, y)[:7]
"""
_scope: dict = {}
exec(SCAN, _scope)


def scan(seed: int) -> tuple[Tensor, ...]:
    """Return the output and the gradients of a random scan."""
    return _scope["scan"](seed)


def started(
    code: str, environment: dict[str, str], python_path: Path | None = None
) -> subprocess.Popen[str]:
    """Start a Python process that has `scan`."""
    paths = str(python_path or PACKAGE.parents[2])
    changed = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCAN + code],
        cwd=paths,
        env=os.environ | changed | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """Return what a process printed, once it has ended well."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def close(ours: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> bool:
    """Tell whether results differ by rounding only."""
    return all(
        (a - b).abs().max() <= 3e-6 * b.abs().max() for a, b in zip(ours, wanted, strict=True)
    )


def files(cache: Path) -> list[Path]:
    """Return the compiled kernels in a cache folder."""
    return sorted(cache.glob("mno/scan-*/*.bin"))


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_several_threads_scan_at_the_same_time() -> None:
    wanted = [scan(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(scan, [seed % 4 for seed in range(32)]))
    for seed, results in enumerate(found):
        for ours, expected in zip(results, wanted[seed % 4], strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_forked_after_a_scan_can_scan() -> None:
    code = """
import os
torch.set_num_threads(2)
wanted = scan(0)
child = os.fork()
if child == 0:
    # torch's own threads do not survive a fork; ours are started anew.
    same = all(torch.equal(a, b) for a, b in zip(scan(0), wanted))
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
def test_processors_without_wide_vectors(name: str, features: str, tmp_path: Path) -> None:
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
@pytest.mark.nightly
def test_processes_that_start_together_compile_once(tmp_path: Path) -> None:
    code = """
scan(0)
from mno.scan.cpu.launch import _kernels
print(sum(len(kernel.run.stats.cache_misses) for kernel in _kernels.values()))
"""
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    processes = [started(code, environment) for _ in range(2)]
    compiled = [int(finished(process)) for process in processes]
    assert sum(compiled) == 2, "each of two kernels is compiled by one process, loaded by the other"
    assert len(files(tmp_path)) == 2
    assert int(finished(started(code, environment))) == 0


@pytest.mark.slow
def test_kernels_that_different_processes_have_compiled_are_not_mixed_up(tmp_path: Path) -> None:
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
def test_damaged_and_foreign_files_are_replaced(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    finished(started("scan(0)", environment))
    first, second = files(tmp_path)
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
def test_neither_a_home_nor_a_writable_package_is_needed(tmp_path: Path) -> None:
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
def test_changed_sources_find_no_old_code(tmp_path: Path) -> None:
    copy = tmp_path / "package"
    shutil.copytree(PACKAGE.parents[1], copy / "mno", ignore=shutil.ignore_patterns("__pycache__"))
    source = copy / "mno/scan/cpu/rules.py"
    source.write_text(source.read_text().replace("return x * LOG2E", "return x * (2 * LOG2E)"))
    target = tmp_path / "results.pt"
    scan(0)
    finished(started(f"torch.save(scan(0), {str(target)!r})", {}, copy))
    assert not close(torch.load(target), scan(0))
