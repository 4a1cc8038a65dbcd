"""Registration: a candidate becomes a version of a registered model, once, and is decided on.

Every step may be the last before a kill. What is found from an earlier attempt is used, so that
a rerun ends in the same single version. `register` comes first, `conclude` after the verdict:

1. the training run is found by the candidate's digest, or made (`restored`);
2. figures and reports are logged to it;
3. a version with the same lineage is taken as it is, if its files are whole and predict right;
4. otherwise the candidate is packaged, loaded back and tried, and only then a version is created,
   with all its tags in one call, and loaded once more under its name;
5. what was measured and judged is logged, too, and the alias comes next, unless that version has
   been decided on before;
6. last, all of it is sealed. Nobody else decides on the model meanwhile.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mno.core.absent import Absent
from mno.core.config import dataset_name, model_subject, section
from mno.core.errors import MnoError
from mno.core.files import json_sha256
from mno.core.forecast import TaskConfig
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.metrics import Pooled
from mno.lineage import record as lineage
from mno.lineage.decision import BY_RULE, CHALLENGER, CHAMPION
from mno.lineage.dvcfiles import DATA_FILE, locked_stages, read_data_version
from mno.lineage.record import Record, Tag
from mno.lineage.snapshot import Snapshot, changed_code, take_snapshot
from mno.registry.catalogue import find_version_of, registry_of
from mno.registry.config import PromotionConfig, RegistryConfig
from mno.registry.decision import Case, carry_out, decide, deciding, gates, standing
from mno.registry.evidence import damage, package_digest, seal_version
from mno.registry.packaging import Arrays, check_predictions, load_model, save_package
from mno.registry.reading import EVALUATION_FOLDER, TRUST_FILE, candidate_folder
from mno.registry.settings import Workspace, model_name, use_workspace
from mno.registry.tracking import latest_run, log_record

if TYPE_CHECKING:
    from mlflow.entities import Run

_PATIENCE = 1800.0  # seconds; measuring a champion anew on a large test split takes a while
_OF_MODEL = (
    "Surrogate of a solver or a plant, made by `mno run`. The champion is in production, the "
    "challenger is the latest that did not take over; who decided, and why: mno promote --history"
)


@dataclass(frozen=True)
class Request:
    """Where and for whom a model is registered."""

    root: Path  # whose code, parameters and `dvc.lock` made the model
    workspace: Path  # whose MLflow is used; the same, but in a DVC experiment
    params: Mapping[str, Any]  # the content of `params.yaml`
    experiment: str | None = None  # of DVC; in one, nothing is registered, only logged
    flow_run_id: str | None = None  # of Prefect


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation found."""

    relative_l2: float  # on the test split; the figure that decides
    metrics: Mapping[str, float]  # to log
    inputs: Arrays  # of some samples, in physical units
    predictions: Arrays  # of the evaluation, from them
    reports: tuple[Path, ...] = ()  # files and folders to keep with the run
    trust: bytes | None = None  # the file that predictions are judged by, for the package


@dataclass(frozen=True)
class Told:
    """What decides on a version."""

    errors: tuple[float, ...]  # relative L2 of each test sample; NaN where none is known
    decision: Mapping[str, Any]  # the content of `reports/decision.json`
    figures: Mapping[str, float] = field(default_factory=dict)  # to log
    physics: Mapping[str, Any] | str | Absent = "nothing was checked"  # of `reports/metrics.json`
    reports: tuple[Path, ...] = ()  # files and folders to keep with the run


