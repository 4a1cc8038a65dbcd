"""Cells as they are kept, a JSON file each in `studies/results/<study>/`, and what they are worth.

A cell is its parameters, the version of its data and the code that it depends on. Code that has
moved or changed may have been shown to make the same cells, bit for bit
(`python -m benchmarks.equivalence`). Its identity then counts as that of the code before.

Every file is written beside and then put in place, so that a study can be killed at any moment and
continued anywhere: the files are all that is needed.
"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from mno.core.absent import Absent, from_kept
from mno.core.errors import MnoError
from mno.core.files import file_sha256, json_sha256, write_text
from mno.lineage.dvcfiles import stage_inputs
from mno.lineage.environment import machine_facts
from mno.study.design import Cell, ScalingConfig, StudySpec, TuningConfig

EQUIVALENCES = Path("studies/results/equivalences.json")
CELL_STAGES = ("train", "learning_curve", "evaluate")
# Modules and templates that only show what has been measured.
_SHOWN = ("mno/report/",)
_PLANTS = "plants/"  # which one scenario reads
_SHOWN_SUFFIXES = (".j2", ".css", ".toml")


class Code:
    """Digests of the code that cells of a workspace depend on, each file read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sha256 = cache(lambda name: file_sha256(root / name))
        self._lists: dict[tuple[str, str], tuple[str, ...]] = {}

    @cached_property
    def equivalent(self) -> frozenset[tuple[str, str]]:
        """Pairs of identities, of old and new code, that were shown to make the same cells."""
        path = self.root / EQUIVALENCES
        if not path.exists():
            return frozenset()
        entries = json.loads(path.read_text(encoding="utf-8"))["equivalences"]
        return frozenset(
            pair for e in entries for part in ("code", "datasets") for pair in e[part].items()
        )

    def cell_digest(self, cell: Cell) -> str:
        """Return the digest of what trains and measures a cell, less what only draws figures."""
        names = {
            name
            for stage in CELL_STAGES
            for name in self._names(stage, cell.params)
            if not name.startswith(_SHOWN) and not name.endswith(_SHOWN_SUFFIXES)
        }
        return self._digest(sorted(names))

    def dataset_digest(self, cell: Cell) -> str:
        """Return the digest of what makes a cell's data: parameters and code of `generate`."""
        made_from = {key: cell.params[key] for key in ("scenario", "generate")}
        made_from["parameters"] = cell.parameters
        code = self._digest(self._names("generate", cell.params))
        return json_sha256({"params": made_from, "code": code})

    def peers_digest(self) -> str:
        """Return the digest of what fits simple peers; of what it calls, cells' own know."""
        return self._digest(["mno/evaluation/simple_peers.py", "mno/study/peers.py"])

    def _names(self, stage: str, params: Mapping[str, Any]) -> tuple[str, ...]:
        key = (stage, params["scenario"])
        if key not in self._lists:
            names = stage_inputs(self.root, stage, params).code
            if params["scenario"] != "batch_furnace":
                names = tuple(name for name in names if not name.startswith(_PLANTS))
            self._lists[key] = names
        return self._lists[key]

    def _digest(self, names: Iterable[str]) -> str:
        return json_sha256([[name, self._sha256(name)] for name in names])


@dataclass(frozen=True)
class Identity:
    """What determines a cell's figures, but for measured times.

    Digests of the parameters, of what its data are made from, parameters and code, and of the code
    that trains and measures; and DVC's md5 of the data, none while nobody has made them.
    """

    params: str
    dataset: str
    data: str | None
    code: str

    @property
    def digest(self) -> str:
        """One digest of all; two cells with the same one are the same cell."""
        return json_sha256([self.params, self.data, self.code])

    def differs_from(
        self, recorded: Mapping[str, Any], equivalent: frozenset[tuple[str, str]] = frozenset()
    ) -> str:
        """Return why a cell whose identity was recorded is not this one; empty if it is."""

        def same(part: str, now: str) -> bool:
            known = str(recorded.get(part))
            return known == now or (known, now) in equivalent

        if recorded.get("params") != self.params:
            return "its parameters have changed"
        if not same("code", self.code):
            return "the code that trains and measures it has changed"
        if self.data is None and not same("dataset", self.dataset):
            return "what makes its data has changed, and nobody has made them since"
        return "" if self.data in (None, recorded.get("data")) else "its data have changed"


