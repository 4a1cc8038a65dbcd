"""All costs of a surrogate: what `reports/cost.json` holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mno.evaluation.cost.config import EconomicsConfig
from mno.evaluation.cost.equal_error import equal_error
from mno.evaluation.cost.flops import flops_per_prediction
from mno.evaluation.cost.memory import Process, predicting, solving
from mno.evaluation.cost.solver import given_of, solver_times
from mno.evaluation.cost.timing import best_throughput, latency, one_thread
from mno.evaluation.solving import solver_of

if TYPE_CHECKING:
    import numpy as np

    from mno.data.reading import Schema, Split, StoredSplit
    from mno.surrogate.description import Description
    from mno.surrogate.surrogate import Surrogate

_SHARE = 0.25  # of the time for comparisons that goes to the solver at the dataset's grid


def measure_cost(
    surrogate: Surrogate, test: Split | StoredSplit, economics: EconomicsConfig | None = None
) -> dict[str, Any]:
    """Measure what predictions cost, beside the solver of the dataset; warm, on this machine.

    Both use one thread: so they can be compared, and other work on the machine disturbs least.

    Args:
        surrogate: The trained operator.
        test: Samples to predict and to solve.
        economics: How much time to spend on the comparison; the defaults if not given.

    Returns:
        `parameters`; `flops` of one prediction; of one sample at a time `latency_ms` (median) and
        `latency_p95_ms`; `throughput_per_s` with the best `batch_size`; `threads`. Of the solver:
        `solver`, with `ms` per solve (median), `p95_ms`, the number of `problems` and how many
        times faster a prediction is (`speedup`); and `equal_error`, see there. Either may be one
        line that says why there is no such figure.
    """
    economics = economics or EconomicsConfig()
    one = _given(surrogate.description, test)
    with one_thread():
        batch_size, throughput = best_throughput(surrogate, one)
        alone = latency(surrogate, one)
        ms = 1e3 * alone.median
        return {
            "parameters": surrogate.num_parameters,
            "flops": flops_per_prediction(surrogate, one),
            "latency_ms": ms,
            "latency_p95_ms": 1e3 * alone.p95,
            "throughput_per_s": throughput,
            "batch_size": batch_size,
            "threads": torch.get_num_threads(),
            **_beside_solver(surrogate, test, ms, economics.comparison_seconds),
        }


def _beside_solver(
    surrogate: Surrogate, test: Split | StoredSplit, ms: float, seconds: float
) -> dict[str, dict[str, Any] | str]:
    scenario = solver_of(test.schema)
    if isinstance(scenario, str):
        return {"solver": scenario, "equal_error": scenario}
    if not seconds:
        why = "not measured: evaluate.economics.comparison_seconds is 0"
        return {"solver": why, "equal_error": why}
    times = solver_times(scenario, test, _SHARE * seconds)
    if isinstance(times, str):
        return {"solver": times, "equal_error": times}
    solver = {
        "ms": 1e3 * times.median,
        "p95_ms": 1e3 * times.p95,
        "problems": len(times.seconds),
        "speedup": 1e3 * times.median / ms,
    }
    left = (1 - _SHARE) * seconds
    return {"solver": solver, "equal_error": equal_error(surrogate, test.schema, ms, left)}


@dataclass(frozen=True)
class MemoryUse:
    """Measures memory in processes of their own, while other work goes on.

    Attributes:
        predicting: Loads the model and predicts one sample.
        solving: Loads the solver and solves one sample; or why there is none.
    """

    predicting: Process
    solving: Process | str

    @classmethod
    def start(cls, model: Path, description: Description, test: Split | StoredSplit) -> MemoryUse:
        """Start to measure.

        Args:
            model: Folder of the surrogate.
            description: Of the surrogate.
            test: Samples to predict and to solve, at least one.
        """
        return cls(predicting(model, _given(description, test)), _start_solving(test))

    def measured(self) -> dict[str, float | str]:
        """Wait, and return `peak_memory_mib` and `solver_memory_mib`, or why they are not known."""
        solver = self.solving if isinstance(self.solving, str) else self.solving.peak_mib()
        return {"peak_memory_mib": self.predicting.peak_mib(), "solver_memory_mib": solver}


def _start_solving(test: Split | StoredSplit) -> Process | str:
    schema: Schema = test.schema
    scenario = solver_of(schema)
    if isinstance(scenario, str) or schema.resolution is None:
        return str(scenario)
    return solving(schema.scenario, schema.resolution, schema.parameters, next(given_of(test)))


def _given(description: Description, test: Split | StoredSplit) -> dict[str, np.ndarray]:
    """Return what the surrogate is given of the first sample of a split."""
    return description.given({name: field[:1] for name, field in test.fields.items()})
