"""Link: the files that the data were imported from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mno.core.config import IMPORTED
from mno.core.errors import MnoError
from mno.data.reading import verify
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding, Link
from mno.lineage.audit.objects import digests
from mno.lineage.audit.tree import is_inside

LINK = Link("imported files")


def check(evidence: Evidence) -> Iterator[Finding]:
    """Check imported files where they are at hand, and what they were converted to."""
    params = evidence.tree.params
    given: list[Mapping[str, Any]] = entry(params, "scenarios", IMPORTED, "files") or []
    if entry(params, "scenario") != IMPORTED or not given:
        return
    recorded = {f["file"]: f["sha256"] for f in entry(evidence.record, "data", "files") or []}
    for file in given:
        name, sha256 = file["file"], file["sha256"]
        if recorded:
            yield LINK.equal(f"{name} in the record", sha256, recorded.get(name))
        yield _original(evidence, name, sha256)
        yield _converted(evidence, str(entry(params, "scenarios", IMPORTED, "name")), file)


def _original(evidence: Evidence, name: str, sha256: str) -> Finding:
    folders = [evidence.root, *evidence.originals]
    inside = [folder / name for folder in folders if is_inside(name)]
    path = next((path for path in inside if path.is_file()), None)
    if path is None:
        return LINK.unknown(
            name,
            "the file is not at hand",
            f"name its folder with --originals, or compare by hand: sha256sum {name}; {sha256}",
        )
    return LINK.equal(f"{name} ({path.parent})", sha256, digests(path).sha256)


def _converted(evidence: Evidence, dataset: str, file: Mapping[str, Any]) -> Finding:
    """Check the converted file that the stage generate reads."""
    subject, content = f"{file['file']} as converted", str(file.get("content"))
    folder = Path("build/imported") / dataset / "parts" / content[:16]
    path = evidence.root / folder / "zarr.json"
    if not is_inside(folder.as_posix()) or not path.is_file():
        return LINK.unknown(subject, f"{folder} is not there", "mno import it again to compare")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != content:
        return LINK.changed(subject, content, found, f"remove {folder} and import the file again")
    try:
        problems = verify(evidence.root / folder)
    except MnoError as error:
        problems = [str(error)]
    if problems:
        return LINK.changed(subject, "as it was converted", "; ".join(problems[:3]),
                            f"remove {folder} and import the file again")  # fmt: skip
    return LINK.verified(subject, str(folder))
