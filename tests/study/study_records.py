"""Cells of a small study, kept as a run of it would keep them, without training anything."""

import copy
from pathlib import Path
from typing import Any

from mno.study.answers import StudyAnswers
from mno.study.design import StudySpec, cells_of
from mno.study.findings import findings_of, usable
from mno.study.results import Code, Results, identify

ROOT = Path(__file__).parents[2]
SPEC: dict[str, Any] = {
    "title": "Small",
    "seeds": [0, 1, 2],
    "base": {"generate": {"samples": 80, "resolution": 16}},
    "scenarios": {"darcy": {}, "burgers": {}},
    "backbones": {"plain": {"heads": 2}},
    "mixers": {"axial": {}, "softmax": {"mixer": "softmax"}},
}


def spec(**changes):
    return StudySpec.model_validate({**copy.deepcopy(SPEC), **changes})


def cells(**changes):
    return cells_of("small", spec(**changes))


def record(error, **changes):
    spent = {"seconds": 9.0, "cpu_seconds": 8.0, "watt_hours": 0.1}
    return {
        "study": "small",
        "state": "done",
        "parameters": 1000,
        "metrics": {"relative_l2": error, "baseline_relative_l2": 0.5},
        "training": {"validation": [0.4, 0.3, 0.21, 0.2]},
        "resolution": {"level": [16, 32], "trained": 16,
                       "relative_l2": {"model": {"mean": [error, 2 * error]}}},
        "learning_curve": [],
        "cost": {"latency_ms": 2.0, "peak_memory_mib": 300.0, "solver_memory_mib": 100.0,
                 "solver": {"ms": 4.0}},
        "seconds": {"all": 30.0, "generate": spent, "train": spent, "evaluate": spent},
        "machine": {"cpu": "a processor", "cores": 2, "workers": 1},
        **changes,
    }  # fmt: skip


def keep(results, cell, code, content, md5="m"):
    results.keep_dataset(cell, code.dataset_digest(cell), md5)
    identity = vars(identify(cell, code, results.datasets()))
    results.write(cell.name, {"identity": identity, **content})


def found_with(folder, finished):
    """All cells of the study in a folder of results; those are kept that have a record."""
    results, code = Results(folder, "small"), Code(ROOT)
    for cell in cells():
        if (content := finished(cell)) is not None:
            keep(results, cell, code, content)
    return results.find(cells(), code)


def answers_with(folder, finished):
    used = usable(found_with(folder, finished))
    return StudyAnswers(spec(), used, findings_of(spec(), used))
