"""`mno predict`: a registered model, or a model's folder, on a store of inputs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from flows.workspace import find_workspace, prepare_environment
from mno.surrogate import Surrogate


def predict_store(
    model: str,
    source: Path,
    destination: Path,
    batch_size: int,
    steps: int | None,
    quiet: bool,
) -> dict[str, Any]:
    """Predict every sample of a Zarr store and write the outputs as another.

    Args:
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or the folder of a saved surrogate.
        source: Zarr group with the model's input fields.
        destination: Zarr group to write; must not exist.
        batch_size: Samples per forward pass.
        steps: Frames of states to predict; those of the training data if none is given.
        quiet: Draw no progress.

    Returns:
        `samples`, `seconds`, `destination`.

    Raises:
        InputError: The model, the source or the destination cannot be used.
    """
    from mno.data.predictions import predict_store as predict

    surrogate = load_model(model)
    console = Console(stderr=True, quiet=quiet)
    start = time.monotonic()
    hidden = quiet or not console.is_terminal
    with Progress(console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("predicting", total=None)
        samples = predict(
            surrogate, source, destination, batch_size,
            lambda done, total: progress.update(task, completed=done, total=total), steps,
        )  # fmt: skip
    seconds = round(time.monotonic() - start, 2)
    return {"samples": samples, "seconds": seconds, "destination": str(destination)}


def load_model(model: str) -> Surrogate:
    """Load a model.

    Args:
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or the folder of a saved surrogate.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    if not model.startswith(("models:/", "runs:/")):
        return Surrogate.load(model)
    root = find_workspace()
    prepare_environment(root)
    from mno.registry import load_surrogate

    return load_surrogate(root, model)