def register(request: Request, candidate: Path, evaluated: Evaluated) -> dict[str, Any]:
    """Register the candidate in a folder; return `registered.json`. `conclude` decides on it.

    Doing it again gives the same version.

    Raises:
        MnoError: The code is not committed, the packaged model does not predict what the
            evaluation predicted, or the error is not a finite number. No version is created.
    """
    if not math.isfinite(evaluated.relative_l2):
        raise MnoError(f"the test error is {evaluated.relative_l2}; such a model is not registered")
    params, snapshot = request.params, take_snapshot(request.root)
    allowed = section(params, "registry", RegistryConfig).allow_uncommitted
    digest, workspace = lineage.candidate_digest(candidate), use_workspace(request.workspace)
    run, record = _find_run(request, workspace, dataset_name(params), snapshot, digest)
    _log(workspace, run, evaluated.metrics, evaluated.reports)
    ids = {"mlflow_run": run.info.run_id, "prefect_flow_run": request.flow_run_id}
    record = lineage.complete_record(record, request.root, candidate_sha256=digest, ids=ids)
    summary = {
        "relative_l2": evaluated.relative_l2,
        "lock_sha256": json_sha256(locked_stages(request.root)),
        "run_id": run.info.run_id,
        "lineage_sha256": record.get("lineage_sha256"),
        "record": record,
    }
    if request.experiment is not None:
        workspace.client.set_tag(run.info.run_id, Tag.EXPERIMENT, request.experiment)
        log_record(workspace, run.info.run_id, record)
        return {"name": None, "version": None, "alias": None, **summary}
    uncommitted = _uncommitted(request.root, allowed, snapshot, record)
    tags: dict[str, str] = {
        Tag.CANDIDATE: digest,
        Tag.LINEAGE: str(record.get("lineage_sha256")),
        Tag.SNAPSHOT: record["snapshot"]["commit"],
        Tag.PARAMS: record["params_sha256"],
        Tag.UNCOMMITTED: str(uncommitted).lower(),
        Tag.RELATIVE_L2: repr(evaluated.relative_l2),
        Tag.DATA: read_data_version(request.root / DATA_FILE).md5 or "unknown",
        Tag.EVALUATION: _measured_by(params, evaluated),
    }
    name = model_name(model_subject(params))
    if (version := _known_version(workspace, name, tags, evaluated)) is None:
        version = _create_version(workspace, run, name, tags, candidate, evaluated)
    record["ids"] |= {"model": name, "version": version}
    log_record(workspace, run.info.run_id, record)
    return {"name": name, "version": version, **standing(workspace, name, version), **summary}


def conclude(
    request: Request, registered: Mapping[str, Any], told: Told, score: Callable[[Any], Pooled]
) -> dict[str, Any]:
    """Decide on the alias of what was registered, and seal it; return `registered.json` anew.

    Doing it again changes nothing. `score` is that of a `Case`.
    """
    params, workspace = request.params, use_workspace(request.workspace)
    promotion = section(params, "promotion", PromotionConfig)
    name, version, record = (registered[key] for key in ("name", "version", "record"))
    run = workspace.client.get_run(registered["run_id"])
    _log(workspace, run, told.figures, told.reports)
    tags = find_version_of(registry_of(workspace), f"models:/{name}/{version}").tags
    _describe(workspace, registered, told)
    case = Case(
        relative_l2=registered["relative_l2"],
        errors=told.errors,
        data_md5=tags[Tag.DATA],
        evaluation_sha256=tags[Tag.EVALUATION],
        gates=gates(promotion, told.decision, told.physics),
        config=promotion,
        intervals=section(params, "evaluate", EvaluateConfig).intervals,
        score=score,
    )
    said = (name, str(version), Tag.VERDICT, told.decision["verdict"])
    with deciding(workspace, name, patience=_PATIENCE):
        workspace.client.set_model_version_tag(*said)
        decision = _decide(workspace, name, version, case)
        now = take_snapshot(request.root), locked_stages(request.root)
        seal_version(workspace, name, version, record, *now)
    return {**registered, **decision}


def _describe(workspace: Workspace, registered: Mapping[str, Any], told: Told) -> None:
    """Say in words what run, model and version are, for who looks at MLflow's pages."""
    client, name, version = workspace.client, registered["name"], str(registered["version"])
    record, verdict = registered["record"], told.decision["verdict"].replace("_", " ")
    commit, data = record["snapshot"]["commit"][:12], str(record["data"]["md5"])[:12]
    said = (
        f"Test error (relative L2) {registered['relative_l2']:.2%}; {verdict}. Made from commit "
        f"{commit} and data {data}. The report is among the files of its run, in evaluation/; "
        f"check where it comes from with: mno audit models:/{name}/{version}"
    )
    client.update_model_version(name, version, description=said)
    client.update_registered_model(name, description=_OF_MODEL)
    client.set_tag(registered["run_id"], "mlflow.note.content", said)
    client.update_run(registered["run_id"], name=f"{name} version {version}")


