"""The folder of a certificate, put in place in one step; and the keys that it is signed with.

Keys and signatures are Ed25519 (RFC 8032), in the files that OpenSSL reads and writes, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from mno.certificate.content import (
    AUDIT,
    BILL,
    METADATA,
    PAGE,
    SIGNATURE,
    SIGNER,
    SUMS,
    Certificate,
)
from mno.core.errors import InputError
from mno.core.files import replacing_folder, sha256

# What an audit looks at, and therefore never writes to.
_AUDITED = (".dvc", ".git", "data", "flows", "mlartifacts", "mno", "models", "pipelines")
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)


def check_place(folder: Path, root: Path) -> None:
    """Refuse a place for a certificate, before the audit of the workspace is done.

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

    Without a key it is not signed.
    """
    from mno.certificate.crate import bill_of_materials, crate_metadata
    from mno.certificate.page import render_certificate

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
    """Write a certificate; after a kill there is none, and no harm in trying again."""
    with replacing_folder(folder) as partial:
        for name, content in files.items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_bytes(content)


def sums_text(files: Mapping[str, bytes]) -> bytes:
    """Return the content of `SHA256SUMS`, as `sha256sum --check` reads it."""
    return "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files)).encode()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def write_keys(private: Path) -> tuple[Path, str]:
    """Make a pair of keys: `FILE`, which only its owner may read, and `FILE.pub`.

    Returns:
        The path of the public key, and the fingerprint of the pair.

    Raises:
        InputError: One of the files exists, or the folder does not.
    """
    public = private.with_name(private.name + ".pub")
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise InputError(f"{path} exists, and a key is never overwritten; give another name")
    if not private.parent.is_dir():
        raise InputError(f"{private.parent} is not a folder; make it first")
    key = Ed25519PrivateKey.generate()
    pem = public_pem(key.public_key())
    _write_new(public, pem, 0o644)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_new(private, secret, 0o600)
    return public, fingerprint(pem)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Put a new file in place in one step, for whom it is meant from the beginning."""
    beside = path.with_name(path.name + ".partial")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    try:
        os.link(beside, path)  # unlike a rename, never over what somebody has put there
    except FileExistsError:
        raise InputError(f"{path} exists, and a key is never overwritten") from None
    finally:
        beside.unlink()


def read_private(path: Path) -> Ed25519PrivateKey:
    """Read a private key for signing.

    Raises:
        InputError: The file is none, of another kind, or has a password.
    """
    content, key = _read(path), None
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise InputError(
            f"{path} has a password; write it without one to where only you can read: "
            f"openssl pkey -in {path} -out KEY.pem"
        ) from None
    except _UNREADABLE:
        pass
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"{path} is no private Ed25519 key in PEM; make one with: mno certify keygen KEY.pem"
        )
    return key


def read_public(path: Path) -> bytes:
    """Return a public key in PEM as we write it.

    Raises:
        InputError: The file is none, or of another kind.
    """
    key = parse_public(_read(path))
    if key is None:
        raise InputError(f"{path} is no public Ed25519 key in PEM; expected what is in KEY.pem.pub")
    return public_pem(key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the file of a key") from None


def parse_public(content: bytes) -> Ed25519PublicKey | None:
    """Return the public key in a PEM text; none where it is none."""
    with suppress(*_UNREADABLE):
        key = load_pem_public_key(content)
        return key if isinstance(key, Ed25519PublicKey) else None
    return None


def public_pem(key: Ed25519PublicKey) -> bytes:
    """Return a public key in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(pem: bytes) -> str:
    """Return what people compare keys by: SHA-256 of the key in PEM, as `public_pem` writes it."""
    return f"SHA256:{sha256(pem)}"


def is_signed(content: bytes, signature: bytes, key: Ed25519PublicKey) -> bool:
    """Tell whether a signature over a content was made with a key."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True
