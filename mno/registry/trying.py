"""Trying a registered version: whole, loadable, predicting what its evaluation predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mno.core.errors import InputError, MnoError, first_line
from mno.registry.packaging import check_predictions, load_model
from mno.registry.reading import damage
from mno.registry.recorded import Fields
from mno.registry.settings import Workspace


@dataclass(frozen=True)
class Trial:
    """What a version was tried with, and passed.

    Attributes:
        what: In a few words, of `it`.
        how: `compared` with recorded predictions; `predicted` its example, where none are
            recorded; or only `loaded`, where it holds no example.
    """

    what: str
    how: Literal["compared", "predicted", "loaded"]


def try_version(
    workspace: Workspace,
    name: str,
    version: int,
    package: str | None,
    recorded: Callable[[], tuple[Fields, Fields] | None],
) -> Trial:
    """Check a version's files, load it, and predict what its evaluation predicted.

    Args:
        workspace: The MLflow that it is in.
        name: The registered model.
        version: The version's number.
        package: The digest of its files, as its tag says.
        recorded: Returns inputs and predictions from its evaluation; none if not recorded.

    Raises:
        InputError: Its files are missing or altered.
        MnoError: It does not load, or does not predict what was recorded.
    """
    problem = damage(workspace, name, version, package)
    if problem:
        raise InputError(problem)
    uri = f"models:/{name}/{version}"
    model = load_model(uri)
    known = recorded()
    try:
        if known is None:
            return _try_example(model)
        difference = check_predictions(model, *known)
    except MnoError:
        raise
    except Exception as error:  # anything in the code that came with the model
        raise MnoError(f"it cannot predict any more: {first_line(error)}") from None
    if difference:
        raise MnoError(f"it does not predict as recorded: {difference}")
    samples = len(next(iter(known[1].values())))
    return Trial(f"predicts {samples} samples as recorded", "compared")


def _try_example(model: Any) -> Trial:
    """Predict the example in a package, of which no output was recorded."""
    given = model.input_example
    if given is None:
        return Trial("loads; it holds no example to try it with", "loaded")
    for field, values in model.predict(given).items():
        if not np.all(np.isfinite(values)):
            raise MnoError(f"its {field} of its own example is not finite")
    return Trial("loads and predicts; no outputs were recorded to compare with", "predicted")