def _measured_by(params: Mapping[str, Any], evaluated: Evaluated) -> str:
    """Return a digest of the settings that an error depends on, besides model and data.

    It is also of the frames that are given of states, and of those that are skipped, and of what an
    observer is told.
    """
    settings, others = params.get("evaluate") or {}, ("economics", "kpis", "tools")
    measured = {key: value for key, value in settings.items() if key not in others}
    frames = {x.shape[1] for name, x in evaluated.inputs.items() if name in evaluated.predictions}
    measured |= {"history": max(frames)} if frames else {}
    task, told = section(params, "task", TaskConfig), {"skip", "sensors", "hidden"}
    measured |= task.model_dump(include=told, exclude_defaults=True)
    return lineage.params_sha256(measured)


def _find_run(
    request: Request, workspace: Workspace, dataset: str, snapshot: Snapshot, digest: str
) -> "tuple[Run, Record]":
    """Find the run that trained a candidate and its record; make them up if they are lost."""
    client, experiment = workspace.client, workspace.experiment(dataset)
    if (run := latest_run(workspace, experiment, Tag.CANDIDATE, digest)) is None:
        tags: dict[str, Any] = {Tag.STATE: "restored", Tag.CANDIDATE: digest}
        run = client.create_run(experiment, tags=tags, run_name=f"restored-{digest[:8]}")
        client.set_terminated(run.info.run_id, "FINISHED")
        run = client.get_run(run.info.run_id)
    kept = registry_of(workspace).read(run.info.run_id, lineage.RECORD_FILE)
    with suppress(ValueError):
        return run, json.loads(kept or b"")
    record = lineage.start_record(request.root, snapshot, request.params, threads=None, device=None)
    return run, {**record, "restored": True}


def _log(
    workspace: Workspace, run: "Run", figures: Mapping[str, float], reports: Iterable[Path]
) -> None:
    from mlflow.entities import Metric

    # What is shown already is not logged again, and what is measured anew has a time of its own: of
    # two figures at the same time (ms) MLflow shows the larger.
    shown, now = run.data.metrics, round(1e3 * time.time())
    named = {f"{EVALUATION_FOLDER}/{name}": float(x) for name, x in figures.items()}
    metrics = [Metric(k, x, now, 0) for k, x in named.items() if repr(shown.get(k)) != repr(x)]
    workspace.client.log_batch(run.info.run_id, metrics=metrics)
    for path in reports:
        log = workspace.client.log_artifacts if path.is_dir() else workspace.client.log_artifact
        inside = f"{EVALUATION_FOLDER}/{path.name}" if path.is_dir() else EVALUATION_FOLDER
        log(run.info.run_id, str(path), inside)


def _uncommitted(root: Path, allowed: bool, snapshot: Snapshot, record: Record) -> bool:
    """Tell whether some of the code is in no commit; refuse that unless it is allowed."""
    changed = set(snapshot.changed)
    if record["uncommitted"]:
        # Perhaps the code was committed after the training, as the message below advises.
        try:
            changed.update(changed_code(root, record["snapshot"]["commit"], snapshot.head))
        except MnoError:  # the snapshot was taken in another clone
            changed.update(record["uncommitted"])
    if changed and not allowed:
        shown = ", ".join(sorted(changed)[:5]) + (" and more" if len(changed) > 5 else "")
        raise MnoError(
            f"not registered: the code that made the model is not committed ({shown}); commit it "
            "and run again, or set registry.allow_uncommitted: true in params.yaml"
        )
    return bool(changed)