def identify(cell: Cell, code: Code, datasets: Mapping[str, str]) -> Identity:
    """Return the identity of a cell, given DVC's md5 of the datasets that have been made."""
    params, dataset = json_sha256(cell.tracked), code.dataset_digest(cell)
    return Identity(params, dataset, datasets.get(dataset), code.cell_digest(cell))


def identify_operator(cell: Cell, code: Code, scaling: ScalingConfig | None) -> Identity:
    """Return the identity of a cell's untrained operator, measured on its own or several grids."""
    measured = {key: cell.tracked[key] for key in ("scenario", "task", "model")}
    resolution = cell.params["generate"]["resolution"]
    rules = {**scaling.model_dump(), "scenarios": []} if scaling else {}  # as it is kept
    params = json_sha256([measured, cell.parameters, resolution, rules])
    return Identity(params=params, dataset="", data="", code=code.cell_digest(cell))


def identify_peers(
    cell: Cell, code: Code, spec: StudySpec, datasets: Mapping[str, str], known: Any = None
) -> Identity:
    """Return the identity of the simple peers of a cell's scenario.

    Their parameters are `known` by the digest that is kept, which may be of fewer options.
    """
    scales, dataset = cell.params["train"]["scales"], code.dataset_digest(cell)
    ways = [json_sha256([spec.peers, task, scales]) for task in cell.tasks]
    params = known if known in ways else ways[0]
    return Identity(params, dataset, datasets.get(dataset), code.peers_digest())


FOLDER = Path("studies/results")
SCHEMA = 1
State = Literal["fresh", "stale", "failed", "missing"]
STATES: tuple[State, ...] = ("fresh", "stale", "failed", "missing")


@dataclass(frozen=True)
class Found:
    """A cell as it is planned, and what is kept of it."""

    cell: Cell  # as the study file and the code say now
    identity: Identity  # of that cell
    state: State  # `stale`: made otherwise than it would be now
    reason: str  # why it is stale, or has failed; empty otherwise
    record: Mapping[str, Any]  # the content of its file; empty where there is none


