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
from mno.certificate.content import (
    AUDIT,
    BILL,
    DATA_FILES,
    DOCUMENTS,
    METADATA,
    METRICS,
    PAGE,
    PARAMS,
    SIGNATURE,
    SIGNER,
    SUMS,
    WEIGHTS,
    WORKFLOW,
    Certificate,
    Package,
)
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
    PAGE: "The certificate as a page",
    AUDIT: "What the audit has found, check by check",
    BILL: "The environment as a software bill of materials, CycloneDX 1.6",
    SUMS: "SHA-256 of every file of the certificate",
    SIGNATURE: f"Ed25519 signature over the bytes of {SUMS}",
    SIGNER: "Public key of the signature",
}
_DOES = {
    "generate": "Generates the data, or takes over imported ones",
    "train": "Trains the operator",
    "evaluate": "Evaluates it on the test data",
}
# What goes into the line or comes out of it, by the file that stands for it.
_SLOTS = {
    PARAMS: "input-parameters",
    DATA_FILES: "output-data",
    WEIGHTS: "output-weights",
    METRICS: "output-metrics",
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
    described = [
        *(_file(name, content) for name, content in files.items()),
        *(_file(name, None) for name in ((SUMS, SIGNATURE, SIGNER) if signed else (SUMS,))),
    ]
    made = [*_chain(certificate), *_line(certificate)]
    crate = ROCrate(version=_VERSION)
    crate.metadata.extra_terms |= {name: _TERMS + name for name in ("sha256", "md5")}
    if whole:
        crate.update_jsonld(
            {"@id": METADATA, "conformsTo": _to(crate.metadata.profile, _WORKFLOWS)}
        )
    crate.update_jsonld(
        {
            "@id": "./",
            "name": f"Certificate of {certificate.name} version {certificate.version}",
            "description": "Lineage of a registered model, audited link by link: "
            + ("nothing differs." if certificate.passed else "differences were found."),
            "datePublished": certificate.made,
            "license": _to(_LICENCE),
            "conformsTo": _to(*profiles),
            "hasPart": _to(*(entity["@id"] for entity in described)),
            "mentions": _to(*(e["@id"] for e in made if str(e.get("@type")).endswith("Action"))),
            "about": _to(_MODEL),
            **({"mainEntity": _to(WORKFLOW)} if whole else {}),
        }
    )
    licence = "The certificate grants no licence to model, data or code. Licences of the packages "
    entities = [
        _entity(_LICENCE, "CreativeWork", "No licence", description=f"{licence}are in {BILL}."),
        *(_entity(uri, "CreativeWork", n, version=v) for uri, (n, v) in profiles.items()),
        *described,
        *made,
    ]
    for entity in entities:  # what is said of a file in two places is put together
        kind = entity.get("@type")
        found: Any = crate.add_or_update_jsonld(entity)
        if kind:
            found._jsonld["@type"] = kind
    return crate.metadata.generate()


def _to(*identities: str) -> Entity | list[Entity]:
    """Return references to entities; RO-Crate wants one alone outside a list."""
    found = [{"@id": identity} for identity in identities]
    return found[0] if len(found) == 1 else found


def _entity(identity: str, kind: str | list[str], name: str, **properties: Any) -> Entity:
    known = {key: value for key, value in properties.items() if value not in (None, [])}
    return {"@id": identity, "@type": kind, "name": name, **known}


def _values(group: str, values: Mapping[str, Any]) -> list[Entity]:
    return [
        _entity(f"#{group}-{name}", "PropertyValue", name, value=str(value))
        for name, value in values.items()
    ]


def _ids(entities: Iterable[Entity]) -> list[str]:
    return [entity["@id"] for entity in entities]


def _file(name: str, content: bytes | None) -> Entity:
    known = {}
    if content is not None:
        known = {"contentSize": str(len(content)), "sha256": sha256(content)}
    return _entity(
        name,
        "File",
        name,
        description=_OWN.get(name) or DOCUMENTS[name],
        encodingFormat=_FORMATS.get(name[name.rfind(".") :], "text/plain"),
        **known,
    )


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
    for number, decision in enumerate(reversed(certificate.decisions), 1):
        own = decision.version == certificate.version
        yield _entity(
            f"#decision-{number}",
            "ChooseAction",
            f"Version {decision.version}: {decision.decision}",
            description=decision.reason,
            endTime=decision.sealed,
            object=_to(_MODEL) if own else None,
        )
    yield _entity(
        "#audit",
        "CreateAction",
        f"Audit of {certificate.model}",
        description="Every link of the lineage was held against its content.",
        endTime=certificate.made,
        instrument=_to(_TOOL),
        object=_to(_MODEL),
        result=_to(AUDIT, PAGE),
    )


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
    times = {
        "startTime": entry(record, "times", "started"),
        "endTime": entry(record, "times", "registered"),
    }
    whole = "Made the model, from the parameters to its figures"
    if WORKFLOW not in certificate.documents:
        yield _entity(
            "#run-train", "CreateAction", "Training", description=whole, **times,
            instrument=_to(_TOOL), object=_to(_DATASET), result=_to(_MODEL),
        )  # fmt: skip
        return
    yield from _workflow(certificate)
    machine = {k: v for k, v in (record.get("machine") or {}).items() if v is not None}
    facts, chosen = _values("machine", machine), _values("parameter", certificate.params)
    yield from (*facts, *chosen)
    has = {name: [name] if name in certificate.documents else [] for name in _SLOTS}
    yield _entity(
        _RUN,
        "CreateAction",
        "Run of the line",
        description=whole,
        **times,
        instrument=_to(WORKFLOW),
        object=_to(*has[PARAMS], *_ids(chosen), *_ids(sources)),
        result=_to(_DATASET, _MODEL, *has[DATA_FILES], *has[WEIGHTS], *has[METRICS]),
        additionalProperty=_to(*_ids(facts)),
    )
    made_from = {
        "generate": ([*has[PARAMS], *_ids(sources)], [_DATASET, *has[DATA_FILES]]),
        "train": ([_DATASET, *has[PARAMS]], [_MODEL, *has[WEIGHTS]]),
        "evaluate": ([_DATASET, _MODEL, *has[PARAMS]], has[METRICS]),
    }
    for stage, (given, made) in made_from.items():
        yield _entity(
            f"#control-{stage}", "ControlAction", f"Step {stage}",
            instrument=_to(f"#step-{stage}"), object=_to(f"#run-{stage}"),
        )  # fmt: skip
        yield _entity(
            f"#run-{stage}", "CreateAction", f"Run of {stage}", description=_DOES[stage],
            instrument=_to(f"#stage-{stage}"), object=_to(*given), result=_to(*made),
        )  # fmt: skip


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
    url = "https://dvc.org/doc/user-guide/project-structure/dvcyaml-files"
    yield _entity(_LANGUAGE, "ComputerLanguage", "DVC pipeline", url=url)
    for name, slot in slots.items():
        yield _entity(
            slot, "FormalParameter", slot.rpartition("-")[2], additionalType="File",
            workExample=_to(name),
        )  # fmt: skip
        yield {"@id": name, "exampleOfWork": _to(slot)}
    for position, stage in enumerate(MAKING, 1):
        yield _entity(
            f"#stage-{stage}", "SoftwareSourceCode", f"python -m pipelines.{stage}",
            description=_DOES[stage], version=commit,
        )  # fmt: skip
        yield _entity(
            f"#step-{stage}", "HowToStep", stage, position=str(position),
            workExample=_to(f"#stage-{stage}"),
        )  # fmt: skip
    versions = {package.name: package.version for package in certificate.packages}
    yield _entity(
        _ENGINE, "SoftwareApplication", "DVC", url="https://dvc.org",
        softwareVersion=versions.get("dvc", "not known"),
    )  # fmt: skip
    yield _entity(
        "#organisation", "OrganizeAction", "Run of the line by DVC", instrument=_to(_ENGINE),
        object=_to(*(f"#control-{stage}" for stage in MAKING)), result=_to(_RUN),
    )  # fmt: skip


def bill_of_materials(certificate: Certificate) -> dict[str, Any]:
    """Return the packages that a model was made with, the model being what they are parts of."""
    model = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref=certificate.model,
        name=certificate.name, version=str(certificate.version),
    )  # fmt: skip
    parts = [_component(package) for package in certificate.packages]
    made = f"{certificate.model} {certificate.made}"
    bill = Bom(components=parts, serial_number=uuid5(NAMESPACE_URL, made))
    bill.register_dependency(model, parts)
    machine = entry(certificate.record, "machine") or {}
    digest = certificate.record.get("environment_sha256")
    bill.metadata.component, bill.metadata.timestamp = (
        model,
        datetime.fromisoformat(certificate.made),
    )
    bill.metadata.tools.components.add(
        Component(type=ComponentType.APPLICATION, name="mno", version=__version__)
    )
    for name, value in {**machine, "environment_sha256": digest}.items():
        if value is not None:
            bill.metadata.properties.add(Property(name=f"mno:{name}", value=str(value)))
    return json.loads(JsonV1Dot6(bill).output_as_string())


def _component(package: Package) -> Any:
    url = PackageURL("pypi", None, package.name, package.version)
    licences = [LicenseFactory().make_from_string(package.licence)] if package.licence else []
    return Component(
        type=ComponentType.LIBRARY, bom_ref=str(url), name=package.name, version=package.version,
        purl=url, licenses=licences,
    )  # fmt: skip
