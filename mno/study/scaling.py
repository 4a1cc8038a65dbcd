"""Time and memory of an operator on larger and larger grids, where attention crosses the scan.

The operators have fresh weights, since neither depends on what was learned. Each is measured in a
process of its own, on one thread, one sample at a time: `python -m mno.study.scaling` reads what to
measure as JSON and answers so.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mno.core.errors import MnoError, first_line

_SLOWEST = 20.0
"""Seconds of one call beyond which no larger grid is tried."""
_TIMEOUT = 1800.0


def measure_scaling(
    params: Mapping[str, Any], resolutions: list[int], seconds: float, root: Path
) -> list[dict[str, Any]]:
    """Measure an operator at several resolutions.

    Args:
        params: The content of `params.yaml`: scenario, task and model.
        resolutions: Points along each axis of space.
        seconds: To spend on each measurement.
        root: The workspace, where imported data are.

    Returns:
        For each resolution `points`, `predict_ms`, `step_ms` (forward and backward), and
        `predict_mib` and `step_mib`, memory beyond that of the idle process; null where the system
        does not say. Resolutions beyond the first that takes too long are left out.

    Raises:
        MnoError: The process failed.
    """
    asked = {"params": params, "resolutions": resolutions, "seconds": seconds, "root": str(root)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mno.study.scaling"],
            input=json.dumps(asked), capture_output=True, text=True, cwd=root, timeout=_TIMEOUT,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MnoError(f"measuring took longer than {_TIMEOUT:g} s; ask for fewer points") from None
    if done.returncode:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        raise MnoError(f"the measuring process failed: {last or f'status {done.returncode}'}")
    return json.loads(done.stdout)


def _measured(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    import torch

    from mno.core.batch import Batch
    from mno.core.config import validate
    from mno.core.grid import Grid
    from mno.evaluation.cost.timing import times_of
    from mno.nn.build import build_operator
    from mno.nn.config import ModelConfig
    from mno.study.matching import signature_of

    torch.set_num_threads(1)
    torch.manual_seed(0)
    params = asked["params"]
    signature = signature_of(params, Path(asked["root"]))
    operator = build_operator(validate(ModelConfig, params["model"], "model"), **signature)
    dims, spacing = signature["dims"], 1 / params["generate"]["resolution"]
    found = []
    for n in asked["resolutions"]:
        shape = (n,) * dims
        grid = Grid(shape, (1 / n,) * dims, (spacing,) * dims)
        fields = {
            name: torch.randn((1, *([frames] if frames else []), *shape))
            for name, frames in signature["inputs"].items()
        }
        batch = Batch(fields, grid, {name: torch.ones(1) for name in signature["scalars"]})

        def predict(batch: Batch = batch) -> None:
            with torch.no_grad():
                operator(batch)

        def step(batch: Batch = batch) -> None:
            operator.zero_grad(set_to_none=True)
            losses = [values.square().mean() for values in operator(batch).fields.values()]
            torch.stack(losses).sum().backward()

        step()  # compiles, and allocates, what the first call alone does
        figures: dict[str, Any] = {"resolution": n, "points": n**dims}
        for name, call in (("predict", predict), ("step", step)):
            figures[f"{name}_mib"] = _added_mib(call)
            figures[f"{name}_ms"] = 1e3 * times_of(call, asked["seconds"]).median
        found.append(figures)
        if figures["step_ms"] > 1e3 * _SLOWEST:
            break
    return found


def _added_mib(call: Callable[[], None]) -> float | None:
    """Return how much memory a call takes at its peak, in MiB; none where nobody can tell."""
    with suppress(OSError, AttributeError):  # else earlier calls' freed memory would hide this one
        ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        call()
        peak = _status("VmHWM")
        if before is not None and peak is not None:
            return max(0.0, (peak - before) / 2**10)
    return None


def _status(key: str) -> int | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
    return None


if __name__ == "__main__":
    try:
        print(json.dumps(_measured(json.load(sys.stdin))))
    except Exception as error:  # whatever it is, the one who waits is told in one line
        sys.exit(first_line(error) or type(error).__name__)