def _known_version(
    workspace: Workspace, name: str, tags: Mapping[str, str], evaluated: Evaluated
) -> int | None:
    """Return the whole version of this lineage and trust, if there is one; refresh its figures."""
    registry = registry_of(workspace)
    found = [v for v in registry.versions(name) if v.tags.get(Tag.LINEAGE) == tags[Tag.LINEAGE]]
    for version in sorted(found, key=lambda version: -version.number):
        if damage(registry, version):
            continue
        trust = candidate_folder(registry, version).with_name(TRUST_FILE)
        if (trust.read_bytes() if trust.is_file() else None) != evaluated.trust:
            continue
        model = load_model(version.uri, workspace)
        if check_predictions(model, evaluated.inputs, evaluated.predictions):
            continue
        for tag, value in tags.items():
            if version.tags.get(tag) != value:
                workspace.client.set_model_version_tag(name, str(version.number), tag, value)
        return version.number
    return None


def _create_version(
    workspace: Workspace,
    run: "Run",
    name: str,
    tags: Mapping[str, str],
    candidate: Path,
    evaluated: Evaluated,
) -> int:
    """Package, try, log, register, and try again under the final name; it has no alias yet."""
    from mlflow.exceptions import MlflowException

    client = workspace.client
    with tempfile.TemporaryDirectory(prefix="mno-register-") as scratch:
        folder = Path(scratch) / "model"
        save_package(candidate, evaluated.inputs, folder, evaluated.trust)
        _try(load_model(folder), evaluated)
        model_id = _log_model(workspace, run, name, folder, tags[Tag.LINEAGE])
        tags = {**tags, Tag.PACKAGE: package_digest(folder)}
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name, source=f"models:/{model_id}", run_id=run.info.run_id, model_id=model_id, tags=tags
    )
    _try(load_model(f"models:/{name}/{version.version}", workspace), evaluated)
    return int(version.version)


def _try(model: Any, evaluated: Evaluated) -> None:
    if difference := check_predictions(model, evaluated.inputs, evaluated.predictions):
        raise MnoError(
            f"not registered: the packaged model does not predict what was evaluated: {difference}"
            "; models/candidate was changed after its evaluation: evaluate again, or train again"
        )


def _log_model(workspace: Workspace, run: "Run", name: str, folder: Path, lineage: str) -> str:
    """Log a package as a model of the run; what an earlier attempt left there goes."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    client, run_id, experiment = workspace.client, run.info.run_id, run.info.experiment_id
    used = {version.model_id for version in client.search_model_versions(f"name = '{name}'")}
    for old in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        if old.model_id not in used:
            client.delete_logged_model(old.model_id)
    logged = client.create_logged_model(
        experiment, name=name, source_run_id=run_id, tags={Tag.LINEAGE: lineage}
    )
    content = Model.load(str(folder))
    content.run_id, content.model_id = run_id, logged.model_id
    content.save(str(folder / "MLmodel"))
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged.model_id


def _decide(workspace: Workspace, name: str, version: int, case: Case) -> dict[str, Any]:
    """Decide on the alias; who was decided on keeps that while the model has a champion.

    Where it was the verdict that the rule went by, another verdict is decided on anew.
    """
    registry, uri = registry_of(workspace), f"models:/{name}/{version}"
    tags = find_version_of(registry, uri).tags
    decided, judged = tags.get(Tag.DECISION), json.loads(tags.get(Tag.JUDGED, "{}"))
    lost = decided == CHAMPION and registry.find(name, alias=CHAMPION) is None
    before, now = (of.get("worth") for of in (judged.get("gates") or {}, case.gates))
    by_verdict = judged.get("how") == BY_RULE and decided == CHALLENGER and before != now
    undecided = decided is None or lost or by_verdict
    if undecided:
        carry_out(workspace, name, version, decide(workspace, name, version, case))
    tags = find_version_of(registry, uri).tags
    rival, error = tags.get(Tag.RIVAL), tags.get(Tag.RIVAL_L2)
    return {
        **standing(workspace, name, version),
        "decided_now": undecided,
        "champion": int(rival) if rival else None,
        "champion_relative_l2": float(error) if error else None,
        "judged": json.loads(tags.get(Tag.JUDGED, "null")),
        "uncommitted": tags[Tag.UNCOMMITTED] == "true",
    }
