"""What the registry says of a version, found by any of its names, gathered for an audit, or sealed.

The same function reads it when a version is sealed and when it is audited. It reads files where
they lie, since MLflow's own download leaves a note in the folder of a package.
"""

import atexit
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from urllib.parse import urlparse

from mno.core.errors import InputError, MnoError
from mno.core.files import file_sha256, folder_files, names_sha256
from mno.lineage import seal as seals
from mno.lineage.audit import Evidence
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import PACKAGED, Record, Tag, candidate_digest
from mno.lineage.seal import Seal, SealPointer
from mno.lineage.snapshot import Snapshot
from mno.registry import catalogue
from mno.registry.catalogue import Registry, aliases, find_version_of, local_path, registry_of
from mno.registry.settings import Workspace, import_mlflow

_RUN = re.compile(r"runs:/([0-9a-f]+)(?:/.*)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
DESCRIPTION = "surrogate.json"  # beside the weights of every model
_PASSING = (Tag.OWNER, Tag.STATE, Tag.WORKSPACE)  # of who works on a run, not of what came of it
_REGISTERED_META = "registered_model_meta"  # loading it may leave that in a package


def read_facts(registry: Registry, version: RegisteredVersion, scratch: Path) -> dict[str, Any]:
    """Read what the registry holds of a version; files of a distant store are copied to `scratch`.

    That is `version`, `logged_model`, `package` (SHA-256 by file) and `run`, or none of these.
    """
    package, source = package_folder(registry, version, scratch), version.source or ""
    model = None
    if source.startswith("models:/"):
        model = registry.logged_model(source.removeprefix("models:/"))
    run = registry.run(version.run_id) if version.run_id else None
    if run is not None:
        folder = run_folder(registry, version.run_id, scratch)
        run["tags"] = _our_tags(run["tags"], *_PASSING)
        # Without what has digests of its own and comes later.
        run["files"] = folder and {
            name: file_sha256(path)
            for name, path in folder_files(folder).items()
            if name.split("/")[0] != seals.SEALS
        }
    return {
        "version": {
            "source": version.source, "files": registry.location(version),
            "run": version.run_id, "created": version.created,
            "tags": _our_tags(version.tags, Tag.SEAL),
        },
        "logged_model": model and {**model, "tags": _our_tags(model["tags"])},
        "package": package_files(package) if package else None, "run": run,
    }  # fmt: skip


def package_folder(
    registry: Registry, version: RegisteredVersion, scratch: Path | None = None
) -> Path | None:
    """Return the folder with the files of a version; none where they cannot be read.

    A folder that holds no model is none either: the registry may name any, as large as a disk.
    Files of a distant store are copied to `scratch`, or to where they stay until the process ends.
    """
    folder = _folder(registry.location(version), scratch / "package" if scratch else None)
    if folder is None or not any((folder / part).exists() for part in ("MLmodel", "artifacts")):
        return None
    return folder


def run_folder(registry: Registry, run_id: str | None, scratch: Path) -> Path | None:
    """Return the folder with the files of a run; none where they cannot be read."""
    return _folder(registry.run_files(run_id) if run_id else None, scratch / f"run-{run_id}")


def package_digest(folder: Path) -> str:
    """Digest of all files of a package, but of those that loading it may leave there."""
    return names_sha256(package_files(folder))


def package_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of those files, by path in the folder, in order."""
    return {
        name: file_sha256(path)
        for name, path in folder_files(folder).items()
        if "__pycache__" not in path.parts and path.name != _REGISTERED_META
    }


def damage(registry: Registry, version: RegisteredVersion) -> str | None:
    """Say whether the files of a version differ from those that were registered; none if not."""
    named = f"the files of version {version.number} of {version.name}"
    with TemporaryDirectory(prefix="mno-registry-") as copies:
        if (folder := package_folder(registry, version, Path(copies))) is None:
            return f"{named} cannot be read"
        if package_digest(folder) != version.tags.get(Tag.PACKAGE):
            return f"{named} are missing or altered"
    return None


def _our_tags(tags: Mapping[str, str], *without: str) -> dict[str, str]:
    return {k: v for k, v in sorted(tags.items()) if k.startswith("mno.") and k not in without}


def _folder(uri: str | None, copies: Path | None) -> Path | None:
    """Return a local folder as it is, or a copy of a distant one."""
    here = local_path(uri)
    if here is not None or not uri:
        return Path(here) if here is not None and Path(here).is_dir() else None
    if copies is None:  # what lies there is used until the process ends
        copies = Path(mkdtemp(prefix="mno-package-"))
        atexit.register(shutil.rmtree, copies, ignore_errors=True)
    copied = copies / PurePosixPath(urlparse(uri).path).name
    if not copied.is_dir():
        with suppress(Exception):  # the store's own: nothing is there, or it cannot be reached
            copies.mkdir(parents=True, exist_ok=True)
            copied = Path(import_mlflow().artifacts.download_artifacts(uri, dst_path=str(copies)))
    return copied if copied.is_dir() else None


def read_chain(registry: Registry, name: str) -> Iterator[Seal]:
    """Yield a model's seals, the latest first; one that is missing or damaged is the last."""
    pointer = SealPointer.parse(registry.seals().get(name, ""))
    while pointer is not None:
        seal = read_one(registry, pointer)
        yield seal
        pointer = None if seal.problem else seal.previous


def read_one(registry: Registry, pointer: SealPointer) -> Seal:
    """Read a seal where its pointer says."""
    return seals.read_seal(pointer, registry.read(pointer.run_id, seals.seal_path(pointer)))


def find_model(registry: Registry, target: str) -> RegisteredVersion:
    """Return the version that a person means; refuse what is none, or is not registered.

    It is given as `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/ID`, the folder of a model
    or the file of its weights.
    """
    if run := _RUN.fullmatch(target):
        found, what = [v for v in registry.versions() if v.run_id == run[1]], "run"
    elif target.startswith("models:/"):
        return find_version_of(registry, target)
    elif target.startswith(("models:", "runs:")) or "://" in target:
        raise InputError(
            f"{target!r}: expected models:/NAME/VERSION, models:/NAME@ALIAS or runs:/ID"
        )
    else:
        path = Path(target)
        places = (path, path.parent if path.is_file() else path / PACKAGED)
        holding = next((folder for folder in places if (folder / DESCRIPTION).is_file()), None)
        if holding is None:
            raise InputError(
                f"{path} holds no model (no {DESCRIPTION} beside the weights); give its folder, "
                f"models:/NAME/VERSION, models:/NAME@ALIAS or runs:/ID{catalogue.meant(target)}"
            )
        digest = candidate_digest(holding)
        found, what = registry.versions(tag=(Tag.CANDIDATE, digest)), f"model ({digest[:12]})"
    if not found:
        raise InputError(
            f"{target}: no registered version is of this {what}: it was never registered, or its "
            "files were changed since; see what is registered with: mno status"
        )
    return max(found, key=lambda version: version.number)


@contextmanager
def gather(
    workspace: Workspace, name: str, number: int, caches: Sequence[Path],
    originals: Sequence[Path] = (),
) -> Iterator[Evidence]:  # fmt: skip
    """Yield all that an audit of a version looks at; files of distant stores are copied meanwhile.

    Snapshots are looked for in the workspace, objects in folders of DVC's caches, and imported
    files in the folders of originals.
    """
    registry = registry_of(workspace)
    version = find_version_of(registry, f"models:/{name}/{number}")
    with TemporaryDirectory(prefix="mno-audit-") as folder:
        scratch = Path(folder)
        chain = tuple(read_chain(registry, name))
        tag = version.tags.get(Tag.SEAL)
        own = (seal for seal in chain if not seal.problem and seal.version == number)
        seal, pointer = next(own, None), SealPointer.parse(tag or "")
        if seal is None and pointer is not None:
            seal = read_one(registry, pointer)
        yield Evidence(
            root=workspace.root, name=name, version=number,
            facts=read_facts(registry, version, scratch), aliases=aliases(registry, name),
            versions={found.number: found.tags for found in registry.versions(name)},
            chain=chain, seal=seal, sealed_tag=tag,
            package=package_folder(registry, version, scratch),
            run=run_folder(registry, version.run_id, scratch),
            caches=tuple(caches), originals=tuple(originals),
        )  # fmt: skip


def model_with_digest(registry: Registry, sha256: str, scratch: Path) -> Path:
    """Return the folder of a registered candidate by the digest of its files, from any record."""
    known = _DIGEST.fullmatch(str(sha256))
    for version in registry.versions(tag=(Tag.CANDIDATE, sha256)) if known else ():
        folder = package_folder(registry, version, scratch / str(version.number))
        if folder is not None and (folder / PACKAGED).is_dir():
            return folder / PACKAGED
    raise MnoError(
        f"no version in the registry is the model that training started from ({sha256}), so that "
        "it cannot be made again here"
    )


_OF_A_DECISION = (Tag.RIVAL, Tag.RIVAL_L2, Tag.REASON, Tag.DECISION, Tag.JUDGED)


def seal_version(
    workspace: Workspace, name: str, number: int, record: Record, snapshot: Snapshot,
    lock: Mapping[str, Any],
) -> SealPointer:  # fmt: skip
    """Seal a version as the last act of registering it; the same facts are sealed once.

    A kill between two of the steps leaves what doing it again completes: the seal, then the
    model's pointer to it, then the version's. The lock is what `locked_stages` returned.
    """
    registry = registry_of(workspace)
    version = find_version_of(registry, f"models:/{name}/{number}")
    with TemporaryDirectory(prefix="mno-seal-") as scratch:
        content: dict[str, Any] = {
            "schema": seals.SCHEMA, "model": name, "number": number,
            **read_facts(registry, version, Path(scratch)), "record": dict(record), "lock": lock,
            "snapshot": {key: getattr(snapshot, key) for key in ("commit", "tree", "head")},
            "aliases": aliases(registry, name),
        }  # fmt: skip
    return _put(workspace, content, *_latest(workspace, name, number))


def seal_decision(workspace: Workspace, name: str, number: int) -> SealPointer:
    """Seal what was decided on a version after it was registered.

    The new seal holds what the one before held of everything but the decision and the aliases: what
    was changed past the line since must not become right by it.
    """
    before, registry = own_seal(workspace, name, number), registry_of(workspace)
    head, _ = _latest(workspace, name, number)
    tags = find_version_of(registry, f"models:/{name}/{number}").tags
    decided = {str(key): tags[key] for key in _OF_A_DECISION if key in tags}
    sealed = before.content["version"]
    content = {k: v for k, v in before.content.items() if k not in ("sealed", "previous")} | {
        "version": {**sealed, "tags": {**sealed["tags"], **decided}},
        "aliases": aliases(registry, name),
    }
    return _put(workspace, content, head, head)


def own_seal(workspace: Workspace, name: str, number: int) -> Seal:
    """Return the latest seal of a version."""
    head, own = _latest(workspace, name, number)
    if head is not None and head.problem:
        raise MnoError(
            f"the latest seal of {name} is {head.problem} ({head.pointer}), so no decision can be "
            f"added to the chain; see: mno audit models:/{name}/{number}"
        )
    if own is None or own.problem:
        raise MnoError(
            f"version {number} of {name} has no seal that can be read "
            f"({own.problem if own else 'it was not registered to the end'}); register it again "
            "with: mno run"
        )
    return own


def _latest(workspace: Workspace, name: str, number: int) -> tuple[Seal | None, Seal | None]:
    """Return the latest seals of a model and of a version, which a kill may have left unnamed."""
    registry = registry_of(workspace)
    tag = find_version_of(registry, f"models:/{name}/{number}").tags.get(Tag.SEAL, "")
    pointer = SealPointer.parse(tag)
    head = next(read_chain(registry, name), None)
    if head is not None and not head.problem and head.version == number:
        return head, head
    return head, read_one(registry, pointer) if pointer else None


def _put(
    workspace: Workspace, content: dict[str, Any], head: Seal | None, latest: Seal | None
) -> SealPointer:
    client, name = workspace.client, content["model"]
    if latest is not None and seals.same_facts(latest, content):
        pointer = latest.pointer
    else:
        text = seals.seal_text(content, head.pointer if head else None)
        pointer = SealPointer(content["run"]["id"], seals.seal_sha256(text))
        client.log_text(pointer.run_id, text, seals.seal_path(pointer))
        client.set_registered_model_tag(name, Tag.SEAL, str(pointer))
    client.set_model_version_tag(name, str(content["number"]), Tag.SEAL, str(pointer))
    return pointer
