"""How long a stage worked for what is there now, kept beside the results and never part of them.

`build/times/<stage>.json` is no output and no dependency of any stage: DVC neither keeps nor
restores it, and no result may be computed from it but measured times. A time is found by the digest
of what was made, so that it is there again when DVC puts an earlier result back. Where the result
came from another machine's cache there is none.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mno.core.files import write_json

FOLDER = Path("build/times")
KEPT = 200
"""Finished records per stage; the oldest go first."""

_MADE = {
    "generate": ("data/zarr.json",),  # holds the sha256 of every shard
    "train": ("models/candidate/surrogate.json", "models/candidate/weights.safetensors"),
    "learning_curve": ("reports/learning_curve.json",),
    "evaluate": ("reports/metrics.json",),
}
_FRESH = {"data/zarr.json": "build/dataset/zarr.json"}  # before `data.dvc` has imported it


@dataclass(frozen=True)
class Seconds:
    """What a stage's work took, over all its attempts where it was interrupted.

    Processor time is that of the process and its children on this machine; what a Dask scheduler
    elsewhere had computed is not in it.
    """

    seconds: float  # from the start of the process on
    cpu_seconds: float
    attempts: int  # processes that worked on it
    cores: int  # processors that were there for the last of them

    def __add__(self, later: "Seconds") -> "Seconds":
        seconds, cpu_seconds = self.seconds + later.seconds, self.cpu_seconds + later.cpu_seconds
        return Seconds(seconds, cpu_seconds, self.attempts + later.attempts, later.cores)


def recorded_seconds(root: Path, stage: str) -> Seconds | None:
    """Return how long making a stage's present result took; none where nobody has recorded it.

    The stage is `generate`, `train`, `learning_curve` or `evaluate`; the root is the workspace.
    """
    made = made_digest(root, stage)
    return None if made is None else _seconds(_read(root, stage)["finished"].get(made))


def is_recorded(stage: str) -> bool:
    """Whether the times of this stage are kept."""
    return stage in _MADE


def made_digest(root: Path, stage: str, *, fresh: bool = False) -> str | None:
    """Return the SHA-256 of what a stage has made; none where it is not there.

    It is fresh where the stage has just ended, so that `data.dvc` has not imported it yet.
    """
    sha = hashlib.sha256()
    for name in _MADE[stage]:
        try:
            path = _FRESH[name] if fresh and name in _FRESH else name
            content = (root / path).read_bytes()
        except OSError:
            return None
        sha.update(hashlib.sha256(content).digest())
    return sha.hexdigest()


def write_attempt(root: Path, stage: str, key: str, before: Seconds | None, now: Seconds) -> None:
    """Record how long work that is not finished has taken so far.

    `key` is the digest of all the stage's inputs, the same for attempts that continue each other;
    `before` is what `earlier_attempts` returned when this attempt, `now`, began.
    """
    content = _read(root, stage)
    content["unfinished"] = {key: asdict(before + now if before else now)}
    _write(root, stage, content)


def earlier_attempts(root: Path, stage: str, key: str) -> Seconds | None:
    """Return what interrupted attempts with the same inputs took; none where there were none."""
    return _seconds(_read(root, stage)["unfinished"].get(key))


def write_finished(root: Path, stage: str, key: str, taken: Seconds) -> None:
    """Record what finished work took, for what it has just made.

    A stage may be run again although all its work was kept (DVC was killed before it could note
    the result). It then takes a moment, which is not what the work takes: of the same inputs and
    result, the longer record stays.
    """
    made = made_digest(root, stage, fresh=True)
    content = _read(root, stage)
    content["unfinished"].pop(key, None)
    if made is not None:
        finished = content["finished"]
        known = finished.pop(made, None)
        if known is None or known["inputs"] != key or known["seconds"] < taken.seconds:
            known = {**asdict(taken), "inputs": key}
        content["finished"] = dict([*finished.items(), (made, known)][-KEPT:])
    _write(root, stage, content)


def _seconds(record: Mapping[str, Any] | None) -> Seconds | None:
    names = Seconds.__dataclass_fields__
    return None if record is None else Seconds(**{name: record[name] for name in names})


def _read(root: Path, stage: str) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads((root / FOLDER / f"{stage}.json").read_text(encoding="utf-8"))
        return {part: dict(content[part]) for part in ("finished", "unfinished")}
    except (OSError, ValueError, KeyError, TypeError):  # nothing recorded, or nothing of ours
        return {"finished": {}, "unfinished": {}}


def _write(root: Path, stage: str, content: Mapping[str, Any]) -> None:
    write_json(root / FOLDER / f"{stage}.json", content)
