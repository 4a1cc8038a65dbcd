"""The folder of a certificate: put in place in one step, signed, and verified byte by byte.

The signature is a bundle of OpenSSF's model signing over every file of the folder. Keys are
elliptic ones in PEM, as OpenSSL writes them.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mno.certificate import content as names
from mno.certificate.content import METADATA, PAGE, SIGNATURE, SIGNER, SUMS, Certificate
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import file_sha256, replacing_folder, sha256
from mno.lineage.audit import Finding, Link
from mno.lineage.audit.objects import is_inside
from mno.lineage.record import entry

FILES, SIGNED = Link("files"), Link("signature")
# What an audit looks at, and therefore never writes to.
_AUDITED = (".dvc", ".git", "data", "flows", "mlartifacts", "mno", "models", "pipelines")
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")  # of model signing
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)\n")
_COPY = "take an unchanged copy of the certificate, or audit the model again"


def check_place(folder: Path, root: Path) -> None:
    """Refuse a place that exists, is in no folder, or is audited itself, before the audit."""
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
    certificate: Certificate,
    key: ec.EllipticCurvePrivateKey | None = None,
    browser: str | None = None,
) -> dict[str, bytes]:
    """Return all files but the signature, the digests last; by a browser dossiers as PDF, too."""
    from mno.certificate.crate import bill_of_materials, crate_metadata
    from mno.certificate.page import render_certificate, render_dossier
    from mno.report.translated import Phrases

    pem = public_pem(key.public_key()) if key else None
    page = render_certificate(certificate, fingerprint(pem) if pem else None)
    dossier = render_dossier(certificate)
    files = {
        PAGE: page.encode(),
        names.JAPANESE: Phrases.of("ja").page(page).encode(),
        names.DOSSIER: dossier.encode(),
        names.DOSSIER_JAPANESE: Phrases.of("ja").page(dossier).encode(),
        names.AUDIT: _json(certificate.to_dict()),
        names.BILL: _json(bill_of_materials(certificate)),
        **certificate.documents,
    }
    for name in (names.DOSSIER, names.DOSSIER_JAPANESE) if browser else ():
        files[name.replace(".html", ".pdf")] = printed(files[name], str(browser))
    files[METADATA] = _json(crate_metadata(certificate, files, signed=key is not None))
    if pem is not None:
        files[SIGNER] = pem
    files[SUMS] = sums_text(files)
    return files


def printed(page: bytes, browser: str) -> bytes:
    """Return a page as PDF; links, which would lead nowhere from there, become text."""
    with TemporaryDirectory(prefix="mno-print-") as work:
        source, target = Path(work, "page.html"), Path(work, "page.pdf")
        source.write_bytes(re.sub(rb"</?a\b[^>]*>", b"", page))
        flags = ["--headless", "--disable-background-networking", "--no-pdf-header-footer"]
        flags += [f"--user-data-dir={work}/profile", f"--print-to-pdf={target}"]
        flags += ["--no-sandbox"] * (os.geteuid() == 0)  # which Chromium demands of root
        command = [browser, *flags, source.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if not target.exists():
            raise MnoError(f"{browser} cannot print the dossier: {done.stderr.strip()[-200:]}")
        return target.read_bytes()


def write_certificate(folder: Path, files: Mapping[str, bytes], key: Path | None = None) -> None:
    """Write a certificate, and sign it by the file of a key.

    After a kill there is none, and no harm in trying again.
    """
    with replacing_folder(folder) as partial:
        for name, content in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
        if key is not None:
            sign_folder(partial, key)


def sign_folder(folder: Path, key: Path) -> None:
    """Sign every file of a folder: a bundle as `model_signing sign key` writes it."""
    from model_signing import signing

    signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, folder / SIGNATURE)


def sums_text(files: Mapping[str, bytes]) -> bytes:
    """Return the content of `SHA256SUMS`, as `sha256sum --check` reads it."""
    return _sums({name: sha256(content) for name, content in files.items()})


def _sums(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def read_private(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a private key for signing; refuse a file that is none, or has a password."""
    content, key = _read(path), None
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise InputError(
            f"{path} has a password; write it without one to where only you can read: "
            f"openssl pkey -in {path} -out KEY.pem"
        ) from None
    except _UNREADABLE:
        pass
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise InputError(
            f"{path} is no private key of the curves P-256, P-384 or P-521 in PEM; make one with: "
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY.pem"
        )
    return key


