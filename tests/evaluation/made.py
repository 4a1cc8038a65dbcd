"""Costs of a surrogate that is fast and good, what is decided by them, and figures of a report."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mno.evaluation.config import EconomicsConfig, KpiConfig
from mno.evaluation.decision import decide
from mno.report.document import sections_of, write_report
from mno.report.page import Results

COST: dict[str, Any] = {
    "parameters": 1234567,
    "flops": 7_000_000,
    "latency_ms": 10.0,
    "latency_p95_ms": 12.0,
    "throughput_per_s": 512.0,
    "batch_size": 32,
    "threads": 1,
    "peak_memory_mib": 300.0,
    "solver_memory_mib": 170.0,
    "solver": {"ms": 1010.0, "p95_ms": 1100.0, "problems": 9, "speedup": 101.0},
    "equal_error": {
        "problems": 4,
        "reference": 48,
        "curve": [
            {"resolution": 12, "error": 0.05, "ms": 100.0},
            {"resolution": 24, "error": 0.01, "ms": 1000.0},
        ],
        "model": {"error": 0.02, "ms": 10.0},
        "solver": {"ms": 300.0, "how": "interpolated", "speedup": 30.0},
    },
    "spent": {
        stage: {"seconds": 600.0, "cpu_seconds": 1000.0, "watt_hours": 3.3}
        for stage in ("generate", "train", "evaluate")
    },
}
SAMPLES = {"train": 800, "all": 1000}
ASKED = KpiConfig(relative_l2=0.03)
USED = EconomicsConfig(queries_per_day=3000.0)


def decision_of(metrics, kpis=ASKED, economics=USED, cost=COST, curve=None, trust=None):
    return decide(
        kpis, economics, metrics=metrics, cost=cost, samples=SAMPLES, curve=curve, trust=trust
    )


def figures_of(results):
    return tuple(figure for section in sections_of(results, "en") for figure in section.figures)


def render_report(results, language="en"):
    with TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write_report(page, results, language)
        return page.read_text(encoding="utf-8")


def results_of(evaluation, schema, history, **known):
    return Results(
        scenario=schema.scenario,
        schema=schema,
        evaluation=evaluation,
        metrics=evaluation.metrics(),
        training=history,
        **known,
    )
