"""A registry of many versions in MLflow's own tables, with the history they came from.

Rows, commits and files are written in bulk: registering 10,000 models one by one takes hours. Each
version has a record whose digest is right, a snapshot in git, a seal in the chain of the model's
seals, and data whose list of files is in DVC's cache.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mno.lineage.audit.objects import folder_md5
from mno.lineage.record import lineage_sha256
from mno.lineage.seal import SealPointer, seal_sha256, seal_text
from mno.registry.settings import prepare

MODEL = "mno-darcy"
SOLVER = "mno/scenarios/darcy.py"
METRICS = "mno/evaluation/metrics.py"
_BORN = 1_700_000_000_000  # milliseconds since 1970, of the first version
_APART = 3_600_000
_WHO = "Somebody <somebody@localhost> 1700000000 +0000"
_DVC = f"""stages:
  generate: {{cmd: a, deps: ["mno/scenarios/${{scenario}}.py"], outs: [build/dataset]}}
  train: {{cmd: b, deps: [data], outs: [models/candidate]}}
  evaluate: {{cmd: c, deps: [{METRICS}], metrics: [reports/metrics.json]}}
"""


@dataclass(frozen=True)
class Size:
    """How much there is.

    Attributes:
        versions: Registered versions; each became champion, but every fourth from the second on.
        commits: Commits of the branch; each changes the solver, every fifth the metrics, too.
        snapshots: Different snapshots that the versions were trained from.
        data: Versions of the data.
        shards: Files in each of them; half of a version's are those of the version before.
        code: Files of code that a seal names for each stage; with 150 it is as long as a real one.
    """

    versions: int
    commits: int
    snapshots: int
    data: int
    shards: int = 20
    code: int = 20


@dataclass(frozen=True)
class Registry:
    """What was made.

    Attributes:
        root: The workspace.
        commits: Of the branch, the first one first.
        snapshots: Commits of the snapshots.
        data: DVC's hash of each version of the data, and the MD5 of its files by their names.
    """

    root: Path
    commits: list[str]
    snapshots: list[str]
    data: dict[str, dict[str, str]]


def make_registry(root: Path, size: Size) -> Registry:
    """Make a workspace, its history and its registry in an empty folder."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in _files(0, 0).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    (root / "data.dvc").write_text("outs: [{path: data}]\n", encoding="utf-8")
    (root / ".dvc").mkdir()
    (root / ".dvc/config").touch()
    commits, snapshots = _write_history(root, size)
    data = dict(_write_data(root, size))
    prepare(root)
    rows: list[dict[str, Any]] = []
    for number in range(1, size.versions + 1):
        previous = rows[-1]["seal"] if rows else None
        rows.append(_version(root, number, size, commits, snapshots, list(data), previous))
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        _insert(database, root, rows)
    return Registry(root, commits, snapshots, data)


def is_champion(number: int) -> bool:
    """Whether a version became champion."""
    return number % 4 != 2


def commit_of(number: int, size: Size) -> int:
    """Return which commit a version was trained on."""
    return (number - 1) * size.commits // size.versions


def _files(commit: int, seed: int) -> dict[str, str]:
    """Return the content of the code and parameters at a commit."""
    return {
        SOLVER: f"STEP = {commit}\n",
        METRICS: f"METRIC = {commit // 5}\n",
        "dvc.yaml": _DVC,
        "params.yaml": f"scenario: darcy\nseed: {seed}\n",
    }


def _write_history(root: Path, size: Size) -> tuple[list[str], list[str]]:
    def stream() -> Iterator[str]:
        for commit in range(size.commits):
            yield from _commit("refs/heads/main", 1 + commit, _files(commit, 0), commit or None)
        for snapshot in range(size.snapshots):
            commit = snapshot * size.commits // size.snapshots
            ref, mark = f"refs/mno/{snapshot:016x}", 1 + size.commits + snapshot
            yield from _commit(ref, mark, _files(commit, snapshot), None)

    marks = root / "marks.txt"
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    command = ["git", "-C", str(root), "fast-import", "--quiet", f"--export-marks={marks}"]
    subprocess.run(command, input="".join(stream()), text=True, check=True)
    pairs = (line.split() for line in marks.read_text().splitlines())
    found = {int(mark[1:]): commit for mark, commit in pairs}
    marks.unlink()
    ordered = [found[mark] for mark in sorted(found)]
    return ordered[: size.commits], ordered[size.commits :]


def _commit(ref: str, mark: int, files: dict[str, str], parent: int | None) -> Iterator[str]:
    yield f"commit {ref}\nmark :{mark}\nauthor {_WHO}\ncommitter {_WHO}\ndata {len(ref)}\n{ref}"
    yield f"\nfrom :{parent}\n" if parent else "\n"
    for name, content in files.items():
        yield f"M 644 inline {name}\ndata {len(content)}\n{content}\n"


def _write_data(root: Path, size: Size) -> Iterator[tuple[str, dict[str, str]]]:
    for number in range(size.data):
        first = number * size.shards // 2
        files = {f"pressure/c/{place}": hashlib.md5(f"{first + place}".encode()).hexdigest()
                 for place in range(size.shards)}  # fmt: skip
        md5 = folder_md5(files)
        listing = [{"md5": files[name], "relpath": name} for name in sorted(files)]
        path = root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(listing, sort_keys=True), encoding="utf-8")
        yield md5, files