def read_public(path: Path) -> bytes:
    """Return a public key in PEM as we write it; refuse a file that is none."""
    if (key := _parse_public(_read(path))) is None:
        raise InputError(
            f"{path} is no public key of these curves in PEM; make that of a private one with: "
            "openssl pkey -in KEY.pem -pubout -out KEY.pem.pub"
        )
    return public_pem(key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the file of a key") from None


def _parse_public(content: bytes) -> ec.EllipticCurvePublicKey | None:
    with suppress(*_UNREADABLE):
        key = serialization.load_pem_public_key(content)
        known = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES
        return key if known else None  # type: ignore[return-value]
    return None


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(pem: bytes) -> str:
    """Return what people compare keys by: SHA-256 of the key in PEM, as `public_pem` writes it."""
    return f"SHA256:{sha256(pem)}"


def certificate_folder(path: Path) -> Path:
    """Return the folder of a certificate, named by it or its page; refuse what is none."""
    folder = path.parent if path.name == PAGE and path.is_file() else path
    if not (folder / SUMS).is_file() and not (folder / METADATA).is_file():
        raise InputError(
            f"{path} is no certificate (no {SUMS} in it); give the folder that "
            "mno certify MODEL --folder FOLDER wrote"
        )
    return folder


def summary(folder: Path) -> tuple[str, bool | None]:
    """Return which model a certificate is of, and whether its audit passed; none if not known."""
    content = None
    with suppress(OSError, ValueError):
        content = json.loads((folder / names.AUDIT).read_bytes())
    passed = entry(content, "passed")
    return _plain(str(entry(content, "model"))), passed if isinstance(passed, bool) else None


def _plain(text: str) -> str:
    """Return a stranger's text without what a terminal would obey."""
    return text if text.isprintable() else ascii(text)


def verify_certificate(folder: Path, trusted: bytes | None = None) -> list[Finding]:
    """Hold every file of a certificate against its digest, and the digests against the signature.

    Nothing outside the folder is read: links and paths that lead out of it are differences. The
    trusted key, in PEM, is the one that it must be signed with; without one the key counts that
    lies beside the signature, of which nobody says whose it is.
    """
    present, findings = _present(folder)
    sums = (folder / SUMS).read_bytes() if SUMS in present else None
    findings += [*_files(folder, present, sums), *_signature(folder, present, trusted)]
    return [replace(f, subject=_plain(f.subject), found=_plain(f.found)) for f in findings]


def _present(folder: Path) -> tuple[set[str], list[Finding]]:
    """Return the plain files in a folder, and what else is there."""
    files, findings = set[str](), list[Finding]()
    for place, folders, others in os.walk(folder):
        for name in (*folders, *others):
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                findings.append(FILES.changed(relative, "a file", "a link or device", "remove it"))
            elif path.is_file():
                files.add(relative)
    return files, findings


def _files(folder: Path, present: set[str], sums: bytes | None) -> Iterator[Finding]:
    """Hold the files against the digests in `SHA256SUMS`, which may be written in one way only."""
    if sums is None:
        yield FILES.missing(SUMS, "the digests of all files", _COPY)
        return
    digests = {name: digest for digest, name in _LINE.findall(sums.decode(errors="replace"))}
    if outside := [name for name in digests if not is_inside(name)]:
        yield FILES.changed(SUMS, "files in the folder", f"{outside[0]}, outside", _COPY)
        return
    if not digests or _sums(digests) != sums:
        yield FILES.changed(SUMS, "each file once, in order", "something else", _COPY)
        return
    for name, digest in digests.items():
        found = file_sha256(folder / name) if name in present else None
        yield FILES.equal(name, digest, found, _COPY)
    for name in sorted(present - digests.keys() - {SUMS, SIGNATURE}):
        yield FILES.changed(name, "no such file", "a file", "remove it")
    for name in (PAGE, METADATA):
        if name not in digests:
            yield FILES.changed(SUMS, f"a digest of {name}", "none", _COPY)


def _signature(folder: Path, present: set[str], trusted: bytes | None) -> Iterator[Finding]:
    lacking = sorted({SIGNATURE, SIGNER} - present)
    if len(lacking) == 2:
        if trusted is not None:
            advice = "ask for a signed certificate: mno certify MODEL --sign KEY.pem"
            yield SIGNED.missing(SIGNATURE, f"a signature of {fingerprint(trusted)}", advice)
        else:
            why = "it is not signed: who can change all of it, can do so without trace"
            yield SIGNED.unknown("signer", why)
        return
    for name in lacking:
        yield SIGNED.missing(name, "beside the other", _COPY)
    if lacking:
        return
    pem = (folder / SIGNER).read_bytes()
    shown, subject = fingerprint(pem), f"{SIGNATURE} over all files"
    if _parse_public(pem) is None:
        yield SIGNED.changed(SIGNER, "a public key of model signing", "something else", _COPY)
        return
    if why := _not_signed(folder):
        yield SIGNED.changed(subject, f"a signature of {shown}", why, _COPY)
        return
    yield SIGNED.verified(subject, shown)
    if trusted is None:
        why = f"give the public key that you trust with --key, or compare {shown}"
        yield SIGNED.unknown("signer", why)
    else:
        yield SIGNED.equal("signer", fingerprint(trusted), shown, "it was signed by somebody else")


def _not_signed(folder: Path) -> str:
    """Return why a folder is not what its signature says, by the key beside it; empty if it is."""
    from model_signing import hashing, verifying

    files = hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=True)
    config = verifying.Config().use_elliptic_key_verifier(public_key=folder / SIGNER)
    try:
        config.set_hashing_config(files).verify(folder, folder / SIGNATURE)
    except Exception as error:  # whatever bytes of somebody else's make of its parsers
        return first_line(error) or type(error).__name__
    return ""
