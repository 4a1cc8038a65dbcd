"""Operators of cells before any data are there: widths of equal size, and cost on larger grids.

Time and memory do not depend on what was learned. Each operator is measured with fresh weights in a
process of its own, on one thread, one sample at a time.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from mno.core.batch import Batch
from mno.core.config import section
from mno.core.errors import InputError, MnoError, first_line
from mno.core.fields import Field
from mno.core.forecast import TaskConfig, forecast_of
from mno.core.grid import Grid
from mno.core.observing import observing_of
from mno.core.workers import Worker
from mno.data.config import GenerateConfig
from mno.data.imported import source_class, source_parameters
from mno.evaluation.memory import own_peak_mib
from mno.evaluation.timing import times_of
from mno.nn.build import build_operator, match_parameters_to
from mno.nn.config import ModelConfig, for_dataset
from mno.nn.lean import lean
from mno.nn.operator import count_parameters
from mno.scenarios.base import SampleSource
from mno.scenarios.part import part_of
from mno.study.design import Cell, MatchConfig
from mno.training.config import TrainConfig
from mno.training.optimizer import optimizers_of

Signature = Mapping[str, Any]


def signature_of(params: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return what `build_operator` is told of the problem of a `params.yaml`, or refuse it."""
    source, task = _source(params, root), section(params, "task", TaskConfig)
    fields = source.fields
    if task.observes:
        said = source.provenance.get("observe")
        fields = observing_of(fields, task.sensors, task.hidden, said).fields
    given = [field for field in fields if field.role in ("input", "state")]
    forecast = forecast_of(task, fields, source.axes)
    along_time = forecast is not None and forecast.along_time
    unseen = forecast is not None and along_time and not forecast.rolls_out

    def frames_seen(field: Field) -> int | None:
        if forecast is None or not (field.role == "state" or field.is_forcing):
            return None
        if along_time:
            return 1
        whole = field.is_forcing and forecast.scheme == "horizon"
        return forecast.history + (forecast.steps - 1 if whole else 0)

    predicted = 1 if along_time else forecast.frames_at_once if forecast else None
    told = [field for field in fields if field.role in ("output", "state")]
    points = [field for field in fields if field.role == "coordinate"]
    return {
        "inputs": {f.name: frames_seen(f) for f in given if not f.is_scalar},
        "outputs": {f.name: predicted if "time" in f.dims else None for f in told},
        "scalars": tuple(f.name for f in given if f.is_scalar),
        "dims": len(points) or sum(axis.name != "time" for axis in source.axes),
        "gaps": tuple(f.name for f in given if f.gaps and f.dims or unseen and f.role == "state"),
        "along_time": along_time,
        "now": task.observes,
    }


def model_of(params: Mapping[str, Any], root: Path) -> ModelConfig:
    """Return the model of a `params.yaml`, with all that is left to its problem, or refuse it."""
    model, task = section(params, "model", ModelConfig), section(params, "task", TaskConfig)
    return for_dataset(model, _source(params, root), task)


def _source(params: Mapping[str, Any], root: Path) -> SampleSource:
    name = params["scenario"]
    own = source_parameters(name, params["scenarios"].get(name))
    source = source_class(name).open(own, section(params, "generate", GenerateConfig), root)
    return part_of(source, section(params, "task", TaskConfig).part)


def count(model: ModelConfig, signature: Signature) -> int:
    """Return the number of parameters of a model; nothing is allocated."""
    with torch.device("meta"):
        return count_parameters(build_operator(model, **signature))


