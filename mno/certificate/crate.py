"""The certificate for programs: an RO-Crate 1.1 of the profile Provenance Run Crate 0.5.

https://www.researchobject.org/ro-crate/specification/1.1/ and
https://www.researchobject.org/workflow-run-crate/profiles/provenance_run_crate. Where the snapshot
of the code is not at hand there is no workflow to name, and the crate is a Process Run Crate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from mno.certificate.content import DOCUMENTS, WORKFLOW, Certificate
from mno.certificate.entities import (
    COMMIT,
    DATASET,
    MODEL,
    TOOL,
    Entity,
    property_values,
    reference,
    references,
)
from mno.certificate.names import AUDIT, BILL, METADATA, PAGE, SIGNATURE, SIGNER, SUMS
from mno.certificate.run import line_entities
from mno.lineage.audit.evidence import entry

_CRATE = "https://w3id.org/ro/crate/1.1"
_TERMS = "https://w3id.org/ro/terms/workflow-run#"
_RUNS = "https://w3id.org/ro/wfrun"
_WORKFLOWS = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
_PROFILES = {
    f"{_RUNS}/process/0.5": ("Process Run Crate", "0.5"),
    f"{_RUNS}/workflow/0.5": ("Workflow Run Crate", "0.5"),
    f"{_RUNS}/provenance/0.5": ("Provenance Run Crate", "0.5"),
    _WORKFLOWS: ("Workflow RO-Crate", "1.0"),
}
_LICENCE = "#licence"
_FORMATS = {
    ".json": "application/json",
    ".html": "text/html",
    ".yaml": "application/yaml",
    ".dvc": "application/yaml",
    ".txt": "text/plain",
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
    later = (SUMS, SIGNATURE, SIGNER) if signed else (SUMS,)
    described = [_file(name, content) for name, content in files.items()]
    described += [_file(name, None) for name in later]
    made: list[Entity] = [*_chain(certificate), *line_entities(certificate)]
    actions = (e["@id"] for e in made if str(e.get("@type")).endswith("Action"))
    graph: list[Entity] = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": reference("./"),
            "conformsTo": references([_CRATE, *([_WORKFLOWS] if whole else ())]),
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"Certificate of {certificate.name} version {certificate.version}",
            "description": "Lineage of a registered model, audited link by link: "
            + ("nothing differs." if certificate.passed else "differences were found."),
            "datePublished": certificate.made,
            "license": reference(_LICENCE),
            "conformsTo": references(profiles),
            "hasPart": references(entity["@id"] for entity in described),
            "mentions": references(actions),
            "about": reference(MODEL),
            **({"mainEntity": reference(WORKFLOW)} if whole else {}),
        },
        {
            "@id": _LICENCE,
            "@type": "CreativeWork",
            "name": "No licence",
            "description": "The certificate grants no licence to model, data or code. Licences of "
            f"the packages are in {BILL}.",
        },
        *(
            {"@id": uri, "@type": "CreativeWork", "name": name, "version": version}
            for uri, (name, version) in profiles.items()
        ),
    ]
    return {
        "@context": [f"{_CRATE}/context", {name: _TERMS + name for name in ("sha256", "md5")}],
        "@graph": _merged([*graph, *described, *made]),
    }


def _file(name: str, content: bytes | None) -> Entity:
    suffix = name[name.rfind(".") :]
    entity: Entity = {
        "@id": name,
        "@type": "File",
        "name": name,
        "description": _OWN.get(name) or DOCUMENTS[name],
        "encodingFormat": _FORMATS.get(suffix, "text/plain"),
    }
    if content is None:
        return entity
    sha256 = hashlib.sha256(content).hexdigest()
    return {**entity, "contentSize": str(len(content)), "sha256": sha256}


def _chain(certificate: Certificate) -> Iterator[Entity]:
    """Yield what the model is and comes from, the decisions on it, and the audit."""
    record = certificate.record
    yield {
        "@id": MODEL,
        "@type": "CreativeWork",
        "name": certificate.model,
        "version": str(certificate.version),
        "isBasedOn": references([DATASET, COMMIT]),
        "additionalProperty": references(e["@id"] for e in property_values("record", _ids(record))),
        **_known("sha256", entry(record, "model", "sha256")),
        **_known("md5", entry(record, "model", "md5")),
    }
    yield from property_values("record", _ids(record))
    yield {
        "@id": COMMIT,
        "@type": "SoftwareSourceCode",
        "name": "Snapshot of the code",
        **_known("version", entry(record, "snapshot", "commit")),
    }
    yield from _decisions(certificate)
    yield {
        "@id": "#audit",
        "@type": "CreateAction",
        "name": f"Audit of {certificate.model}",
        "description": "Every link of the lineage was held against its content.",
        "endTime": certificate.made,
        "instrument": reference(TOOL),
        "object": reference(MODEL),
        "result": references([AUDIT, PAGE]),
    }


def _decisions(certificate: Certificate) -> Iterator[Entity]:
    for number, decision in enumerate(reversed(certificate.decisions), 1):
        own = decision.version == certificate.version
        yield {
            "@id": f"#decision-{number}",
            "@type": "ChooseAction",
            "name": f"Version {decision.version}: {decision.decision}",
            "description": decision.reason,
            "endTime": decision.sealed,
            **({"object": reference(MODEL)} if own else {}),
        }


def _ids(record: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("lineage_sha256", "params_sha256", "environment_sha256", "head", "seed", "device")
    ids = {f"ids.{name}": value for name, value in (record.get("ids") or {}).items()}
    return {**{key: record[key] for key in keys if record.get(key) is not None}, **ids}


def _known(name: str, value: Any) -> Entity:
    return {name: value} if value else {}


def _merged(entities: list[Entity]) -> list[Entity]:
    """Return one entity for each id; what is said of a file in two places is put together."""
    found: dict[str, Entity] = {}
    for entity in entities:
        found[entity["@id"]] = {**found.get(entity["@id"], {}), **entity}
    return list(found.values())
