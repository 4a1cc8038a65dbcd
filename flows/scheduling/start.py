"""What a scheduled training starts from: `schedule.start`, written into `train.warm_start`.

There it is a parameter like any other: DVC depends on it, the stage checks its digest, and the
record of lineage holds the version and the SHA-256 of its files.
"""

from __future__ import annotations

import json
from pathlib import Path

from flows.params import Params
from mno.core.errors import InputError
from mno.lineage.record import candidate_digest
from mno.nn.config import ModelConfig

_SHOWN = 16  # digits of a digest: what `train.warm_start` asks for, and more


def start_of(root: Path, params: Params) -> tuple[list[str], str]:
    """Return the edits of the parameters, as `key=value`, and what they mean, in one line.

    Raises:
        MnoError: MLflow cannot be used.
    """
    now = params.train.warm_start
    if params.schedule.start is None:
        return [], f"as train.warm_start says: {now or 'from fresh weights'}"
    if params.schedule.start == "nothing":
        return (["train.warm_start=null"] if now else []), "from fresh weights"
    champion = f"models:/mno-{params.dataset_name}@champion"
    from mno.registry.reading import whole_version

    try:
        version, folder = whole_version(root, champion)
        pinned = f"{version}#{candidate_digest(folder)[:_SHOWN]}"
    except InputError:
        return (["train.warm_start=null"] if now else []), "from fresh weights: no champion yet"
    differing = _differing(folder, params.model)
    if differing:
        said = f"from fresh weights: {version} is of another {', '.join(differing)}"
        return (["train.warm_start=null"] if now else []), said
    edits = [] if now == pinned else [f"train.warm_start={json.dumps(pinned)}"]
    return edits, f"from the champion, {version}"


def _differing(folder: Path, model: ModelConfig) -> list[str]:
    """Return the parameters of the operator in which a saved one differs."""
    from mno.surrogate.surrogate import Surrogate

    theirs, ours = (
        config.model_dump(mode="json", exclude={"dropout"})
        for config in (Surrogate.load(folder).description.model, model)
    )
    return [f"model.{key}" for key in ours if theirs[key] != ours[key]]
