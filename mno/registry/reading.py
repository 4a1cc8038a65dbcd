"""Asking the registry: what is registered, whether it is whole and predicts, the models in it."""

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.absent import Absent
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import json_sha256
from mno.lineage.decision import CHAMPION
from mno.lineage.dvcfiles import locked_stages
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import PACKAGED, REGISTERED, Tag, candidate_digest
from mno.registry.catalogue import Registry, existing_workspace, find_version_of, registry_of
from mno.registry.evidence import damage, find_model, package_folder
from mno.registry.settings import Workspace, import_mlflow, model_name

if TYPE_CHECKING:
    from mno.surrogate.surrogate import Surrogate
    from mno.surrogate.trust.trust import Trust

TRUST_FILE = "trust.json"  # what predictions are judged by, beside the candidate in a package


def describe_registry(root: Path, scenario: str) -> list[dict[str, Any]]:
    """List the registered versions of a scenario's model, newest first."""
    found = registry_of(Workspace(root)).versions(model_name(scenario))
    return [
        {
            "name": version.name,
            "version": version.number,
            "aliases": list(version.aliases),
            "relative_l2": version.relative_l2,
            "verdict": version.tags.get(Tag.VERDICT),
            "created": f"{datetime.fromtimestamp(version.created / 1000):%Y-%m-%d %H:%M}",
        }
        for version in sorted(found, key=lambda version: -version.number)
    ]


def registered_now(root: Path) -> dict[str, Any] | None:
    """Return what was registered last where it is a version of what the workspace has made last."""
    with suppress(OSError, ValueError, KeyError):
        found = json.loads((root / REGISTERED).read_bytes())
        if found["version"] and found["lock_sha256"] == json_sha256(locked_stages(root)):
            return found
    return None


def why_version_is_unusable(root: Path, registered: Mapping[str, Any]) -> str | None:
    """Say why the version that `registered.json` names cannot be relied on; none if it can.

    It can if it is in the registry, byte for byte as it was tried, and the model has a champion,
    unless it was decided that this version is none.
    """
    name, number = registered.get("name"), registered.get("version")
    if not name or not number:
        return "it names no version"
    registry = registry_of(Workspace(root))
    if (found := registry.find(name, number)) is None:
        return f"version {number} of {name} is not in the registry"
    if found.tags.get(Tag.LINEAGE) != registered.get("lineage_sha256"):
        return f"version {number} of {name} is another model"
    problem = damage(registry, found)
    expected = registered.get("decision", CHAMPION) == CHAMPION
    if problem is None and expected and registry.find(name, alias=CHAMPION) is None:
        return f"{name} has no champion"
    return problem


def candidate_folder(
    registry: Registry, version: RegisteredVersion, scratch: Path | None = None
) -> Path:
    """Return the folder of a version's candidate, as `package_folder` does: what training wrote."""
    folder = package_folder(registry, version, scratch)
    if folder is None or not (folder / PACKAGED).is_dir():
        raise InputError(f"{version.uri} cannot be read; see the names with: mno status")
    return folder / PACKAGED


def registered_folder(root: Path, uri: str) -> Path:
    """Return the folder of a registered model's candidate; its error estimate lies beside it."""
    registry = registry_of(existing_workspace(root))
    return candidate_folder(registry, find_model(registry, uri))


def whole_version(root: Path, uri: str, scratch: Path | None = None) -> tuple[str, Path]:
    """Return the address, `models:/NAME/VERSION`, and the candidate's folder of a whole version.

    Files of a distant store are copied to `scratch`, or to where they stay until the process ends.

    Raises:
        InputError: It is no such URI, there is no such version, or its files are damaged.
    """
    registry = registry_of(Workspace(root))
    found = find_version_of(registry, uri)
    if problem := damage(registry, found):
        raise InputError(f"{uri}: {problem}; choose another")
    return found.uri, candidate_folder(registry, found, scratch)


