"""The model in service: it follows an alias of the registry, and keeps what works.

How far an answer may be trusted is said by the arrays that `mno predict` writes beside predictions:
`FIELD_relative_l2_bound`, `FIELD_rmse_bound` and `FIELD_max_error_bound` (which holds at every
point), `unlike_training`, `training_distance`, `most_unusual`, perhaps `equation_residual`.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mno.core.absent import Absent
from mno.core.errors import first_line
from mno.serving.counts import FLAG, relative_bound
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust.answers import Answers
from mno.surrogate.trust.trust import Trust

Arrays = Mapping[str, np.ndarray]
AGAIN = 60.0  # seconds after which what could not be served is loaded and tried again


class Registry(Protocol):
    """What the service asks of a registry; whatever it raises says that there is none."""

    def named(self) -> str:
        """Return the address of the version to serve, for example `models:/mno-darcy/3`."""
        ...

    def load(self, uri: str) -> tuple[Surrogate, Arrays, Trust | Absent]:
        """Load a version, whose files are whole, an example of its inputs, and its trust."""
        ...


@dataclass(frozen=True, eq=False)
class Served:
    """A model in service."""

    uri: str  # in the registry, for example `models:/mno-darcy/3`
    surrogate: Surrogate
    example: Arrays  # inputs that it was tried on
    trust: Trust | Absent = Absent("estimate.none")  # what its predictions are judged by
    since: float = field(default_factory=time.time)  # seconds since 1970

    @property
    def name(self) -> str:
        """Model and version, for example `mno-darcy/3`."""
        return self.uri.removeprefix("models:/")


class Follower:
    """Holds the model in service; a thread looks whether the registry names another.

    Another is loaded and tried beside the one in service, which it then replaces at once. What
    cannot be loaded, or does not predict, is not served: the last good model goes on, and after
    `AGAIN` seconds it is tried again. Where there is none at the start, the registry's exception
    comes through. Of each change, and of each failure once, `on_change` is told whether it went
    well, and one line.
    """

    def __init__(
        self, registry: Registry, interval: float, on_change: Callable[[bool, str], None]
    ) -> None:
        self._registry, self._interval, self._on_change = registry, interval, on_change
        self.current = self._load(registry.named())
        self.problem: str | None = None
        """Why the version that is named now is not served; none where it is."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        failed, again = "", 0.0
        while not self._stop.wait(self._interval):
            named = ""
            try:
                named = self._registry.named()
                if named == failed and time.monotonic() < again:
                    continue
                if named != self.current.uri:
                    before = self.current.name
                    self.current = self._load(named)
                    self._on_change(True, f"{self.current.name} takes the place of {before}")
                self.problem, failed = None, ""
            except Exception as error:  # whatever a registry, files or a model may do
                failed, again = named, time.monotonic() + AGAIN
                what = f"{named} is not served" if named else "the registry cannot be asked"
                problem = f"{what}: {first_line(error)}; {self.current.name} goes on"
                if problem != self.problem:
                    self._on_change(False, problem)
                self.problem = problem

    def _load(self, uri: str) -> Served:
        surrogate, example, trust = self._registry.load(uri)
        for name, values in surrogate.predict(example).items():
            if not np.isfinite(values).all():
                raise ValueError(f"it predicts {name} that is not finite")
        return Served(uri, surrogate, example, trust)


def estimate(
    served: Served, inputs: Arrays, predictions: Arrays, steps: int | None
) -> dict[str, np.ndarray] | Absent:
    """Return what is known of the predictions that a model made of some inputs, arrays by name.

    `steps` are the frames that it was asked for, those of its training if none.
    """
    trust, description = served.trust, served.surrogate.description
    if isinstance(trust, Absent):
        return trust
    given = {name: np.asarray(array, dtype=np.float32) for name, array in inputs.items()}
    # More frames may be given than are looked at.
    for name in (*description.forcings, *description.times):
        given[name] = given[name][:, : description.frames_given(name, steps)]
    try:
        return Answers(trust, description).complete(given, predictions)[1]
    except Exception as error:  # an answer is not withheld because its estimate cannot be had
        return Absent("estimate.fails", {"error": first_line(error)})


def as_json(served: Served, found: Arrays | Absent, full: bool) -> dict[str, Any]:
    """Return the keys that a JSON answer has besides its predictions, given their estimate.

    They are `model`, and `trust` with `level`, `relative_l2_bound`, `unlike_training`,
    `training_distance` and `most_unusual`, one for each sample; in `full`, `bounds` of each field
    and of each frame. Without an estimate `trust` is none, and `no_trust` says why.
    """
    about: dict[str, Any] = {"model": served.name, "trust": None}
    trust = served.trust
    if isinstance(found, Absent) or isinstance(trust, Absent):
        return about | {"no_trust": str(found if isinstance(found, Absent) else trust)}
    names = trust.likeness.names
    shown = {
        "level": trust.level, "calibrated_on": list(trust.shape),
        "relative_l2_bound": relative_bound(found), FLAG: found[FLAG].astype(bool),
        "training_distance": found["training_distance"],
        "most_unusual": [names[k] for k in found["most_unusual"]],
    }  # fmt: skip
    if full:
        shown["bounds"] = {
            field: {kind: np.ascontiguousarray(found[f"{field}_{kind}_bound"]) for kind in measures}
            for field, measures in trust.bounds.items()
        }
    return about | {"trust": shown}
