"""Certificates that are kept with a version: files of its run, and a tag that names the last.

A seal covers neither, so that keeping one changes nothing that an audit looks at.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from mno.certificate.names import SUMS
from mno.core.errors import InputError, MnoError
from mno.lineage.audit.finding import Finding, Link
from mno.registry.facts import CERTIFICATE, CERTIFICATES, run_folder
from mno.registry.settings import Workspace

LINK = Link("registry")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def log_certificate(
    workspace: Workspace, name: str, version: int, files: Mapping[str, bytes]
) -> str:
    """Keep a certificate among the files of a version's run, and name it in the version's tag.

    The tag comes last: after a kill it names the certificate before, which is whole.

    Args:
        workspace: The MLflow that the version is in.
        name: The registered model.
        version: The version's number.
        files: The certificate's files by name.

    Returns:
        Where it is, as `runs:/ID/PATH`.

    Raises:
        MnoError: The version has no run, or MLflow cannot write.
    """
    from mlflow.exceptions import MlflowException

    client = workspace.client
    run_id = client.get_model_version(name, str(version)).run_id
    if not run_id:
        raise MnoError(f"models:/{name}/{version} has no run to keep a certificate with")
    digest = hashlib.sha256(files[SUMS]).hexdigest()
    path = f"{CERTIFICATES}/{digest}"
    try:
        with TemporaryDirectory(prefix="mno-certificate-") as folder:
            for file, content in files.items():
                place = Path(folder, file)
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(content)
            client.log_artifacts(run_id, folder, path)
        client.set_model_version_tag(name, str(version), CERTIFICATE, digest)
    except (MlflowException, OSError) as error:
        raise MnoError(f"the certificate cannot be kept in the registry: {error}") from None
    return f"runs:/{run_id}/{path}"


def logged_certificate(
    workspace: Workspace, name: str, version: int, scratch: Path
) -> tuple[Path, list[Finding]]:
    """Return the folder of the certificate that was last kept with a version.

    Args:
        workspace: The MLflow to ask.
        name: The registered model.
        version: The version's number.
        scratch: Where files of a distant store are copied to.

    Returns:
        The folder, and whether its digests are those that the version names.

    Raises:
        InputError: None was kept, or its files are gone.
    """
    row, uri = workspace.client.get_model_version(name, str(version)), f"models:/{name}/{version}"
    digest = row.tags.get(CERTIFICATE, "")
    if not _SHA256.fullmatch(digest):
        raise InputError(f"{uri} has no certificate; make one with: mno audit {uri} --log")
    run = run_folder(workspace, row.run_id, scratch)
    folder = run / CERTIFICATES / digest if run else None
    if folder is None or not (folder / SUMS).is_file():
        raise InputError(
            f"the files of the certificate of {uri} are gone ({CERTIFICATES}/{digest[:12]}… of its "
            f"run); make a new one with: mno audit {uri} --log"
        )
    found = hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()
    return folder, [LINK.equal(f"{SUMS}, by the version's tag {CERTIFICATE}", digest, found)]