class NamedModel:
    """A registered model by its name; `models:/NAME@ALIAS` may come to name another version."""

    def __init__(self, root: Path, uri: str) -> None:
        self._root, self._uri = root, uri
        self._registry = registry_of(existing_workspace(root))
        self.named()

    def named(self) -> str:
        """Return the address of the version, `models:/NAME/VERSION`."""
        return find_version_of(self._registry, self._uri).uri

    def verdict(self) -> str:
        """Return what the report said of the version that is named now; nothing where none did."""
        return find_version_of(self._registry, self._uri).tags.get(Tag.VERDICT, "")

    def load(self, uri: str) -> "tuple[Surrogate, Mapping[str, np.ndarray], Trust | Absent]":
        """Load the version that `named` returned, whole: the model, example inputs, and trust."""
        from mno.surrogate.surrogate import Surrogate

        import_mlflow()
        from mlflow.models import Model

        with TemporaryDirectory(prefix="mno-served-") as copies:
            _, folder = whole_version(self._root, uri, Path(copies))
            package = str(folder.parents[1])
            example: Any = Model.load(package).load_input_example(package)
            given = {name: np.asarray(x) for name, x in example.items()}
            return Surrogate.load(folder), given, registered_trust(folder)


def registered_trust(folder: Path) -> "Trust | Absent":
    """Return what the predictions of the registered candidate in a folder are judged by."""
    path = folder.with_name(TRUST_FILE)
    return trust_in(path, folder) if path.is_file() else Absent("estimate.older")


def trust_in(path: Path, folder: Path) -> "Trust | Absent":
    """Return what a file says of the model in a folder."""
    from mno.surrogate.trust.trust import Trust

    try:
        trust = Trust.read(path)
    except InputError as error:
        return Absent("estimate.fails", {"error": error})
    if trust.model_sha256 != candidate_digest(folder):
        return Absent("estimate.other_model", {"path": path})
    return trust


EVALUATION_FOLDER = "evaluation"
ERRORS_FILE = "per_sample.json"
CHECK_FILE = "check.npz"

Fields = dict[str, np.ndarray]


def try_version(workspace: Workspace, version: RegisteredVersion, predict: bool = True) -> str:
    """Check a version's files, load it, and have it predict what its evaluation predicted.

    What it has passed is returned, in a few words; only its files are looked at if told so.

    Raises:
        InputError: Its files are missing or altered.
        MnoError: It does not load, or does not predict what was recorded.
    """
    registry = registry_of(workspace)
    if problem := damage(registry, version):
        raise InputError(problem)
    if not predict:
        return "its files are as they were registered"
    from mno.registry.packaging import check_predictions, load_model

    model, path = load_model(version.uri, workspace), f"{EVALUATION_FOLDER}/{CHECK_FILE}"
    content = registry.read(version.run_id, path) if version.run_id else None
    inputs, predictions = read_predictions(content or b"", "recorded predictions")
    try:
        difference = check_predictions(model, inputs, predictions)
    except Exception as error:  # anything in the code that came with the model
        raise MnoError(f"it cannot predict any more: {first_line(error)}") from None
    if difference:
        raise MnoError(f"it does not predict as recorded: {difference}")
    return f"predicts {len(next(iter(predictions.values())))} samples as recorded"


def read_errors(content: bytes, name: str) -> tuple[float, ...]:
    """Read the relative L2 of each sample, the content of `reports/per_sample.json`."""
    try:
        return tuple(float(error) for error in json.loads(content)["relative_l2"])
    except (ValueError, KeyError, TypeError) as error:
        raise MnoError(f"{name} cannot be read ({error}); run: mno evaluate") from None


def read_predictions(content: bytes, name: str) -> tuple[Fields, Fields]:
    """Read inputs of some samples and their predictions, the content of `reports/check.npz`."""
    found: dict[str, Fields] = {"input": {}, "prediction": {}}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for key in arrays:
                kind, _, field = key.partition("/")
                found[kind][field] = arrays[key]
    except Exception as error:  # zip's, zlib's or numpy's own
        raise MnoError(f"{name} cannot be read ({first_line(error)}); run: mno evaluate") from None
    return found["input"], found["prediction"]


def read_evaluated(path: Path) -> bytes:
    """Return a file that the evaluation left."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MnoError(f"{path} cannot be read ({error}); run: mno evaluate") from None
