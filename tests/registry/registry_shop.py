"""A committed workspace with an MLflow of its own, and models small enough to train in no time."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mno.data.normalise import Normaliser
from mno.lineage.record import candidate_digest, start_record
from mno.lineage.snapshot import take_snapshot
from mno.nn.config import ModelConfig
from mno.registry.decision import pooled
from mno.registry.registration import Evaluated, Request, Told, conclude, register
from mno.registry.tracking import TrainingRun
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

WORTH_IT = {"verdict": "worth_it", "at_ends": ["worth_it", "worth_it"], "kpis": []}
DATA_DVC = "deps: [{path: build/dataset}]\nouts: [{path: data, md5: %s.dir}]\n"


def open_shop(root, database):
    """Make a committed workspace with a copy of an empty database of MLflow."""
    shop = Shop(root)
    (root / "mno").mkdir(parents=True)
    shutil.copy(database, root / "mlflow.db")
    (root / "mno/code.py").write_text("A = 1\n")
    (root / "params.yaml").write_text("scenario: darcy\nseed: 1\n")
    (root / ".gitignore").write_text("/mlflow.db*\n/mlartifacts/\n/models/\n/reports/\n")
    shop.use_data("a")
    shop.git("init", "-q")
    shop.git("add", "-A")
    shop.git("commit", "-q", "-m", "work")
    return shop


def tiny_surrogate(seed):
    torch.manual_seed(seed)
    description = Description(
        scenario="darcy",
        inputs={"permeability": "m2"},
        outputs={"pressure": "Pa"},
        extent=(1.0, 1.0),
        reference_spacing=(1 / 8, 1 / 8),
        normaliser=Normaliser(
            {"permeability": 0.5, "pressure": 1.0}, {"permeability": 0.3, "pressure": 2.0}
        ),
        model=ModelConfig(width=8, layers=1, d_state=2, expand=1),
    )
    return Surrogate(description, description.build())


@dataclass
class Shop:
    root: Path

    @property
    def candidate(self):
        return self.root / "models/candidate"

    @property
    def request(self):
        return Request(self.root, self.root, {"scenario": "darcy", "seed": 1})

    def git(self, *args):
        identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        subprocess.run(["git", "-C", str(self.root), *identity, *args], check=True)

    def use_data(self, md5):
        (self.root / "data.dvc").write_text(DATA_DVC % (md5 * 32))

    def train(self, seed, tracked=True):
        """Leave a candidate as the stage train does; return what evaluating it would say.

        Not tracked, it is as if the candidate came from DVC's cache and MLflow knew nothing.
        """
        shutil.rmtree(self.candidate, ignore_errors=True)
        self.candidate.mkdir(parents=True)
        surrogate = tiny_surrogate(seed)
        surrogate.save(self.candidate)
        if tracked:
            self._track(seed)
        inputs = {"permeability": np.random.default_rng(seed).random((3, 8, 8), dtype=np.float32)}
        report = self.root / "reports/metrics.json"
        report.parent.mkdir(exist_ok=True)
        report.write_text("{}")
        return Evaluated(
            relative_l2=0.1,
            metrics={"relative_l2": 0.1},
            inputs=inputs,
            predictions=surrogate.predict(inputs),
            reports=(report,),
        )

    def _track(self, seed):
        snapshot = take_snapshot(self.root)
        record = start_record(self.root, snapshot, self.request.params, threads=1, device="cpu")
        with TrainingRun.open(self.root, "darcy", f"key-{seed}", {"seed": seed}) as run:
            run.finish(candidate_digest(self.candidate), record)

    def register(self, evaluated, score=None, judged=WORTH_IT, **changes):
        """Register as the stages do: the version first, then what is decided by the verdict."""

        def measure(model):
            if score is None:
                raise RuntimeError("the champion was measured again without need")
            return pooled((score(model),) * 2)

        request = replace(self.request, **changes)
        registered = register(request, self.candidate, self.reported(evaluated))
        if registered["version"] is None:
            return registered
        errors = (evaluated.relative_l2,) * 2
        return conclude(request, registered, Told(errors=errors, decision=judged), measure)

    def reported(self, evaluated):
        """Leave reports as the stage evaluate does: errors by sample, and a few predictions."""
        errors, check = (self.root / "reports" / n for n in ("per_sample.json", "check.npz"))
        errors.write_text(json.dumps({"relative_l2": [evaluated.relative_l2] * 2}))
        arrays = {f"input/{name}": array for name, array in evaluated.inputs.items()}
        arrays |= {f"prediction/{name}": x for name, x in evaluated.predictions.items()}
        np.savez(check, allow_pickle=False, **arrays)
        figures = {**evaluated.metrics, "relative_l2": evaluated.relative_l2}
        metrics = self.root / "reports/metrics.json"
        metrics.write_text(json.dumps(figures))
        return replace(evaluated, metrics=figures, reports=(metrics, errors, check))
