"""What the service has seen, in a small file that outlives it: what a drift trigger reads.

`build/serving/MODEL@ALIAS.PORT.json` is written beside and then replaced, every few seconds in
which something came and when the service ends. A service that is started again counts on. The
file's content is `{"format": 2, "versions": {"mno-darcy/3": Seen}}`.

What is tried by hand on the service's own page is not counted. `read` gives the versions of all
files of a workspace added up.
"""

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from mno.core.absent import Absent
from mno.core.config import Config
from mno.core.files import write_text

FLAG = "unlike_training"
"""Name of the array of an estimate that says of which samples the input is out of range."""
FORMAT = 2
FOLDER = Path("build") / "serving"


class Seen(Config):
    """What one version has answered."""

    samples: int = 0  # answered
    judged: int = 0  # of which it is known whether they are flagged
    flagged: int = 0  # unlike the training data, so out of range
    bounded: int = 0  # with a finite bound on the relative L2 error
    bound: float = 0.0  # sum of these bounds, as fractions

    def plus(self, other: Self) -> Self:
        """Return both as one."""
        return type(self)(**{n: getattr(self, n) + getattr(other, n) for n in Seen.model_fields})


class Counts:
    """The counts of one service, written every `interval` seconds in which there is something new.

    An `OSError` says that the folder cannot be made, or written to.
    """

    def __init__(self, path: Path, interval: float) -> None:
        self._path, self._interval = path, interval
        self._versions = _versions(path)
        self._changed = False
        self._lock = threading.Lock()
        self._write()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="counts", daemon=True)
        self._thread.start()

    def add(self, name: str, seen: Seen) -> None:
        """Count what the model of this name and version has answered."""
        with self._lock:
            self._versions[name] = self._versions.get(name, Seen()).plus(seen)
            self._changed = True

    def close(self) -> None:
        """Write what is not written, and stop."""
        self._stop.set()
        self._thread.join()
        self._save()

    def _keep(self) -> None:
        while not self._stop.wait(self._interval):
            self._save()

    def _save(self) -> None:
        if not self._changed:
            return
        self._changed = False  # what comes while this is written is written by the next look
        try:
            self._write()
        except OSError:  # a full disk ends no service; the next look tries again
            self._changed = True

    def _write(self) -> None:
        with self._lock:
            kept = {name: seen.model_dump() for name, seen in self._versions.items()}
            content = json.dumps({"format": FORMAT, "versions": kept}, indent=1)
        write_text(self._path, content + "\n")


def seen_of(samples: int, found: Mapping[str, np.ndarray] | Absent) -> Seen:
    """Return so many samples that were answered, and what is known of them."""
    if isinstance(found, Absent):
        return Seen(samples=samples)
    flags, bounds = found[FLAG].astype(bool), relative_bound(found)
    finite = bounds[np.isfinite(bounds)]
    return Seen(
        samples=samples, judged=len(flags), flagged=int(flags.sum()),
        bounded=len(finite), bound=float(finite.sum()),
    )  # fmt: skip


def relative_bound(estimate: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the bound on the relative L2 error, the largest of all fields; `(samples,)`."""
    bounds = [array for name, array in estimate.items() if name.endswith("_relative_l2_bound")]
    return np.max(bounds, axis=0)


def read(root: Path) -> dict[str, dict[str, Any]]:
    """Return what services of a workspace have seen, `Seen` by version.

    A file that cannot be read counts nothing.
    """
    found: dict[str, Seen] = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        for name, seen in _versions(path).items():
            found[name] = found.get(name, Seen()).plus(seen)
    return {name: seen.model_dump() for name, seen in found.items()}


def _versions(path: Path) -> dict[str, Seen]:
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] == FORMAT:
            return {n: Seen.model_validate(seen) for n, seen in content["versions"].items()}
    return {}
