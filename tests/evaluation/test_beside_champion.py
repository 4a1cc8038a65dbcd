"""Two models measured side by side: what is the same is found the same, what takes more, more."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from small_lines import solved_split

from mno.core.errors import MnoError
from mno.data.normalise import Normaliser
from mno.evaluation.paired import measure_beside
from mno.evaluation.solver import physical_consistency
from mno.nn.config import ModelConfig
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

SIDE = 16
CONFIG = {"small": ModelConfig(width=8, layers=1, d_state=2), "large": ModelConfig(width=64)}


def saved(folder: Path, size: str, field: str = "permeability") -> Path:
    torch.manual_seed(0)
    description = Description(
        scenario="darcy",
        inputs={field: "1"},
        outputs={"pressure": "1"},
        extent=(1.0, 1.0),
        reference_spacing=(1 / SIDE, 1 / SIDE),
        normaliser=Normaliser({field: 0.5, "pressure": 0.0}, {field: 0.3, "pressure": 1.0}),
        model=CONFIG[size],
    )
    folder.mkdir()
    Surrogate(description, description.build()).save(folder)
    return folder


def test_the_larger_model_takes_longer_and_more_memory_and_the_same_is_the_same(
    tmp_path: Path,
) -> None:
    test = solved_split("test", "darcy", 4, 0, SIDE)
    small, large = (saved(tmp_path / size, size) for size in CONFIG)
    beside = partial(measure_beside, test=test, samples=4, batch_size=4, seconds=0.3)
    physics = physical_consistency(Surrogate.load(large), test, 4, 4)
    found = beside(large, small, physics=physics)
    for figure in ("latency_ms", "peak_memory_mib"):
        sides = found[figure]
        assert isinstance(sides, dict)
        assert 0 < sides["champion"] < sides["own"]
    checks = {name for name in found if name.startswith("physics.")}
    assert checks == {f"physics.{name}" for name in physics["checks"]}  # pyright: ignore
    same = physical_consistency(Surrogate.load(small), test, 4, 4)
    for name in checks:
        check = name.removeprefix("physics.")
        assert found[name] == {
            "own": physics["checks"][check]["prediction"]["p95"],  # pyright: ignore
            "champion": same["checks"][check]["prediction"]["p95"],  # pyright: ignore
        }
    with pytest.raises(MnoError, match="readable model"):
        beside(large, tmp_path / "nowhere", physics=physics)
