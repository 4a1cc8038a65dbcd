"""Whether `mno doctor` finds registered versions that no longer predict as recorded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from registry_shop import Shop

from mno.registry.catalogue import read_catalogue
from mno.registry.settings import use_workspace
from mno.registry.trial import CHECK_FILE, Health, try_health


def register(shop: Shop, off: float = 0.0) -> None:
    """Register a version, and record predictions that are off by so much of the largest."""
    evaluated = shop.train(seed=3)
    shop.register(evaluated)
    if off:
        changed = {
            name: array + np.float32(off * np.abs(array).max())
            for name, array in evaluated.predictions.items()
        }
        shop.reported(replace(evaluated, predictions=changed))
        client = use_workspace(shop.root).client
        (run_id,) = (v.run_id for v in client.search_model_versions("name = 'mno-darcy'"))
        client.log_artifact(run_id, str(shop.root / "reports" / CHECK_FILE), "evaluation")


def tried(shop: Shop, predict: bool = True) -> Health:
    version, *_ = read_catalogue(shop.root).versions
    return try_health(use_workspace(shop.root), version, predict)


def file(shop: Shop, name: str) -> Path:
    found, *_ = (shop.root / "mlartifacts").rglob(name)
    return found


def test_a_version_that_predicts_as_recorded_is_good(shop: Shop) -> None:
    register(shop)
    assert tried(shop) == Health("good", "predicts 3 samples as recorded")


def test_a_version_that_predicts_something_else_is_a_problem(shop: Shop) -> None:
    register(shop, off=1e-3)
    found = tried(shop)
    assert found.verdict == "problem"
    assert "does not predict as recorded: pressure differs by" in found.detail


@pytest.mark.parametrize("predict", [True, False])
def test_deleted_and_damaged_files_are_named(shop: Shop, predict: bool) -> None:
    register(shop)
    weights = file(shop, "weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    found = tried(shop, predict)
    assert (found.verdict, "missing or altered" in found.detail) == ("problem", True)
    shutil.rmtree(weights.parents[2])
    found = tried(shop, predict)
    assert found.verdict == "problem"
    assert "version 1 of mno-darcy" in found.detail and "mno audit" in found.detail


def test_files_are_looked_at_without_what_predicts(shop: Shop) -> None:
    register(shop)
    code = (
        "import sys; from pathlib import Path; from flows.status import _models\n"
        "print(_models(Path(sys.argv[1]), False, True)[0].detail)\n"
        "print({'torch', 'numba', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, shop.root], capture_output=True, text=True, check=True
    )
    assert done.stdout == "its files are as they were registered\nset()\n"


@pytest.mark.parametrize(("content", "verdict"), [(b"no arrays", "problem"), (None, "note")])
def test_what_was_recorded_may_be_lost_or_damaged(shop: Shop, content, verdict) -> None:
    register(shop)
    check = file(shop, CHECK_FILE)
    check.unlink()
    if content is not None:
        check.write_bytes(content)
    found = tried(shop)
    assert found.verdict == verdict
    assert "recorded" in found.detail
