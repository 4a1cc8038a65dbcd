"""The folder of a certificate, put in place in one step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mno.certificate.content import Certificate
from mno.certificate.crate import crate_metadata
from mno.certificate.keys import fingerprint, public_pem
from mno.certificate.names import AUDIT, BILL, METADATA, PAGE, SIGNATURE, SIGNER, SUMS
from mno.certificate.page import render_certificate
from mno.certificate.sbom import bill_of_materials
from mno.core.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# What an audit looks at, and therefore never writes to.
_AUDITED = (".dvc", ".git", "data", "flows", "mlartifacts", "mno", "models", "pipelines")


def check_place(folder: Path, root: Path) -> None:
    """Refuse a place for a certificate before the work is done.

    Args:
        folder: Where the certificate is to go.
        root: The workspace that is audited.

    Raises:
        InputError: There is something already, its parent is no folder, or it is audited itself.
    """
    if folder.exists() or folder.is_symlink():
        raise InputError(
            f"{folder} exists, and a certificate is never overwritten; give a new name"
        )
    place = folder.resolve()
    if not place.parent.is_dir():
        raise InputError(f"{folder.parent} is not a folder; make it first")
    for name in _AUDITED:
        if place.is_relative_to((root / name).resolve()):
            raise InputError(
                f"{folder} is in {name}/, which is audited and must not be written to; "
                "give a place outside, such as reports/certificate"
            )


def certificate_files(
    certificate: Certificate, key: Ed25519PrivateKey | None = None
) -> dict[str, bytes]:
    """Return all files of a certificate by name, the digests of the others and the signature last.

    Args:
        certificate: What is certified.
        key: What to sign with; none leaves it unsigned.
    """
    pem = public_pem(key.public_key()) if key else None
    page = render_certificate(certificate, fingerprint(pem) if pem else None)
    files = {
        PAGE: page.encode(),
        AUDIT: _json(certificate.to_dict()),
        BILL: _json(bill_of_materials(certificate)),
        **certificate.documents,
    }
    files[METADATA] = _json(crate_metadata(certificate, files, signed=key is not None))
    if pem is not None:
        files[SIGNER] = pem
    files[SUMS] = sums_text(files)
    if key is not None:
        files[SIGNATURE] = key.sign(files[SUMS])
    return files


def write_certificate(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a certificate; after a kill there is none, and no harm in trying again.

    Raises:
        OSError: The folder cannot be written to.
    """
    beside = folder.with_name(folder.name + ".partial")
    if beside.is_dir() and not beside.is_symlink():
        shutil.rmtree(beside)
    beside.mkdir()
    for name, content in files.items():
        path = beside / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    os.rename(beside, folder)


def sums_text(files: Mapping[str, bytes]) -> bytes:
    """Return the content of `SHA256SUMS`, as `sha256sum --check` reads it."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