class Results:
    """The results of a study of a workspace."""

    def __init__(self, root: Path, study: str) -> None:
        self.folder = root / FOLDER / study

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a study's file by its name without `.json`, or none; refuse what is not ours."""
        path = self.folder / f"{name}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise MnoError(
                f"{path} is not a result that this version can read; git checkout it, or remove "
                "it: it is then made again"
            )
        return content

    def write(self, name: str, content: Mapping[str, Any]) -> Path:
        """Keep a result; numbers that are not finite become null."""
        path = self.folder / f"{name}.json"
        text = json.dumps(_finite({"schema": SCHEMA, **content}), indent=1, allow_nan=False)
        write_text(path, text + "\n")
        return path

    def widths(self, cells: Iterable[Cell]) -> dict[tuple[str, str], int]:
        """Return the widths by which these cells are kept, or those of the study; by kind."""
        widths: dict[tuple[str, str], int] = {}
        for cell in cells:
            told = (self.read(cell.name) or {}).get("params", cell.params)
            widths.setdefault((cell.scenario, cell.model.name), told["model"]["width"])
        return widths

    def datasets(self) -> dict[str, str]:
        """Return DVC's md5 of the datasets of this study that have been made, by their digest."""
        paths = sorted((self.folder / "datasets").glob("*.json"))
        records = [self.read(f"datasets/{path.stem}") for path in paths]
        return {record["dataset"]: record["md5"] for record in records if record is not None}

    def keep_dataset(self, cell: Cell, digest: str, md5: str) -> None:
        """Note which version of the data came of a dataset's parameters and code."""
        content = {"dataset": digest, "md5": md5, "scenario": cell.scenario}
        self.write(f"datasets/{cell.scenario}-{digest[:12]}", content)

    def plan(self, cell: Cell, tuning: TuningConfig) -> dict[str, Any] | None:
        """Return how a cell's model is trained after its trials; none where that is not known yet.

        It is kept by scenario and model, and does not depend on code: a number of epochs and a rate
        that were once chosen are parameters like others.
        """
        known = self.known_of_plan(cell, tuning)
        return known if "train" in known else None

    def known_of_plan(self, cell: Cell, tuning: TuningConfig) -> dict[str, Any]:
        """Return what is known of a plan: `times` of steps, then `trials`, at last `train`."""
        kept = self.read(f"plans/{cell.kind}")
        return kept if kept is not None and kept["of"] == _planned_of(cell, tuning) else {}

    def keep_plan(self, cell: Cell, tuning: TuningConfig, content: Mapping[str, Any]) -> None:
        """Keep what became known of a plan beside what was known of it."""
        known = {"of": _planned_of(cell, tuning), "machine": machine_facts()}
        self.write(f"plans/{cell.kind}", {**known, **self.known_of_plan(cell, tuning), **content})

    def planned(self, cells: Iterable[Cell], tuning: TuningConfig | None) -> list[Cell]:
        """Return cells with the section `train` of their plans, as far as known."""
        plans = [(cell, self.plan(cell, tuning) if tuning else None) for cell in cells]
        return [cell if plan is None else cell.trained(plan["train"]) for cell, plan in plans]

    def find(self, cells: list[Cell], code: Code) -> list[Found]:
        """Hold what is kept against what the cells would be now."""
        datasets = self.datasets()
        return [self.held(cell, cell.name, identify(cell, code, datasets), code) for cell in cells]

    def held(self, cell: Cell, name: str, identity: Identity, code: Code) -> Found:
        """Hold what is kept under a name against what a cell would be now."""
        if (record := self.read(name)) is None:
            return Found(cell, identity, "missing", "", {})
        reason = identity.differs_from(record["identity"], code.equivalent)
        if record["state"] != "failed":
            return Found(cell, identity, "stale" if reason else "fresh", reason, record)
        if reason:
            return Found(cell, identity, "missing", "", {})  # what failed was another cell
        return Found(cell, identity, "failed", record["reason"], record)


@dataclass(frozen=True)
class Study:
    """A study of a workspace, named by its file; its widths are matched, each cell can be made."""

    root: Path
    name: str
    spec: StudySpec
    cells: list[Cell]
    results: Results

    def found(self, code: Code | None = None) -> list[Found]:
        """Hold what is kept of each cell against what it would be now, or by the code given."""
        return self.results.find(self.cells, code or Code(self.root))

    def scaling(self, code: Code | None = None) -> list[Found]:
        """Do the same with the measurements on several grids, of each model on the first scenario.

        There are none where none are asked for.
        """
        first, code, scaling = self.cells[0], code or Code(self.root), self.spec.scaling
        return [
            self.results.held(c, f"scaling/{c.kind}", identify_operator(c, code, scaling), code)
            for c in self.cells
            if scaling is not None and (c.scenario, c.seed) == (first.scenario, first.seed)
        ]

    def latencies(self, code: Code | None = None) -> list[Found]:
        """Do the same with the times of a prediction, measured at rest, of each kind of cell."""
        code, first = code or Code(self.root), self.cells[0].seed
        return [
            self.results.held(c, f"latency/{c.kind}", identify_operator(c, code, None), code)
            for c in self.cells
            if c.seed == first
        ]

    def peers(self, code: Code | None = None) -> list[Found]:
        """Do the same with the simple peers of each scenario; none where none are asked for."""
        if not self.spec.peers:
            return []
        code, datasets = code or Code(self.root), self.results.datasets()
        found = []
        for name in self.spec.scenarios:
            cell = next(cell for cell in self.cells if cell.scenario == name)
            kept = (self.results.read(f"peers/{name}") or {}).get("identity", {})
            identity = identify_peers(cell, code, self.spec, datasets, kept.get("params"))
            found.append(self.results.held(cell, f"peers/{name}", identity, code))
        return found


def counts(found: Sequence[Found]) -> dict[str, int]:
    """Return how many cells there are, and of each state."""
    return {"cells": len(found), **{s: sum(f.state == s for f in found) for s in STATES}}


