"""A few runs of a batch furnace, a model that has learned nothing of them, and its trust."""

from functools import cache

import numpy as np
import torch

from mno.core.files import write_json
from mno.core.forecast import TaskConfig
from mno.core.readings import from_points
from mno.data.parts import seen
from mno.data.reading import Schema, Split
from mno.evaluation.trust import calibrate
from mno.lineage.record import candidate_digest
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.serving.plant import columns_of
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust import TrustConfig
from mno.training.problem import describe

QUICK = {"rays": 16, "steps_per_frame": 1, "cells_per_point": 8.0}
RESOLUTION = 8
SENSORS = {
    "thermocouple_temperature": {"noise": 2.0, "missing": 0.1},
    "zone_temperature": {"noise": 1.0},
}


@cache
def furnace():
    return make_scenario("batch_furnace", RESOLUTION, QUICK)


@cache
def runs(name, seed, count=4, part="readings", observed=False, hidden=()):
    """Return the readings of some runs, or another part, as a split of a dataset."""
    scenario = furnace()
    drawn = [scenario.sample(np.random.default_rng([seed, n])) for n in range(count)]
    solved = [{**given, **scenario.solve(given)} for given in drawn]
    fields = {f.name: np.stack([run[f.name] for run in solved]) for f in scenario.fields}
    parameters = scenario.parameters.model_dump()
    schema = Schema(
        "batch_furnace", scenario.fields, scenario.axes, (), parameters, resolution=RESOLUTION,
        plant=scenario.provenance["plant"],
    )  # fmt: skip
    split = Split(name, schema, fields, np.arange(count))
    return seen(split, part, sensors=SENSORS if observed else None, hidden=hidden)


@cache
def trusted(part="readings"):
    train, validation = runs("train", 0, part=part), runs("validation", 1, part=part)
    model = ModelConfig(backbone="plain", mixer=["softmax"], width=8, layers=1, heads=2)
    description = describe(train, model, TaskConfig(part=part, scheme="horizon"))
    surrogate = Surrogate(description, description.build())
    return surrogate, calibrate(surrogate, train, validation, TrustConfig(level=0.6), "0" * 64, 4)


@cache
def observer():
    """Return an observer that has learned nothing, and its trust; see `saved_observer`."""
    train, validation = runs("train", 0, observed=True), runs("validation", 1, observed=True)
    model = ModelConfig(backbone="plain", mixer=["softmax"], width=8, layers=1, heads=2)
    task = TaskConfig(kind="observe", part="readings", sensors=SENSORS)
    torch.manual_seed(0)
    description = describe(train, model, task)
    surrogate = Surrogate(description, description.build())
    config = TrustConfig(level=0.6, false_alarm_rate=0.2)
    return surrogate, calibrate(surrogate, train, validation, config, "0" * 64, 4)


def saved_observer(root):
    """Write the observer and its trust as a workspace has them, and return the model's folder."""
    surrogate, trust = observer()
    folder = root / "models/candidate"
    folder.mkdir(parents=True)
    surrogate.save(folder)
    trust = trust.model_copy(update={"model_sha256": candidate_digest(folder)})
    write_json(root / "reports/trust.json", trust.to_json())
    return folder


def log_of(run=0):
    """Return what an observer of a validation run is given: the run's file, and its log by rows."""
    surrogate, _ = observer()
    fields, description = runs("validation", 1, observed=True).fields, surrogate.description
    told = {
        name: from_points(description.readings, {name: a})[name]
        for name, a in fields.items()
        if name in description.inputs
    }
    constant = {}
    for name, values in told.items():
        if name not in description.forcings:
            known = values[run].tolist()
            known = known if isinstance(known, list) else [known]
            known = [None if np.isnan(v) else v for v in known]
            constant[name] = known if np.ndim(values[run]) else known[0]
    rows = []
    for frame in range(len(told["setpoint"][run])):
        row = {"time": 1800.0 * frame}
        for name in description.forcings:
            places = columns_of(name, description.places(name))
            row |= dict(zip(places, told[name][run, frame].tolist(), strict=True))
        rows.append(row)
    return constant, rows