def matched(
    cells: list[Cell],
    match: MatchConfig | None,
    root: Path,
    known: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> list[Cell]:
    """Return cells with the width that brings each model to its size, if any, or refuse one.

    Widths that are `known`, by scenario and model, are taken as they are.
    """
    widths = dict(known)
    found = []
    for cell in cells:
        key, model = (cell.scenario, cell.model.name), cell.params["model"]
        if key not in widths:  # a model may have a task of its own
            widths[key] = _width(cell, match, signature_of(cell.params, root), root)
        params = {**cell.params, "model": {**model, "width": widths[key]}}
        found.append(replace(cell, params=params))
    return found


def _width(cell: Cell, match: MatchConfig | None, signature: Signature, root: Path) -> int:
    where = f"{cell.scenario}, {cell.model.name}"
    try:
        config = model_of(cell.params, root)
        if match is not None:
            config = match_parameters_to(config, match.target, **signature)
        found = count(config, signature)
    except (InputError, ValueError, ImportError) as error:
        raise InputError(f"{where}: {str(error).removeprefix('params.yaml: ')}") from None
    if match is None:
        return config.width
    if abs(found - match.target) > match.tolerance * match.target:
        raise InputError(
            f"{where}: the closest to parameters.target={match.target} is width={config.width} "
            f"with {found}, further than parameters.tolerance={match.tolerance:g}; choose another "
            "target, fewer heads, or a larger tolerance"
        )
    return config.width


def times_in_turn(cells: list[Cell], root: Path, predict: bool = False) -> list[float]:
    """Time steps of training, or predictions, of operators in turns, on one thread: medians, s."""
    return _in_a_process(_timed, [dict(cell.params) for cell in cells], root, predict)


def _timed(cells: list[Mapping[str, Any]], root: Path, predict: bool) -> list[float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    calls: list[Callable[[], object]] = []
    for params in cells:
        signature, n = signature_of(params, root), params["generate"]["resolution"]
        operator = build_operator(model_of(params, root), **signature)
        shape = tuple(len(a.points) for a in _source(params, root).axes if a.name != "time")
        if len(shape) != signature["dims"]:  # unordered points
            shape = (n,) * signature["dims"]
        samples = 1 if predict else params["train"]["batch_size"]
        batch = _batch(signature, shape, n, samples, _frames(params))
        if predict:
            calls.append(partial(torch.inference_mode()(lean(operator).forward), batch))
            continue
        config = TrainConfig.model_validate(params["train"])
        steps = 1 if signature["along_time"] else config.unroll
        calls.append(_step(operator, batch, optimizers_of(operator, config), steps))
    seconds = 0.1 if predict else 0.0  # of each in a turn, the latter a single step
    times = [[times_of(call, seconds).median for call in calls] for _ in range(1 + _TURNS)]
    return [float(np.median(of_one)) for of_one in zip(*times[1:], strict=True)]


_TURNS = 5
_SLOWEST = 20.0  # seconds of one call beyond which no larger grid is tried
_TIMEOUT = 1800.0


def measure_scaling(
    params: Mapping[str, Any], resolutions: list[int], seconds: float, root: Path
) -> list[dict[str, Any]]:
    """Measure an operator at several resolutions, so many seconds for each measurement.

    For each resolution there are `points`, `predict_ms`, `step_ms` (forward and backward), and
    `step_mib`, memory beyond that of the idle process, null where the system does not say.
    Resolutions beyond the first that takes too long are left out. Failures are MnoErrors.
    """
    return _in_a_process(_measured, params, resolutions, seconds, root)


def _in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    worker = Worker()
    try:
        return worker.submit(function, *arguments).result(_TIMEOUT)
    except Exception as error:  # whatever it is, the one who waits is told in one line
        said = first_line(error) or type(error).__name__
        raise MnoError(f"the measuring process failed: {said}") from None
    finally:
        worker.end()


def _measured(
    params: Mapping[str, Any], resolutions: list[int], seconds: float, root: Path
) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    signature = signature_of(params, root)
    operator = build_operator(model_of(params, root), **signature)
    found = []
    for n in resolutions:
        grid, trained = (n,) * signature["dims"], params["generate"]["resolution"]
        batch = _batch(signature, grid, trained, 1, _frames(params))
        step, predict = _step(operator, batch), partial(torch.no_grad()(operator.forward), batch)
        step()  # compiles, and allocates, what the first call alone does
        figures: dict[str, Any] = {"resolution": n, "points": n ** signature["dims"]}
        figures["predict_ms"] = 1e3 * times_of(predict, seconds).median
        figures["step_mib"] = _added_mib(step)
        figures["step_ms"] = 1e3 * times_of(step, seconds).median
        found.append(figures)
        if figures["step_ms"] > 1e3 * _SLOWEST:
            break
    return found


def _frames(params: Mapping[str, Any]) -> int:
    """Return how many frames a model along time is given in a step of training."""
    task = section(params, "task", TaskConfig)
    return task.history + section(params, "train", TrainConfig).unroll - 1


def _batch(
    signature: Signature, shape: tuple[int, ...], trained: int, samples: int, along: int
) -> Batch:
    """Return random samples on a grid, of a model for another number of points along its axes."""
    many = signature["along_time"]
    fields = {
        name: torch.randn((samples, *([along if many else frames] if frames else []), *shape))
        for name, frames in signature["inputs"].items()
    }
    grid = Grid(shape, tuple(1 / n for n in shape), (1 / trained,) * len(shape))
    return Batch(fields, grid, {name: torch.ones(samples) for name in signature["scalars"]})


def _step(
    operator: nn.Module, batch: Batch, optimizers: Sequence[Optimizer] = (), calls: int = 1
) -> Callable[[], None]:
    """Return a step, forward by so many calls and backward, and that of the optimisers, if any."""

    def step() -> None:
        operator.zero_grad(set_to_none=True)
        answers = [operator(batch).fields.values() for _ in range(calls)]
        losses = [values.square().mean() for answer in answers for values in answer]
        torch.stack(losses).sum().backward()
        for optimizer in optimizers:
            optimizer.step()

    return step


def _added_mib(call: Callable[[], None]) -> float | None:
    with suppress(OSError, AttributeError):  # else earlier calls' freed memory would hide this one
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        before = own_peak_mib()
        call()
        return own_peak_mib() - before
    return None