def to_make(found: Sequence[Found]) -> list[Found]:
    """Return the cells of a study that are not there, in its order: the first seed of all first."""
    return [item for item in found if item.state != "fresh"]


def expected_seconds(planned: Sequence[Found], found: Iterable[Found]) -> float | None:
    """Return how long cells take one after the other; none where no cell was ever made.

    Each is expected to take as long as those of the same model on the same scenario, or as any.
    """
    taken: defaultdict[str | None, list[float]] = defaultdict(list)
    for item in found:
        if item.record.get("state") == "done":
            for like in (item.cell.kind, None):
                taken[like].append(float(item.record["seconds"]["all"]))
    if not taken:
        return None
    return sum(statistics.median(taken.get(i.cell.kind) or taken[None]) for i in planned)


def steps_of_epoch(cell: Cell) -> int:
    """Return how many training steps an epoch of a cell has."""
    generate, train = cell.params["generate"], cell.params["train"]
    samples = round(generate["samples"] * generate["split"]["train"])
    return math.ceil(samples / (train["batch_size"] * train["accumulate"]))


def _planned_of(cell: Cell, tuning: TuningConfig) -> str:
    """Return a digest of what a plan was made for, without what is told by the plan, and seed."""
    tracked = {key: value for key, value in cell.tracked.items() if key != "seed"}
    told = set[str]().union(*tuning.trials, [] if tuning.seconds is None else ["epochs"])
    train = {key: value for key, value in tracked["train"].items() if key not in told}
    return json_sha256([{**tracked, "train": train}, tuning.model_dump()])


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_DIGITS = 6  # significant, of each sample's error: the files are to be committed


def _in_words(content: dict[str, Any]) -> Any:
    """Return what a report holds, in words what is absent from it."""
    found = from_kept(content)
    return str(found) if isinstance(found, Absent) else found


def done_record(cell: Cell, identity: Identity, folder: Path, workers: int) -> dict[str, Any]:
    """Return what is kept of a cell that was made in a folder, with its `reports/`.

    Its identity has the md5 of its data; `workers` cells, at most, were made at the same time.
    """
    reports = {}
    for name in ("metrics", "per_sample", "train", "cost", "robustness", "learning_curve"):
        text = (folder / f"reports/{name}.json").read_text(encoding="utf-8")
        reports[name] = json.loads(text, object_hook=_in_words)
    metrics, cost, train = reports["metrics"], reports["cost"], reports["train"]
    return {
        **record_of(cell, identity, "done", workers),
        "parameters": cost["parameters"],
        "metrics": {k: v for k, v in metrics.items() if k not in ("intervals", "physics")},
        "physics": metrics["physics"],
        "per_sample": {
            "sample": reports["per_sample"]["sample"],
            "relative_l2": [_rounded(e) for e in reports["per_sample"]["relative_l2"]],
        },
        "training": {
            "best_epoch": train["best_epoch"],
            "validation": [_rounded(e["validation_relative_l2"]) for e in train["epochs"]],
            "train": [_rounded(e["train_relative_l2"]) for e in train["epochs"]],
        },
        "resolution": reports["robustness"].get("resolution"),
        "noise": reports["robustness"].get("noise"),
        "learning_curve": reports["learning_curve"]["points"],
        "cost": {k: v for k, v in cost.items() if k != "spent"},
        "seconds": {stage: cost["spent"][stage] for stage in ("generate", "train", "evaluate")},
    }


def record_of(
    cell: Cell, identity: Identity, state: str = "done", workers: int = 1, **content: Any
) -> dict[str, Any]:
    """Return what is kept of a cell, or of what is measured once for all cells like it.

    The content of a cell that has failed is the `reason`; that of an operator on its own
    `latency_ms`, on several grids `parameters` and `points`; that of simple peers the `peers`, as
    `fit_peers` returns them.
    """
    return {
        "study": cell.study, "state": state,
        "cell": {
            "scenario": cell.scenario, "model": cell.model.name, "backbone": cell.model.backbone,
            "mixer": cell.model.mixer, "seed": cell.seed,
        },
        "identity": {**vars(identity), "cell": identity.digest}, "params": cell.tracked,
        "machine": {**machine_facts(), "workers": workers}, **content,
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
