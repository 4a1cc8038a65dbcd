"""The lineage record: which data, code, parameters and machine a model came from.

It is written when training starts and completed when the model is registered. `lineage_sha256`
covers all of it but ids and times, so that the same lineage has the same digest whenever and
wherever it is registered.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from mno.core.errors import MnoError
from mno.core.files import folder_files, sha256
from mno.lineage.dvcfiles import DATA_FILE, locked_out, read_data_version
from mno.lineage.environment import environment_sha256, machine_facts
from mno.lineage.snapshot import Snapshot

SCHEMA = 1
CANDIDATE = "models/candidate"
PACKAGED = "artifacts/candidate"  # where a registered package has it
RECORD_FILE = "record.json"  # among the files of the training run
REGISTERED = "reports/registered.json"  # what was registered last in a workspace
UNTRACKED_PARAMS = ("execution", "retention", "schedule")  # which do not change a result
_NOT_LINEAGE = ("ids", "times", "lineage_sha256")


class Tag(StrEnum):
    """Names under which MLflow keeps what is known of runs, versions and models.

    Of a run: `TRAINING_KEY` to `EXPERIMENT`, and `CANDIDATE`. Of a version: `CANDIDATE` to
    `SEAL`. Of a model: `SEAL`, where its latest seal lies, and `DECIDING`.
    """

    TRAINING_KEY = "mno.training_key"
    STATE = "mno.state"
    OWNER = "mno.owner"
    WORKSPACE = "mno.workspace"
    EXPERIMENT = "mno.experiment"
    CANDIDATE = "mno.candidate"
    LINEAGE = "mno.lineage_sha256"
    SNAPSHOT = "mno.snapshot"
    PARAMS = "mno.params_sha256"
    PACKAGE = "mno.package_sha256"
    UNCOMMITTED = "mno.uncommitted"
    RELATIVE_L2 = "mno.relative_l2"
    DATA = "mno.data_md5"
    EVALUATION = "mno.evaluation_sha256"
    VERDICT = "mno.verdict"
    DECISION = "mno.decision"
    REASON = "mno.decision_reason"
    RIVAL = "mno.compared_with"
    RIVAL_L2 = "mno.champion_relative_l2"
    JUDGED = "mno.promotion"
    SEAL = "mno.seal"
    DECIDING = "mno.deciding"


Record = dict[str, Any]
"""A lineage record, as `start_record` begins it. From registration on it has the `model` (its `md5`
by DVC, and `sha256`) and `lineage_sha256`; it is `restored` where the training run was lost and it
was made up then. One that was read from a store may hold anything: see `entry`."""


def start_record(
    root: Path, snapshot: Snapshot, params: Mapping[str, Any], *,
    threads: int | None, device: str | None, processes: int = 1,
    warm_start_sha256: str | None = None, sources: Sequence[Mapping[str, Any]] = (),
    ids: Mapping[str, str | None] | None = None,
) -> Record:  # fmt: skip
    """Begin the record of a training run, of what runs and all of `params.yaml`.

    Threads and device are none where they are not known any more. Processes share out each batch.
    A warm start is named by the digest of the model that training starts from. Sources are the
    files that the data were imported from, and ids those of other record-keepers, for example
    `mlflow_run` and `prefect_flow_run`.
    """
    named = ("file", "sha256", "importer", "importer_version")
    files = [{key: source[key] for key in named if key in source} for source in sources]
    return {
        "schema": SCHEMA, "scenario": params.get("scenario"),
        "snapshot": {"commit": snapshot.commit, "tree": snapshot.tree},
        "head": snapshot.head, "uncommitted": list(snapshot.changed),
        "data": read_data_version(root / DATA_FILE)._asdict() | ({"files": files} if files else {}),
        "params_sha256": params_sha256(params), "environment_sha256": environment_sha256(root),
        "seed": params.get("seed"), "threads": threads,
        **({"processes": processes} if processes > 1 else {}),
        "device": device, "machine": machine_facts(),
        **({"warm_start": {"sha256": warm_start_sha256}} if warm_start_sha256 else {}),
        "ids": {key: value for key, value in (ids or {}).items() if value},
        "times": {"started": _now()},
    }  # fmt: skip


def complete_record(
    record: Record, root: Path, *, candidate_sha256: str, ids: Mapping[str, str | None]
) -> Record:
    """Add ids, the model (its md5 is that of `dvc.lock`) and the digest; twice changes nothing."""
    if record.get("schema") != SCHEMA:
        raise MnoError(
            f"the record of the training run has schema {record.get('schema')}; "
            f"this version writes {SCHEMA}: train again"
        )
    full: Record = {
        **record,
        "model": {"md5": locked_out(root, "train", CANDIDATE), "sha256": candidate_sha256},
        "ids": {**record["ids"], **{k: v for k, v in ids.items() if v}},
        "times": {"registered": _now(), **record["times"]},
    }
    return {**full, "lineage_sha256": lineage_sha256(full)}


def lineage_sha256(record: Mapping[str, Any]) -> str:
    """Digest of a record without its ids and times."""
    return _sha256_without(_NOT_LINEAGE, record)


def params_sha256(params: Mapping[str, Any]) -> str:
    """Digest of the parameters that a result depends on: all but how it is executed and kept."""
    return _sha256_without(UNTRACKED_PARAMS, params)


def _sha256_without(keys: Sequence[str], content: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in content.items() if key not in keys}
    return sha256(json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def candidate_digest(folder: Path) -> str:
    """Digest of the names and bytes of all files in a folder, which must hold some."""
    files = {name: path.read_bytes() for name, path in folder_files(folder).items()}
    if not files:
        raise MnoError(f"{folder} holds no model; train first")
    return sha256(b"".join(f"{n}\0{len(c)}\0".encode() + c for n, c in files.items()))


def entry(record: Any, *keys: str) -> Any:
    """Return what is at a path of keys; none where there is nothing of that kind."""
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
