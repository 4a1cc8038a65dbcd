"""The environment as a software bill of materials: CycloneDX 1.6 in JSON (ECMA-424)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from mno import __version__
from mno.certificate.content import Certificate
from mno.certificate.packages import Package


def bill_of_materials(certificate: Certificate) -> dict[str, Any]:
    """Return the packages that a model was made with, the model being what they are parts of."""
    record = certificate.record
    machine: Mapping[str, Any] = record.get("machine") or {}
    facts = {**machine, "environment_sha256": record.get("environment_sha256")}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": certificate.made,
            "tools": {
                "components": [{"type": "application", "name": "mno", "version": __version__}]
            },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": certificate.model,
                "name": certificate.name,
                "version": str(certificate.version),
            },
            "properties": [
                {"name": f"mno:{name}", "value": str(value)}
                for name, value in facts.items()
                if value is not None
            ],
        },
        "components": [_component(package) for package in certificate.packages],
        "dependencies": [
            {
                "ref": certificate.model,
                "dependsOn": [_purl(package) for package in certificate.packages],
            }
        ],
    }


def _component(package: Package) -> dict[str, Any]:
    purl = _purl(package)
    component = {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
    }
    if not package.licence:
        return component
    if package.is_expression:
        return {**component, "licenses": [{"expression": package.licence}]}
    return {**component, "licenses": [{"license": {"name": package.licence}}]}


def _purl(package: Package) -> str:
    """Return the package's URL (https://github.com/package-url/purl-spec, type `pypi`)."""
    return f"pkg:pypi/{quote(package.name, safe='')}@{quote(package.version, safe='')}"
