"""The certificate for programs: an RO-Crate, and the environment as a bill of materials.

The crate is an RO-Crate 1.1 of the profile Provenance Run Crate 0.5:
https://www.researchobject.org/ro-crate/specification/1.1/ and
https://www.researchobject.org/workflow-run-crate/profiles/provenance_run_crate. Where the snapshot
of the code is not at hand there is no workflow to name, and it is a Process Run Crate. The bill is
CycloneDX 1.6 in JSON (ECMA-424).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx import model as cyclonedx_model
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import bom as cyclonedx_bom
from cyclonedx.model import component as cyclonedx_component
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from rocrate.rocrate import ROCrate

from mno import __version__
from mno.certificate import content as names
from mno.certificate.content import METADATA, PARAMS, WORKFLOW, Certificate, Package
from mno.core.files import sha256
from mno.lineage.dvcfiles import MAKING
from mno.lineage.record import entry

Entity = dict[str, Any]
# Their decorators hide the constructors from type checkers.
Bom: Any = cyclonedx_bom.Bom
Component: Any = cyclonedx_component.Component
ComponentType = cyclonedx_component.ComponentType
Property: Any = cyclonedx_model.Property

_VERSION = "1.1"
_TERMS = "https://w3id.org/ro/terms/workflow-run#"
_RUNS = "https://w3id.org/ro/wfrun"
_WORKFLOWS = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
_WORKFLOW_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
_PROFILES = {
    f"{_RUNS}/process/0.5": ("Process Run Crate", "0.5"),
    f"{_RUNS}/workflow/0.5": ("Workflow Run Crate", "0.5"),
    f"{_RUNS}/provenance/0.5": ("Provenance Run Crate", "0.5"),
    _WORKFLOWS: ("Workflow RO-Crate", "1.0"),
}
_DVC_URL = "https://dvc.org/doc/user-guide/project-structure/dvcyaml-files"
_MODEL, _DATASET, _COMMIT, _TOOL = "#model", "#dataset", "#snapshot", "#mno"
_ENGINE, _LANGUAGE, _RUN, _LICENCE = "#dvc", "#dvc-yaml", "#run", "#licence"
_FORMATS = {
    ".json": "application/json",
    ".html": "text/html",
    ".yaml": "application/yaml",
    ".dvc": "application/yaml",
    ".pem": "application/x-pem-file",
    ".sig": "application/octet-stream",
}
_OWN = {
    names.PAGE: "The certificate as a page",
    names.AUDIT: "What the audit has found, check by check",
    names.BILL: "The environment as a software bill of materials, CycloneDX 1.6",
    names.SUMS: "SHA-256 of every file of the certificate",
    names.SIGNATURE: f"Ed25519 signature over the bytes of {names.SUMS}",
    names.SIGNER: "Public key of the signature",
}
_DOES = {
    "generate": "Generates the data, or takes over imported ones",
    "train": "Trains the operator",
    "evaluate": "Evaluates it on the test data",
}
# What goes into the line or comes out of it, by the file that stands for it.
_SLOTS = {
    PARAMS: "input-parameters",
    names.DATA_FILES: "output-data",
    names.WEIGHTS: "output-weights",
    names.METRICS: "output-metrics",
}


def crate_metadata(
    certificate: Certificate, files: Mapping[str, bytes], signed: bool
) -> dict[str, Any]:
    """Return the content of `ro-crate-metadata.json`.

    Args:
        certificate: What is certified.
        files: The other files of the folder, but those that hold digests of this one.
        signed: Whether the folder will hold a signature.
    """
    whole = WORKFLOW in certificate.documents
    profiles = _PROFILES if whole else dict([next(iter(_PROFILES.items()))])
    later = (names.SUMS, names.SIGNATURE, names.SIGNER) if signed else (names.SUMS,)
    described = [
        *(_file(name, contentSize=str(len(c)), sha256=sha256(c)) for name, c in files.items()),
        *(_file(name) for name in later),
    ]
    made = [*_chain(certificate), *_line(certificate)]
    crate = ROCrate(version=_VERSION)
    crate.metadata.extra_terms |= {name: _TERMS + name for name in ("sha256", "md5")}
    if whole:
        conforms = _to(crate.metadata.profile, _WORKFLOWS)
        crate.update_jsonld({"@id": METADATA, "conformsTo": conforms})
    outcome = "nothing differs." if certificate.passed else "differences were found."
    root = {
        "@id": "./",
        "name": f"Certificate of {certificate.name} version {certificate.version}",
        "description": f"Lineage of a registered model, audited link by link: {outcome}",
        "datePublished": certificate.made,
        "license": _to(_LICENCE),
        "conformsTo": _to(*profiles),
        "hasPart": _to(*_ids(described)),
        "mentions": _to(*_ids(e for e in made if str(e.get("@type")).endswith("Action"))),
        "about": _to(_MODEL),
    }
    crate.update_jsonld(root | ({"mainEntity": _to(WORKFLOW)} if whole else {}))
    licence = (
        "The certificate grants no licence to model, data or code. Licences of the packages are "
        f"in {names.BILL}."
    )
    for entity in (
        _entity(_LICENCE, "CreativeWork", "No licence", description=licence),
        *(_entity(uri, "CreativeWork", n, version=v) for uri, (n, v) in profiles.items()),
        *described,
        *made,
    ):  # what is said of a file in two places is put together
        kind = entity.get("@type")
        found: Any = crate.add_or_update_jsonld(entity)
        if kind:
            found._jsonld["@type"] = kind
    return crate.metadata.generate()


def _to(*identities: str) -> Entity | list[Entity]:
    """Return references to entities; RO-Crate wants one alone outside a list."""
    found = [{"@id": identity} for identity in identities]
    return found[0] if len(found) == 1 else found


def _ids(entities: Iterable[Entity]) -> list[str]:
    return [entity["@id"] for entity in entities]


def _entity(identity: str, kind: str | list[str], name: str, **properties: Any) -> Entity:
    known = {key: value for key, value in properties.items() if value not in (None, [])}
    return {"@id": identity, "@type": kind, "name": name, **known}


def _file(name: str, **known: str) -> Entity:
    about = _OWN.get(name) or names.DOCUMENTS[name]
    kind = _FORMATS.get(PurePosixPath(name).suffix, "text/plain")
    return _entity(name, "File", name, description=about, encodingFormat=kind, **known)


def _values(group: str, values: Mapping[str, Any]) -> list[Entity]:
    return [
        _entity(f"#{group}-{name}", "PropertyValue", name, value=str(value))
        for name, value in values.items()
    ]


def _chain(certificate: Certificate) -> Iterator[Entity]:
    """Yield what the model is and comes from, the decisions on it, and the audit."""
    record = certificate.record
    keys = ("lineage_sha256", "params_sha256", "environment_sha256", "head", "seed", "device")
    ids = {f"ids.{name}": value for name, value in (record.get("ids") or {}).items()}
    said = {key: record[key] for key in keys if record.get(key) is not None}
    noted = _values("record", {**said, **ids})
    yield _entity(
        _MODEL,
        "CreativeWork",
        certificate.model,
        version=str(certificate.version),
        isBasedOn=_to(_DATASET, _COMMIT),
        additionalProperty=_to(*_ids(noted)),
        sha256=entry(record, "model", "sha256"),
        md5=entry(record, "model", "md5"),
    )
    yield from noted
    commit = entry(record, "snapshot", "commit")
    yield _entity(_COMMIT, "SoftwareSourceCode", "Snapshot of the code", version=commit)
    for number, decided in enumerate(reversed(certificate.decisions), 1):
        what = f"Version {decided.version}: {decided.decision}"
        own = _to(_MODEL) if decided.version == certificate.version else None
        why = {"description": decided.reason, "endTime": decided.sealed, "object": own}
        yield _entity(f"#decision-{number}", "ChooseAction", what, **why)
    yield _action(
        "#audit",
        f"Audit of {certificate.model}",
        "Every link of the lineage was held against its content.",
        endTime=certificate.made,
        instrument=_to(_TOOL),
        object=_to(_MODEL),
        result=_to(names.AUDIT, names.PAGE),
    )


def _action(identity: str, name: str, description: str, **properties: Any) -> Entity:
    return _entity(identity, "CreateAction", name, description=description, **properties)


def _line(certificate: Certificate) -> Iterator[Entity]:
    """Yield the dataset, the programs, and the actions that made the model."""
    record = certificate.record
    md5, files = str(entry(record, "data", "md5")), entry(record, "data", "files") or ()
    sources = [
        _entity(f"#source-{f['sha256'][:16]}", "CreativeWork", str(f["file"]), sha256=f["sha256"])
        for f in files
    ]
    yield from sources
    based = _to(*_ids(sources)) if sources else None
    yield _entity(_DATASET, "CreativeWork", f"Dataset {md5}", version=md5, isBasedOn=based)
    yield _entity(_TOOL, "SoftwareApplication", "MNO", softwareVersion=__version__)
    begun, ended = entry(record, "times", "started"), entry(record, "times", "registered")
    times, whole = (
        {"startTime": begun, "endTime": ended},
        "Made the model, from the parameters to its figures",
    )
    if WORKFLOW not in certificate.documents:
        uses = {"instrument": _to(_TOOL), "object": _to(_DATASET), "result": _to(_MODEL)}
        yield _action("#run-train", "Training", whole, **times, **uses)
        return
    yield from _workflow(certificate)
    machine = {k: v for k, v in (record.get("machine") or {}).items() if v is not None}
    facts, chosen = _values("machine", machine), _values("parameter", certificate.params)
    yield from (*facts, *chosen)
    has = {name: [name] if name in certificate.documents else [] for name in _SLOTS}
    data, weights, metrics = (has[n] for n in (names.DATA_FILES, names.WEIGHTS, names.METRICS))
    yield _action(
        _RUN,
        "Run of the line",
        whole,
        **times,
        instrument=_to(WORKFLOW),
        object=_to(*has[PARAMS], *_ids(chosen), *_ids(sources)),
        result=_to(_DATASET, _MODEL, *data, *weights, *metrics),
        additionalProperty=_to(*_ids(facts)),
    )
    for stage, (given, made) in {
        "generate": ([*has[PARAMS], *_ids(sources)], [_DATASET, *data]),
        "train": ([_DATASET, *has[PARAMS]], [_MODEL, *weights]),
        "evaluate": ([_DATASET, _MODEL, *has[PARAMS]], metrics),
    }.items():
        step, run, name = _to(f"#step-{stage}"), f"#run-{stage}", f"Step {stage}"
        control = {"instrument": step, "object": _to(run)}
        yield _entity(f"#control-{stage}", "ControlAction", name, **control)
        uses = {"instrument": _to(f"#stage-{stage}"), "object": _to(*given), "result": _to(*made)}
        yield _action(run, f"Run of {stage}", _DOES[stage], **uses)


def _workflow(certificate: Certificate) -> Iterator[Entity]:
    """Yield the stages as DVC knows them, and each as a program and a step."""
    commit = str(entry(certificate.record, "snapshot", "commit"))
    slots = {name: f"#{slot}" for name, slot in _SLOTS.items() if name in certificate.documents}
    outputs = [slot for name, slot in slots.items() if name != PARAMS]
    yield _entity(
        WORKFLOW,
        ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        "The production line, from data to evaluated model",
        version=commit,
        conformsTo=_to(_WORKFLOW_PROFILE),
        programmingLanguage=_to(_LANGUAGE),
        hasPart=_to(*(f"#stage-{stage}" for stage in MAKING)),
        step=_to(*(f"#step-{stage}" for stage in MAKING)),
        input=_to(slots[PARAMS]) if PARAMS in slots else None,
        output=_to(*outputs) if outputs else None,
    )
    yield _entity(_LANGUAGE, "ComputerLanguage", "DVC pipeline", url=_DVC_URL)
    for name, slot in slots.items():
        of = {"additionalType": "File", "workExample": _to(name)}
        yield _entity(slot, "FormalParameter", slot.rpartition("-")[2], **of)
        yield {"@id": name, "exampleOfWork": _to(slot)}
    for position, stage in enumerate(MAKING, 1):
        program, command = f"#stage-{stage}", f"python -m pipelines.{stage}"
        does = {"description": _DOES[stage], "version": commit}
        yield _entity(program, "SoftwareSourceCode", command, **does)
        runs = {"position": str(position), "workExample": _to(program)}
        yield _entity(f"#step-{stage}", "HowToStep", stage, **runs)
    versions = {package.name: package.version for package in certificate.packages}
    about = {"url": "https://dvc.org", "softwareVersion": versions.get("dvc", "not known")}
    yield _entity(_ENGINE, "SoftwareApplication", "DVC", **about)
    controls = _to(*(f"#control-{stage}" for stage in MAKING))
    uses = {"instrument": _to(_ENGINE), "object": controls, "result": _to(_RUN)}
    yield _entity("#organisation", "OrganizeAction", "Run of the line by DVC", **uses)


def bill_of_materials(certificate: Certificate) -> dict[str, Any]:
    """Return the packages that a model was made with, the model being what they are parts of."""
    name, version = certificate.name, str(certificate.version)
    kind = ComponentType.MACHINE_LEARNING_MODEL
    model = Component(type=kind, bom_ref=certificate.model, name=name, version=version)
    parts = [_component(package) for package in certificate.packages]
    made = f"{certificate.model} {certificate.made}"
    bill = Bom(components=parts, serial_number=uuid5(NAMESPACE_URL, made))
    bill.register_dependency(model, parts)
    bill.metadata.component = model
    bill.metadata.timestamp = datetime.fromisoformat(certificate.made)
    tool = Component(type=ComponentType.APPLICATION, name="mno", version=__version__)
    bill.metadata.tools.components.add(tool)
    digest = certificate.record.get("environment_sha256")
    facts = {**(entry(certificate.record, "machine") or {}), "environment_sha256": digest}
    for name, value in facts.items():
        if value is not None:
            bill.metadata.properties.add(Property(name=f"mno:{name}", value=str(value)))
    return json.loads(JsonV1Dot6(bill).output_as_string())


def _component(package: Package) -> Any:
    name, version, licence = package
    url = PackageURL("pypi", None, name, version)
    about = {"type": ComponentType.LIBRARY, "bom_ref": str(url), "purl": url}
    licences = [LicenseFactory().make_from_string(licence)] if licence else []
    return Component(name=name, version=version, licenses=licences, **about)
