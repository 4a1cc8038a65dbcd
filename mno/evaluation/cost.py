"""What a surrogate costs, measured on the machine that evaluates it, beside its solver.

Of floating-point operations are counted matrix products, convolutions and attention (by torch's
counter), and Fourier transforms and the selective scan (by the formulas here). A multiplication and
an addition are two operations, an exponential is one; products of complex numbers count four times
those of real ones. Pointwise operations (activations, norms, sums) are by convention not counted.
"""

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.flop_counter import FlopCounterMode, bmm_flop, mm_flop, sdpa_flop_count

from mno.core.absent import Absent
from mno.core.errors import MnoError
from mno.core.readings import from_points
from mno.core.times import Seconds
from mno.data.reading import Schema
from mno.evaluation.config import EconomicsConfig
from mno.evaluation.equal_error import equal_error
from mno.evaluation.evaluator import AnySplit
from mno.evaluation.memory import peak_mib
from mno.evaluation.solver import solver_of
from mno.evaluation.timing import Times, best_throughput, one_thread, seconds_of, times_of
from mno.nn.mixers.mamba import MambaMixer
from mno.scenarios.base import Fields, split_samples
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

_MOST_PROBLEMS = 32
_MOMENT = 60.0  # seconds, below which nobody counts hours of a plant
_SHARE = 0.25  # of the time for comparisons that goes to the solver at the dataset's grid


def measure_cost(
    surrogate: Surrogate, test: AnySplit, economics: EconomicsConfig
) -> dict[str, Any]:
    """Measure what predictions cost, beside the solver of the dataset; warm, on this machine.

    Both use one thread: so they can be compared, and other work on the machine disturbs least.
    There are `parameters`; `flops` of one prediction; of one sample at a time `latency_ms` (median,
    with its `latency_interval_ms`) and `latency_p95_ms`; `throughput_per_s` with the best
    `batch_size`; `threads`; `plant_seconds`, the time that an answer covers; and of a model of
    fields and readings `readings_ms`, as `latency_ms`, but for readings alone. Of the solver:
    `solver`, with `ms` per solve (median, with `interval_ms`), `p95_ms`, the number of `problems`
    and how many times faster a prediction is (`speedup`); and `equal_error`, see there; or why
    there is none.
    """
    one, seconds = _first_given(surrogate.description, test), economics.comparison_seconds
    with one_thread():
        batch_size, throughput = best_throughput(surrogate, one)
        alone = times_of(lambda: surrogate.predict(one, 1))
        ms, of_readings = 1e3 * alone.median, {}
        if surrogate.description.cells:
            without_fields = times_of(lambda: surrogate.predict(one, 1, readings_alone=True))
            of_readings = {"readings_ms": 1e3 * without_fields.median}
        times = _solver_times(test, _SHARE * seconds)
        beside: dict[str, Any] = {"solver": times, "equal_error": times}
        if not isinstance(times, Absent):
            beside["solver"] = {
                "ms": 1e3 * times.median,
                "p95_ms": 1e3 * times.p95,
                "interval_ms": [1e3 * end for end in times.interval],
                "problems": len(times.seconds),
                "speedup": 1e3 * times.median / ms,
            }
            beside["equal_error"] = equal_error(surrogate, test.schema, ms, (1 - _SHARE) * seconds)
        return {
            "parameters": surrogate.num_parameters,
            "flops": flops_per_prediction(surrogate, one),
            "latency_ms": ms,
            "latency_p95_ms": 1e3 * alone.p95,
            "latency_interval_ms": [1e3 * end for end in alone.interval],
            "throughput_per_s": throughput,
            "batch_size": batch_size,
            "threads": torch.get_num_threads(),
            "plant_seconds": _plant_seconds(test.schema),
            **of_readings,
            **beside,
        }


def _plant_seconds(schema: Schema) -> float | None:
    """Return how long what one answer covers takes, s; None where it has no time, or a moment's."""
    spans = [a.points[-1] - a.points[0] for a in schema.axes if (a.name, a.units) == ("time", "s")]
    return float(spans[0]) if spans and spans[0] >= _MOMENT else None


def _solver_times(test: AnySplit, budget: float) -> Times | Absent:
    """Time the solver on test samples, each once; the one in hand after the budget is the last."""
    scenario = solver_of(test.schema)
    if isinstance(scenario, Absent):
        return scenario
    if budget <= 0:
        return Absent("cost.off")
    times: list[float] = []
    with threadpool_limits(limits=1):
        scenario.compile()
        for number, given in enumerate(_problems(test)):
            try:
                if not number:
                    scenario.solve(given)  # pays for what is set up once
                times.append(seconds_of(lambda g=given: scenario.solve(g)))
            except MnoError as error:
                return Absent("solver.fails_on_test", {"error": str(error)})
            if sum(times) >= budget:
                break
    return Times(np.array(times))


