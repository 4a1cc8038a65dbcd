"""What a training is given, by parameters and data, and the model that it starts from."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mno.core.config import section
from mno.core.errors import InputError, MnoError
from mno.core.forecast import TaskConfig
from mno.lineage.record import candidate_digest
from mno.nn.config import ModelConfig
from mno.registry.reading import whole_version
from mno.surrogate.surrogate import Surrogate
from mno.training.config import TrainConfig

SHOWN = 16  # digits of a digest that messages show: enough to tell any two models apart
_PINNED = re.compile(r"(.+)#([0-9a-f]{12,64})", re.DOTALL)


class WarmStart(NamedTuple):
    """A trained model to start from; `version` is the registered one, none for a folder."""

    surrogate: Surrogate
    sha256: str  # what `mno.lineage.record.candidate_digest` gives for its files
    version: str | None  # for example `models:/mno-darcy/3`
    pinned: str  # what `train.warm_start` has to say for it


def training_arguments(
    params: Mapping[str, Any], root: Path
) -> tuple[dict[str, Any], WarmStart | None]:
    """Return what parameters have `mno.training.fit.train` be given, and what it starts from."""
    config = section(params, "train", TrainConfig)
    start = find_warm_start(root, config.warm_start)
    given = {
        "config": config,
        "model": section(params, "model", ModelConfig),
        "task": section(params, "task", TaskConfig),
        "seed": params["seed"],
        "initial": start.surrogate if start else None,
    }
    return given, start


def find_warm_start(root: Path, given: str | None, *, pin: bool = False) -> WarmStart | None:
    """Find the model that `train.warm_start` names; none if it names none.

    It is `SOURCE#DIGEST`: `models:/NAME/VERSION`, `models:/NAME@ALIAS` or a candidate's folder,
    relative to the workspace `root`; and at least the first 12 digits of the SHA-256 of its files.
    An alias moves, a folder is overwritten, and a registry that is made again counts from 1; DVC
    sees none of it. With the digest the parameter says by itself what training starts from, and
    what a source has come to hold since is refused. It may only be missing where it is to be found
    (`pin`).

    Raises:
        InputError: There is no such model, it cannot be read, or the digest is missing or another;
            the message says what to write.
        MnoError: MLflow cannot be used.
    """
    if given is None:
        return None
    pinned = _PINNED.fullmatch(given)
    source, digest = pinned.groups() if pinned else (given.partition("#")[0], None)
    registered = source.startswith("models:")
    version, folder = whole_version(root, source) if registered else (None, root / source)
    try:
        found = candidate_digest(folder)
    except MnoError:
        raise InputError(
            f"train.warm_start={given}: {folder} holds no model; give a folder that does, or a "
            "registered model, models:/NAME/VERSION"
        ) from None
    pinned = f"{version or source}#{found[:SHOWN]}"
    if digest is None and not pin:
        raise InputError(
            f"train.warm_start={given} does not say which weights, and what it stands for may "
            f"change unseen by DVC; for what it is now, write train.warm_start={pinned}"
        )
    if not found.startswith(digest or ""):
        raise InputError(
            f"train.warm_start={given} is another model now, of digest {found[:SHOWN]}; if that is "
            f"meant, write train.warm_start={pinned}"
        )
    return WarmStart(Surrogate.load(folder), found, version, pinned)
