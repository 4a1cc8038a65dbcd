"""The certificate for programs: an RO-Crate, and the environment as a bill of materials.

The crate is an RO-Crate 1.1 of the profile Process Run Crate 0.5:
https://www.researchobject.org/ro-crate/specification/1.1/ and
https://www.researchobject.org/workflow-run-crate/profiles/process_run_crate. The bill is CycloneDX
1.6 in JSON (ECMA-424).
"""

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
from mno.certificate.content import PARAMS, Certificate, Package
from mno.core.files import sha256
from mno.lineage.record import entry

Entity = dict[str, Any]
# Their decorators hide the constructors from type checkers.
Bom: Any = cyclonedx_bom.Bom
Component: Any = cyclonedx_component.Component
ComponentType = cyclonedx_component.ComponentType
Property: Any = cyclonedx_model.Property

_VERSION = "1.1"
_TERMS = "https://w3id.org/ro/terms/workflow-run#"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_MODEL, _DATASET, _COMMIT, _TOOL, _LICENCE = "#model", "#dataset", "#snapshot", "#mno", "#licence"
_FORMATS = {
    ".json": "application/json", ".html": "text/html", ".yaml": "application/yaml",
    ".dvc": "application/yaml", ".pem": "application/x-pem-file",
    ".pdf": "application/pdf", ".sig": "application/vnd.dev.sigstore.bundle.v0.3+json",
    ".safetensors": "application/octet-stream",
}  # fmt: skip


def crate_metadata(
    certificate: Certificate, files: Mapping[str, bytes], signed: bool
) -> dict[str, Any]:
    """Return the content of `ro-crate-metadata.json`.

    The files are all of the folder but those that hold digests of this one, and the signature.
    """
    later = (names.SUMS, names.SIGNATURE, names.SIGNER) if signed else (names.SUMS,)
    described = [
        *(_file(name, contentSize=str(len(c)), sha256=sha256(c)) for name, c in files.items()),
        *(_file(name) for name in later),
    ]
    made = [*_model(certificate), *_actions(certificate)]
    outcome = "nothing differs." if certificate.passed else "differences were found."
    licence = (
        "The certificate grants no licence to model, data or code. Licences of the packages are "
        f"in {names.BILL}."
    )
    crate = ROCrate(version=_VERSION)
    crate.metadata.extra_terms |= {name: _TERMS + name for name in ("sha256", "md5")}
    crate.update_jsonld({
        "@id": "./",
        "name": f"Certificate of {certificate.name} version {certificate.version}",
        "description": f"Lineage of a registered model, audited link by link: {outcome}",
        "datePublished": certificate.made,
        "license": _to(_LICENCE), "conformsTo": _to(_PROFILE), "hasPart": _to(*_ids(described)),
        "mentions": _to(*_ids(e for e in made if e["@type"].endswith("Action"))),
        "about": _to(_MODEL),
    })  # fmt: skip
    about = [
        _entity(_LICENCE, "CreativeWork", "No licence", description=licence),
        _entity(_PROFILE, "CreativeWork", "Process Run Crate", version="0.5"),
    ]
    for entity in (*about, *described, *made):
        crate.add_or_update_jsonld(entity)
    return crate.metadata.generate()


def _to(*identities: str) -> Entity | list[Entity]:
    """Return references to entities; RO-Crate wants one alone outside a list."""
    found = [{"@id": identity} for identity in identities]
    return found[0] if len(found) == 1 else found


def _ids(entities: Iterable[Entity]) -> list[str]:
    return [entity["@id"] for entity in entities]


def _entity(identity: str, kind: str, name: str, **properties: Any) -> Entity:
    known = {key: value for key, value in properties.items() if value not in (None, [])}
    return {"@id": identity, "@type": kind, "name": name, **known}


def _file(name: str, **known: str) -> Entity:
    kind = _FORMATS.get(PurePosixPath(name).suffix, "text/plain")
    return _entity(
        name, "File", name, description=names.described(name), encodingFormat=kind, **known
    )


def _values(group: str, values: Mapping[str, Any]) -> list[Entity]:
    return [
        _entity(f"#{group}-{name}", "PropertyValue", name, value=str(value))
        for name, value in values.items()
        if value is not None
    ]


def _model(certificate: Certificate) -> Iterator[Entity]:
    record = certificate.record
    keys = ("lineage_sha256", "params_sha256", "environment_sha256", "head", "seed", "device")
    ids = {f"ids.{name}": value for name, value in (record.get("ids") or {}).items()}
    noted = _values("record", {**{key: record.get(key) for key in keys}, **ids})
    yield _entity(
        _MODEL, "CreativeWork", certificate.model, version=str(certificate.version),
        isBasedOn=_to(_DATASET, _COMMIT), additionalProperty=_to(*_ids(noted)),
        sha256=entry(record, "model", "sha256"), md5=entry(record, "model", "md5"),
    )  # fmt: skip
    yield from noted
    commit = entry(record, "snapshot", "commit")
    yield _entity(_COMMIT, "SoftwareSourceCode", "Snapshot of the code", version=commit)
    md5, files = str(entry(record, "data", "md5")), entry(record, "data", "files") or ()
    sources = [
        _entity(f"#source-{f['sha256'][:16]}", "CreativeWork", str(f["file"]), sha256=f["sha256"])
        for f in files
    ]
    yield from sources
    based = _to(*_ids(sources)) if sources else None
    yield _entity(_DATASET, "CreativeWork", f"Dataset {md5}", version=md5, isBasedOn=based)
    yield _entity(_TOOL, "SoftwareApplication", "MNO", softwareVersion=__version__)


def _actions(certificate: Certificate) -> Iterator[Entity]:
    """Yield what made the model, the decisions on it, and the audit."""
    record, documents = certificate.record, certificate.documents
    facts = _values("machine", record.get("machine") or {})
    chosen = _values("parameter", certificate.params)
    yield from (*facts, *chosen)
    given = [PARAMS, names.WORKFLOW]
    made = [names.DATA_FILES, names.WEIGHTS, names.METRICS]
    given, made = ([name for name in part if name in documents] for part in (given, made))
    yield _entity(
        "#run", "CreateAction", "Run of the line",
        description="Made the model, from the parameters to its figures: generated the data or "
        "took over imported ones, trained, and evaluated on the test data.",
        startTime=entry(record, "times", "started"), endTime=entry(record, "times", "registered"),
        instrument=_to(_COMMIT), object=_to(*given, *_ids(chosen)),
        result=_to(_DATASET, _MODEL, *made), additionalProperty=_to(*_ids(facts)),
    )  # fmt: skip
    for number, decided in enumerate(reversed(certificate.decisions), 1):
        what = "Version {version}: {decision}".format(**decided)
        own = _to(_MODEL) if decided["version"] == certificate.version else None
        why = {"description": decided["reason"], "endTime": decided["sealed"], "object": own}
        yield _entity(f"#decision-{number}", "ChooseAction", what, **why)
    said = "Every link of the lineage was held against its content."
    made = _to(names.AUDIT, names.PAGE, names.JAPANESE)
    of = {"instrument": _to(_TOOL), "object": _to(_MODEL), "result": made}
    what = {"description": said, "endTime": certificate.made}
    yield _entity("#audit", "CreateAction", f"Audit of {certificate.model}", **what, **of)


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
