"""Certificates as a person or a program asks for them, and as they are kept in the registry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flows.certificate import checked, verify
from mno.certificate.content import Certificate
from mno.certificate.folder import certificate_files, write_certificate, write_keys
from mno.certificate.verify import log_certificate
from mno.core.errors import InputError
from mno.lineage.dvcfiles import locked_stages
from mno.lineage.record import Tag
from mno.lineage.seal import CERTIFICATES
from mno.lineage.snapshot import take_snapshot
from mno.registry.sealing import seal_version
from tests.support.audited_line import MODEL, Line
from tests.support.undone_damage import byte
from tests.support.workspaces import Workspace

SECOND = f"models:/{MODEL}/2"


@pytest.fixture
def kept(line: Line) -> Iterator[Line]:
    """Certificates that a test keeps in the registry are removed afterwards."""
    yield line
    shutil.rmtree(line.run_files() / CERTIFICATES, ignore_errors=True)
    client = line.mlflow.client
    if Tag.CERTIFICATE in client.get_model_version(MODEL, "2").tags:
        client.delete_model_version_tag(MODEL, "2", Tag.CERTIFICATE)


def sealed_again(line: Line) -> str:
    snapshot, lock = take_snapshot(line.root), locked_stages(line.root)
    return str(seal_version(line.mlflow, MODEL, 2, line.record(), snapshot, lock))  # type: ignore[arg-type]


def test_an_audit_is_certified_signed_kept_and_verified(kept: Line, tmp_path: Path) -> None:
    workspace, folder, key = Workspace(kept.root), tmp_path / "certificate", tmp_path / "key.pem"
    workspace.mno("certify", "keygen", str(key), check=True)
    order = ("--folder", str(folder), "--sign", str(key), "--log")
    done = workspace.mno("certify", f"models:/{MODEL}@champion", *order, check=True)
    assert f"mno certify verify {folder}" in done.stdout
    done = workspace.mno("certify", "verify", str(folder), "--key", f"{key}.pub", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["model"], told["audit_passed"]) == (0, SECOND, True)
    with byte(folder / "record.json"):
        done = workspace.mno("certify", "verify", str(folder / "certificate.html"))
    assert done.returncode == 3
    assert "record.json" in done.stdout and "FAILED: 1 difference" in done.stdout
    assert kept.differences() == []


def test_one_that_is_kept_changes_nothing_that_is_sealed(
    kept: Line, certificate: Certificate, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kept.root)
    before = kept.mlflow.client.get_model_version(MODEL, "2").tags["mno.seal"]
    log_certificate(kept.mlflow, SECOND, certificate_files(certificate, key))
    assert kept.differences(1) == kept.differences(2) == []
    assert "certificates" in {finding.link for finding in kept.findings()}
    assert verify(SECOND, None).passed
    assert sealed_again(kept) == before


def test_a_change_to_one_that_is_kept_is_found(
    kept: Line, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kept.root)
    log_certificate(kept.mlflow, SECOND, certificate_files(certificate))
    (folder,) = (kept.run_files() / CERTIFICATES).iterdir()
    for name in ("audit.json", "SHA256SUMS"):
        with byte(folder / name):
            assert {found.link for found in kept.differences()} == {"certificates"}
            assert not verify(SECOND, None).passed
    with kept.row("model_version_tags", f"key = '{Tag.CERTIFICATE}'", "value = 'f' || value"):
        assert {found.link for found in kept.differences()} == {"certificates"}
    shutil.rmtree(folder)
    assert {found.link for found in kept.differences()} == {"certificates"}
    with pytest.raises(InputError, match="are gone"):
        verify(SECOND, None)


def test_what_cannot_be_certified_is_wrong_use(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(line.root)
    write_keys(tmp_path / "key.pem")
    for folder, key, message in (
        (tmp_path, None, "exists"),
        (tmp_path / "none/certificate", None, "make it first"),
        (line.root / "data/certificate", None, "is audited"),
        (line.root / ".dvc/cache/certificate", None, "is audited"),
        (None, tmp_path / "key.pem", "add --folder"),
        (tmp_path / "new", tmp_path / "key.pem.pub", "private Ed25519 key"),
        (tmp_path / "new", tmp_path / "nothing.pem", "give the file of a key"),
    ):
        with pytest.raises(InputError, match=message):
            checked(folder, key, log=False)
    with pytest.raises(InputError, match="has no certificate"):
        verify(f"models:/{MODEL}/1", None)


def test_what_a_kill_has_left_does_not_stop_the_next(
    certificate: Certificate, tmp_path: Path
) -> None:
    left = tmp_path / "certificate.partial"
    left.mkdir()
    (left / "half.json").write_text("{")
    write_certificate(tmp_path / "certificate", certificate_files(certificate))
    assert [path.name for path in tmp_path.iterdir()] == ["certificate"]
    assert verify(str(tmp_path / "certificate"), None).passed
