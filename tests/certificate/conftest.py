import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mno.certificate.content import certificate_of
from mno.certificate.folder import certificate_files, write_certificate
from mno.lineage.audit.walk import audit


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def certificate(line):
    """Of the second version, as it is when nothing was changed."""
    with line.evidence() as evidence:
        return certificate_of(evidence, audit(evidence), "2026-01-02T03:04:05+00:00")


@pytest.fixture(scope="session")
def key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="session")
def key_file(key, tmp_path_factory):
    return key_file_of(key, tmp_path_factory.mktemp("key"))


def key_file_of(key, folder):
    """Write a private key as OpenSSL does; return its path."""
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "key.pem"
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    return path


@pytest.fixture
def folder(certificate, key, key_file, tmp_path):
    """A signed certificate of its own for each test."""
    write_certificate(tmp_path / "certificate", certificate_files(certificate, key), key_file)
    return tmp_path / "certificate"