def _version(
    root: Path,
    number: int,
    size: Size,
    commits: list[str],
    snapshots: list[str],
    data: list[str],
    previous: SealPointer | None,
) -> dict[str, Any]:
    """Write the files of a version's run; return its row and tags."""
    snapshot = snapshots[(number - 1) * size.snapshots // size.versions]
    md5, run = data[(number - 1) * size.data // size.versions], f"{number:032x}"
    record: dict[str, Any] = {
        "schema": 1,
        "scenario": "darcy",
        "snapshot": {"commit": snapshot},
        "head": commits[commit_of(number, size)],
        "uncommitted": [],
        "data": {"md5": md5, "source_md5": md5},
        "machine": {"cpu": "a processor", "cores": 2},
        "seed": number,
        "ids": {"mlflow_run": run},
        "times": {},
    }
    error = 0.5 - 0.4 * number / size.versions
    record["lineage_sha256"] = lineage_sha256(record)
    folder = root / "mlartifacts/darcy" / run / "artifacts"
    (folder / "evaluation").mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "environment.txt").write_text(f"numpy==2.{number}\ntorch==2.9\n", encoding="utf-8")
    metrics = json.dumps({"relative_l2": error})
    (folder / "evaluation/metrics.json").write_text(metrics, encoding="utf-8")
    tags = {
        "mno.candidate": hashlib.sha256(run.encode()).hexdigest(),
        "mno.lineage_sha256": record["lineage_sha256"],
        "mno.snapshot": snapshot,
        "mno.data_md5": md5,
        "mno.relative_l2": repr(error),
        "mno.params_sha256": hashlib.sha256(f"{number}".encode()).hexdigest(),
        "mno.uncommitted": "false",
        "mno.evaluation_sha256": "e" * 64,
        "mno.package_sha256": hashlib.sha256(f"package {number}".encode()).hexdigest(),
        "mno.decision": "champion" if is_champion(number) else "challenger",
        "mno.decision_reason": f"relative L2 {error:.6g} against a larger one",
    }
    seal = _write_seal(folder, number, record, tags, size.code, previous)
    tags["mno.seal"] = str(seal)
    return {"number": number, "run": run, "folder": str(folder), "tags": tags, "seal": seal}


def _write_seal(
    folder: Path,
    number: int,
    record: dict[str, Any],
    tags: dict[str, str],
    code: int,
    previous: SealPointer | None,
) -> SealPointer:
    deps = {f"mno/a/folder/module_{place}.py": f"{place:032x}" for place in range(code)}
    text = seal_text(
        {
            "schema": 1,
            "model": MODEL,
            "number": number,
            "version": {"tags": dict(tags), "run": record["ids"]["mlflow_run"]},
            "record": record,
            "lock": {stage: {"deps": deps} for stage in ("generate", "train", "evaluate")},
            "aliases": {"champion": number if is_champion(number) else number - 1},
            "snapshot": record["snapshot"],
        },
        previous,
    )
    (folder / "seals").mkdir()
    pointer = SealPointer(record["ids"]["mlflow_run"], seal_sha256(text))
    (folder / f"seals/{pointer.sha256}.json").write_text(text, encoding="utf-8")
    return pointer


def _insert(database: sqlite3.Connection, root: Path, rows: list[dict[str, Any]]) -> None:
    put = database.executemany
    now = [_BORN + row["number"] * _APART for row in rows]
    place = str(root / "mlartifacts/darcy")
    put("INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
        "VALUES (77, 'darcy', ?, 'active')", [(place,)])  # fmt: skip
    put("INSERT INTO registered_models (name, creation_time) VALUES (?, ?)", [(MODEL, _BORN)])
    put("INSERT INTO runs (run_uuid, name, status, start_time, end_time, lifecycle_stage, "
        "artifact_uri, experiment_id, source_type, user_id) "
        "VALUES (?, 'train', 'FINISHED', ?, ?, 'active', ?, 77, 'UNKNOWN', 'somebody')",
        [(r["run"], t, t, r["folder"]) for r, t in zip(rows, now, strict=True)])  # fmt: skip
    put("INSERT INTO model_versions (name, version, creation_time, current_stage, source, run_id, "
        "status) VALUES (?, ?, ?, 'None', ?, ?, 'READY')",
        [(MODEL, r["number"], t, r["folder"], r["run"])
         for r, t in zip(rows, now, strict=True)])  # fmt: skip
    put("INSERT INTO model_version_tags (key, value, name, version) VALUES (?, ?, ?, ?)",
        [(k, v, MODEL, r["number"]) for r in rows for k, v in r["tags"].items()])  # fmt: skip
    put("INSERT INTO registered_model_tags (key, value, name) VALUES ('mno.seal', ?, ?)",
        [(str(rows[-1]["seal"]), MODEL)])  # fmt: skip
    put("INSERT INTO registered_model_aliases (alias, version, name) VALUES ('champion', ?, ?)",
        [(rows[-1]["number"], MODEL)])  # fmt: skip
    database.commit()
