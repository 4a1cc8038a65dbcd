"""Registration: a candidate becomes a version of a registered model, once.

Every step may be the last before a kill. What is found from an earlier attempt is used, so that
a rerun ends in the same single version:

1. the training run is found by the candidate's digest, or made (`restored`);
2. figures and reports are logged to it;
3. a version with the same lineage is taken as it is, if its files are whole and predict right;
4. otherwise the candidate is packaged, loaded back and tried, and only then a version is created,
   with all its tags in one call, and loaded once more under its name;
5. the alias comes next, unless that version has been decided on before;
6. last, all of it is sealed. Nobody else decides on the model meanwhile.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mno.core.config import dataset_name, section
from mno.core.errors import MnoError
from mno.evaluation.config import EvaluateConfig
from mno.lineage import rule
from mno.lineage.dvcfiles import DATA_FILE, read_data_version
from mno.lineage.record import (
    Record,
    candidate_digest,
    complete_record,
    params_sha256,
    start_record,
)
from mno.lineage.snapshot import changed_code, take_snapshot
from mno.registry import names, promotion
from mno.registry.config import PromotionConfig, RegistryConfig
from mno.registry.deciding import deciding
from mno.registry.gates import gates
from mno.registry.promotion import Case, Compare, Measured, Score
from mno.registry.reading import find_alias
from mno.registry.recorded import EVALUATION_FOLDER
from mno.registry.request import Evaluated, Request
from mno.registry.sealing import seal_version
from mno.registry.settings import Workspace, use_workspace
from mno.registry.tracking import RECORD_FILE, STATE, log_record
from mno.registry.versions import create_version, find_version

if TYPE_CHECKING:
    from mlflow.entities import Run

# Seconds; measuring a champion anew on a large test split takes a while.
_PATIENCE = 1800.0


def register(
    request: Request,
    candidate: Path,
    evaluated: Evaluated,
    score: Score,
    compare: Compare | None = None,
) -> dict[str, Any]:
    """Register a candidate and decide on its alias; doing it again gives the same version.

    Args:
        request: Where and for whom.
        candidate: The folder that holds the trained model.
        evaluated: What the evaluation of this candidate found.
        score: Measures a loaded model on the current test split, for a champion whose recorded
            errors were measured on other data.
        compare: Measures the candidate beside the champion in a folder.

    Returns:
        What `reports/registered.json` holds.

    Raises:
        MnoError: The code is not committed, the packaged model does not predict what the
            evaluation predicted, or the error is not a finite number. No version is created.
    """
    if not math.isfinite(evaluated.relative_l2):
        raise MnoError(f"the test error is {evaluated.relative_l2}; such a model is not registered")
    digest = candidate_digest(candidate)
    workspace = use_workspace(request.workspace)
    run, record = _find_run(request, workspace, digest)
    _log_evaluation(workspace, run, evaluated)
    ids = {"mlflow_run": run.info.run_id, "prefect_flow_run": request.flow_run_id}
    record = complete_record(record, request.root, candidate_sha256=digest, ids=ids)
    if request.experiment is not None:
        workspace.client.set_tag(run.info.run_id, "mno.experiment", request.experiment)
        log_record(workspace, run.info.run_id, record)
        return {"name": None, "version": None, "alias": None, **_summary(evaluated, record)}
    uncommitted = _uncommitted(request, record)
    name = names.model_name(dataset_name(request.params))
    measured = Measured(
        evaluated.relative_l2,
        read_data_version(request.root / DATA_FILE).md5,
        _evaluation_sha256(request, evaluated),
    )
    tags = {
        names.CANDIDATE: digest,
        names.LINEAGE: record["lineage_sha256"],
        "mno.snapshot": record["snapshot"]["commit"],
        "mno.params_sha256": record["params_sha256"],
        names.UNCOMMITTED: str(bool(uncommitted)).lower(),
        **measured.tags(),
    }
    version = find_version(workspace, name, tags, evaluated)
    if version is None:
        version = create_version(workspace, run, name, tags, candidate, evaluated)
    record["ids"] |= {"model": name, "version": version}
    with deciding(workspace, name, patience=_PATIENCE):
        case = replace(_case(request, evaluated, measured, score), compare=compare)
        decision = _decide(workspace, name, version, case)
        log_record(workspace, run.info.run_id, record)
        seal_version(workspace, name, version, record, request.root)
    return {"name": name, "version": version, **decision, **_summary(evaluated, record)}


def _case(request: Request, evaluated: Evaluated, measured: Measured, score: Score) -> Case:
    config = section(request.params, "promotion", PromotionConfig)
    asked = gates(config, evaluated.kpis, evaluated.physics)
    how = section(request.params, "evaluate", EvaluateConfig).intervals
    return Case(measured, evaluated.errors, asked, config, how, score)


def _evaluation_sha256(request: Request, evaluated: Evaluated) -> str:
    """Return the digest of what an error depends on besides model and data."""
    settings = dict(request.params.get("evaluate") or {})
    if evaluated.history:  # the error is that of the frames behind these
        settings["history"] = evaluated.history
    return params_sha256(settings)


def _find_run(request: Request, workspace: Workspace, digest: str) -> tuple[Run, Record]:
    """Find the run that trained a candidate and its record; make them up if they are lost."""
    from mlflow.exceptions import MlflowException

    client = workspace.client
    experiment = workspace.experiment(dataset_name(request.params))
    found = client.search_runs(
        [experiment],
        f"tags.`{names.CANDIDATE}` = '{digest}'",
        order_by=["start_time DESC"],
        max_results=1,
    )
    if found:
        run = found[0]
    else:
        tags = {STATE: "restored", names.CANDIDATE: digest}
        run = client.create_run(experiment, tags=tags, run_name=f"restored-{digest[:8]}")
        client.set_terminated(run.info.run_id, "FINISHED")
        run = client.get_run(run.info.run_id)
    try:
        with tempfile.TemporaryDirectory(prefix="mno-record-") as scratch:
            path = client.download_artifacts(run.info.run_id, RECORD_FILE, scratch)
            return run, json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, MlflowException):
        snapshot = take_snapshot(request.root)
        record = start_record(request.root, snapshot, request.params, threads=None, device=None)
        record["restored"] = True
        log_record(workspace, run.info.run_id, record)
        return run, record


def _log_evaluation(workspace: Workspace, run: Run, evaluated: Evaluated) -> None:
    from mlflow.entities import Metric

    # At the time of the run's end: MLflow takes the same figure at the same time only once.
    when = run.info.end_time or run.info.start_time
    metrics = [
        Metric(f"{EVALUATION_FOLDER}/{name}", float(value), when, 0)
        for name, value in evaluated.metrics.items()
    ]
    workspace.client.log_batch(run.info.run_id, metrics=metrics)
    for path in evaluated.reports:
        log = workspace.client.log_artifacts if path.is_dir() else workspace.client.log_artifact
        inside = f"{EVALUATION_FOLDER}/{path.name}" if path.is_dir() else EVALUATION_FOLDER
        log(run.info.run_id, str(path), inside)


def _uncommitted(request: Request, record: Record) -> tuple[str, ...]:
    """Name the files of the code that are in no commit; refuse them unless that is allowed."""
    now = take_snapshot(request.root)
    changed = set(now.changed)
    if record["uncommitted"]:
        # Perhaps the code was committed after the training, as the message below advises.
        try:
            changed.update(changed_code(request.root, record["snapshot"]["commit"], now.head))
        except MnoError:  # the snapshot was taken in another clone
            changed.update(record["uncommitted"])
    if changed and not section(request.params, "registry", RegistryConfig).allow_uncommitted:
        shown = ", ".join(sorted(changed)[:5]) + (" and more" if len(changed) > 5 else "")
        raise MnoError(
            f"not registered: the code that made the model is not committed ({shown}); commit it "
            "and run again, or set registry.allow_uncommitted: true in params.yaml"
        )
    return tuple(sorted(changed))


def _decide(workspace: Workspace, name: str, version: int, case: Case) -> dict[str, Any]:
    """Decide on the alias, unless that was done before and the model still has its champion.

    A version that was decided on keeps what came of it since, by a better one or by a person.
    """
    client = workspace.client
    tags = client.get_model_version(name, str(version)).tags
    lost = tags.get(names.DECISION) == rule.CHAMPION and (
        find_alias(client, name, names.CHAMPION) is None
    )
    undecided = names.DECISION not in tags or lost
    if undecided:
        promotion.apply(client, name, version, promotion.decide(workspace, name, version, case))
    found = client.get_model_version(name, str(version))
    rival, error = found.tags.get(names.RIVAL), found.tags.get(names.RIVAL_L2)
    return {
        "alias": next(iter(sorted(found.aliases)), None),
        "decision": found.tags[names.DECISION],
        "reason": found.tags[names.REASON],
        "decided_now": undecided,
        "champion": int(rival) if rival else None,
        "champion_relative_l2": float(error) if error else None,
        "judged": json.loads(found.tags.get(rule.PROMOTION, "null")),
        "uncommitted": found.tags[names.UNCOMMITTED] == "true",
    }


def _summary(evaluated: Evaluated, record: Record) -> dict[str, Any]:
    return {
        "relative_l2": evaluated.relative_l2,
        "run_id": record["ids"]["mlflow_run"],
        "lineage_sha256": record["lineage_sha256"],
        "record": record,
    }
