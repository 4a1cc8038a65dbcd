"""Link: the parameters, of the snapshot, of the record and of MLflow's run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ruamel.yaml.error import YAMLError

from mno.core.config import PARAMS_FILE
from mno.core.errors import MnoError
from mno.lineage.audit.data import ROOT_FILE
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding, Link
from mno.lineage.audit.objects import digests, find_object, read_listing
from mno.lineage.record import params_sha256
from mno.lineage.stages import flat, stage_inputs

LINK = Link("parameters")
_KEY = "mno.training_key"


def check(evidence: Evidence) -> Iterator[Finding]:
    """Check the parameters' digest, MLflow's rows, and the key that the training was found by."""
    recorded = entry(evidence.record, "params_sha256")
    yield LINK.equal(
        "tag mno.params_sha256 of the version", recorded, evidence.tags.get("mno.params_sha256")
    )
    params = evidence.tree.params
    if params is None:
        yield LINK.unknown("parameters", f"the snapshot has no {PARAMS_FILE} that can be read")
        return
    yield LINK.equal(f"{PARAMS_FILE} of the snapshot", recorded, params_sha256(params))
    for key, told in (("seed", params.get("seed")), ("scenario", params.get("scenario"))):
        yield LINK.equal(f"{key} of the record", told, entry(evidence.record, key))
    yield from _training(evidence, params)


def _training(evidence: Evidence, params: dict[str, Any]) -> Iterator[Finding]:
    """Check what MLflow's run says of parameters, code and data of the training."""
    run = evidence.facts["run"]
    if run is None:
        return
    try:
        with evidence.tree.checked_out() as folder:
            inputs = stage_inputs(folder, "train", params)
    except (MnoError, OSError, LookupError, TypeError, YAMLError) as error:
        yield LINK.unknown("what the training depended on", f"the snapshot cannot tell: {error}")
        return
    if entry(evidence.record, "restored"):
        yield LINK.unknown(
            "run of the training", "it was lost; the run was made afterwards, at registration"
        )
        return
    shown = {key: str(value) for key, value in flat(inputs.params).items()}
    wrong = [key for key in shown if run["params"].get(key) != shown[key]]
    for key in wrong:
        yield LINK.equal(f"parameter {key} of the run", shown[key], run["params"].get(key))
    for key in sorted(run["params"].keys() - shown.keys()):
        yield LINK.changed(f"parameter {key} of the run", "no such row", run["params"][key])
    if not wrong:
        yield LINK.verified("parameters of the run", f"{len(shown)} rows")
    code, _, data = run["tags"].get(_KEY, "").partition("-")
    yield LINK.equal("code and parameters that the run names", inputs.digest, code or None)
    content = _root_sha256(evidence)
    if content is not None:
        yield LINK.equal("data that the run names", content, data or None)


def _root_sha256(evidence: Evidence) -> str | None:
    """Return the digest of the dataset's root file, in which the data have all their checksums."""
    path = find_object(evidence.caches, entry(evidence.record, "data", "md5"))
    try:
        root = find_object(evidence.caches, read_listing(path.read_bytes())[ROOT_FILE])  # type: ignore[union-attr]
    except (AttributeError, ValueError, TypeError, KeyError):
        return None
    return digests(root).sha256 if root else None
