from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mno.certificate.content import Certificate, certificate_of
from mno.certificate.folder import certificate_files, write_certificate
from mno.lineage.audit.walk import audit
from tests.support.audited_line import Line


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def certificate(line: Line) -> Certificate:
    """Of the second version, as it is when nothing was changed."""
    with line.evidence() as evidence:
        return certificate_of(evidence, audit(evidence), "2026-01-02T03:04:05+00:00")


@pytest.fixture(scope="session")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def folder(certificate: Certificate, key: Ed25519PrivateKey, tmp_path: Path) -> Path:
    """A signed certificate of its own for each test."""
    write_certificate(tmp_path / "certificate", certificate_files(certificate, key))
    return tmp_path / "certificate"
