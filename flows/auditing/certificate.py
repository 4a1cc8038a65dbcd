"""Certificates of audits: `mno audit --certificate`, `mno audit verify` and `mno audit keygen`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from flows.audit import STYLES
from flows.workspace import find_workspace, prepare_environment
from mno.core.errors import InputError, MnoError
from mno.lineage.audit.finding import Finding, Verdict, differs

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from mno.certificate.content import Certificate


@dataclass(frozen=True)
class Order:
    """What is to be done with the certificate of an audit.

    Attributes:
        folder: Where it is written; none for nowhere.
        key: What it is signed with; none leaves it unsigned.
        log: Whether it is kept with the version in the registry.
    """

    folder: Path | None = None
    key: Ed25519PrivateKey | None = None
    log: bool = False

    @classmethod
    def given(cls, folder: Path | None, key: Path | None, log: bool) -> Order:
        """Return the order, checked before the work is done.

        Raises:
            InputError: The folder cannot be written, the key cannot be used, or it is of no use.
        """
        if folder is None and not log:
            if key is not None:
                raise InputError("--sign needs a certificate to sign: add --certificate FOLDER")
            return cls()
        from mno.certificate.folder import check_place
        from mno.certificate.keys import read_private

        if folder is not None:
            check_place(folder, find_workspace())
        return cls(folder, read_private(key) if key else None, log)

    @property
    def wanted(self) -> bool:
        """Whether there is to be a certificate."""
        return self.folder is not None or self.log

    def deliver(self, certificate: Certificate | None) -> dict[str, Any]:
        """Write the certificate and keep it in the registry, as ordered; return where it is.

        Raises:
            MnoError: The folder cannot be written to.
        """
        if certificate is None:
            return {}
        from mno.certificate.folder import certificate_files, write_certificate

        files = certificate_files(certificate, self.key)
        if self.folder is not None:
            try:
                write_certificate(self.folder, files)
            except OSError as error:
                raise MnoError(f"{self.folder} cannot be written: {error.strerror}") from None
        logged = _log(certificate, files) if self.log else None
        return {
            "folder": str(self.folder) if self.folder else None,
            "signed": self.key is not None,
            "logged": logged,
        }

    def remarks(self, delivered: Mapping[str, Any]) -> Iterator[str]:
        """Yield what a person is told of the certificate, and what to do next."""
        if not delivered:
            return
        if self.folder is not None:
            yield f"Certificate: {self.folder / 'certificate.html'}"
            yield f"Check it with: mno audit verify {self.folder}"
        if delivered["logged"]:
            yield f"Kept with the version: {delivered['logged']}"


def _log(certificate: Certificate, files: Mapping[str, bytes]) -> str:
    from mno.registry.certificates import log_certificate
    from mno.registry.evidence import existing_workspace

    workspace = existing_workspace(find_workspace())
    return log_certificate(workspace, certificate.name, certificate.version, files)


@dataclass(frozen=True)
class Verification:
    """What verifying a certificate has found.

    Attributes:
        certificate: What was verified.
        model: The version that it says it is of.
        audit_passed: What it says the audit came to; none where it does not say.
        findings: One for each subject.
    """

    certificate: str
    model: str
    audit_passed: bool | None
    findings: Sequence[Finding]

    @property
    def passed(self) -> bool:
        """Whether the certificate is as it was written."""
        return not differs(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "certificate": self.certificate,
            "model": self.model,
            "audit_passed": self.audit_passed,
            "passed": self.passed,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def verify(target: str, key: Path | None) -> Verification:
    """Verify a certificate.

    Args:
        target: Its folder, the page in it, or a registered version that one is kept with.
        key: The public key that it must be signed with.

    Raises:
        InputError: There is no such certificate, or no such key.
        MnoError: The registry cannot be used.
    """
    from mno.certificate.keys import read_public
    from mno.certificate.verify import summary, verify_certificate

    trusted = read_public(key) if key else None
    with _folder(target) as (folder, findings):
        found = [*findings, *verify_certificate(folder, trusted)]
        return Verification(target, *summary(folder), found)


@contextmanager
def _folder(target: str) -> Iterator[tuple[Path, list[Finding]]]:
    """Yield a certificate's folder, and what the registry's name for it comes to."""
    from mno.certificate.verify import certificate_folder

    if not target.startswith(("models:", "runs:")):
        yield certificate_folder(Path(target)), []
        return
    from mno.registry.certificates import logged_certificate
    from mno.registry.evidence import existing_workspace, find_model

    root = find_workspace()
    prepare_environment(root)
    workspace = existing_workspace(root)
    name, version = find_model(workspace, target)
    with TemporaryDirectory(prefix="mno-certificate-") as scratch:
        yield logged_certificate(workspace, name, version, Path(scratch))


def print_verification(found: Verification, console: Console, everything: bool) -> None:
    """Say what differs, who signed, and what the certificate says."""
    console.print(f"Certificate of {found.model}: {found.certificate}\n")
    for finding in found.findings:
        if everything or finding.verdict is not Verdict.VERIFIED or finding.link == "signature":
            mark = Text(f"{finding.verdict:<16}", style=STYLES[finding.verdict])
            console.print(Text.assemble(mark, f"{finding.link:<11}", finding.subject))
            for name in ("expected", "found", "advice"):
                if getattr(finding, name):
                    label = "do" if name == "advice" else name
                    console.print(f"{'':<16}{label:<11}{getattr(finding, name)}")
    console.print()
    for line in _conclusion(found):
        console.print(line)


def _conclusion(found: Verification) -> Iterator[Text]:
    bad = sum(finding.verdict.is_difference for finding in found.findings)
    if bad:
        plural = "differences" if bad > 1 else "difference"
        yield Text(f"FAILED: {bad} {plural}; do not rely on what it says", style="bold red")
        return
    good = sum(finding.verdict is Verdict.VERIFIED for finding in found.findings)
    yield Text(f"PASSED: it is as it was written, {good} checks verified", style="bold green")
    if found.audit_passed:
        yield Text("It certifies that the audit found no difference.")
    else:
        yield Text("It says that the audit FOUND DIFFERENCES; read certificate.html.", "bold red")