def _problems(test: AnySplit) -> Iterator[Fields]:
    """Return what the solver is given of the first samples of a split, shape `dims` by name."""
    fields = {f.name: test.fields[f.name][:_MOST_PROBLEMS] for f in test.schema.fields}
    return (given for given, _ in split_samples(test.schema.fields, fields))


def _first_given(description: Description, test: AnySplit) -> dict[str, np.ndarray]:
    return description.given({name: field[:1] for name, field in test.fields.items()})


def flops_per_prediction(surrogate: Surrogate, one: Mapping[str, np.ndarray]) -> int:
    """Count the operations of predicting one sample, `(1, *dims)`; of a rollout all its frames."""
    aten = torch.ops.aten
    formulas: dict[Any, Any] = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda *tensors, **_: sdpa_flop_count(
            *(tensor.shape for tensor in tensors[:3])  # query, key, value
        ),
        aten.mm: _products(mm_flop),
        aten.bmm: _products(bmm_flop),
        **dict.fromkeys((aten._fft_r2c, aten._fft_c2r, aten._fft_c2c), _transform),
    }
    for formula in formulas.values():
        formula._get_raw = True  # wants tensors, not their shapes
    description = surrogate.description
    forecast, one_step = description.forecast, description.rolls_out and not description.along_time
    steps = forecast.steps if forecast and one_step else 1
    scans = list[int]()

    def count(module: nn.Module, given: Any, _: Any) -> None:
        scans.append(_scan(module, given[0]) if isinstance(module, MambaMixer) else 0)

    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with register_module_forward_hook(count), counter:
        surrogate.predict(one, 1, steps=1 if one_step else None)
    return steps * (int(counter.get_total_flops()) + sum(scans))  # all steps are alike


_PER_STATE = {"simplified": 7, "trapezoidal": 7, "zoh": 9, "centred": 9}
"""Operations per state, channel and point, by the rules of `mno.scan.selective_scan`:

    simplified  a = exp(delta A): 2;  b = (delta u) B: 1;  h = a h + b: 2;  y += C h: 2
    trapezoidal the simplified one, of an input at both ends of its step
    zoh         the same, and (a - 1) / A in place of delta: 2 more
    centred     the same as simplified with m for h, and h = a (m + b): 2 more
"""


def _scan(mixer: MambaMixer, x: Tensor) -> int:
    """Count the scans of a mixer, but for the matrix that makes raw steps; with delta u and D u."""
    each = 1 + 2 + _PER_STATE[mixer.discretization] * mixer.d_state
    return x.shape[0] * x.shape[1] * mixer.directions * mixer.d_inner * each


def _products(real: Any) -> Any:
    def count(a: Tensor, b: Tensor, *_: Any, out_val: Any, **__: Any) -> int:
        return (4 if a.is_complex() else 1) * real(a, b, out_val=out_val)

    return count


def _transform(values: Tensor, dim: list[int], *_: Any, out_val: Tensor, **__: Any) -> int:
    """Return 5 n log2 n for each complex transform of n points, half of that for a real one."""
    whole = out_val if values.is_complex() else values  # the side that has all points
    length = math.prod(whole.shape[d] for d in dim)
    per_point = 5.0 if values.is_complex() and out_val.is_complex() else 2.5
    return round(per_point * whole.numel() * math.log2(max(length, 1)))


def memory_use(model: Path, description: Description, test: AnySplit) -> dict[str, Any]:
    """Measure memory in two processes at a time: `peak_memory_mib` and `solver_memory_mib`.

    One loads the model of a folder and predicts the first sample, one loads the solver and solves
    it. Where a figure is not known, the reason stands in its place.
    """
    asked: dict[str, tuple[list[str], Mapping[str, np.ndarray]]]
    asked = {"peak_memory_mib": (["predict", str(model)], _first_given(description, test))}
    schema, solver = test.schema, solver_of(test.schema)
    if not isinstance(solver, Absent):
        task = [schema.scenario, str(schema.resolution), json.dumps(dict(schema.parameters))]
        one = next(_problems(test))
        whole = from_points(schema.readings, one, schema.cells) if schema.readings else one
        asked["solver_memory_mib"] = ["solve", *task], whole
    with ThreadPoolExecutor() as pool:
        peaks = pool.map(lambda of: peak_mib(*of), asked.values())
        return {"solver_memory_mib": solver, **dict(zip(asked, peaks, strict=True))}


def spent(
    recorded: Mapping[str, Seconds | None], watts_per_core: float
) -> dict[str, dict[str, Any] | Absent]:
    """Return the computing that each stage took, or why it is not known: none was recorded.

    That is `seconds` by the clock, `cpu_seconds` of all cores together, and `watt_hours`, an
    estimate: the latter times the power of a busy core in W.
    """
    return {
        stage: Absent("cost.restored")
        if times is None
        else {
            "seconds": times.seconds,
            "cpu_seconds": times.cpu_seconds,
            "watt_hours": times.cpu_seconds * watts_per_core / 3600,
        }
        for stage, times in recorded.items()
    }
