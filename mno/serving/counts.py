"""What the service has seen, in a small file that outlives it: what a drift trigger reads.

`build/serving/MODEL@ALIAS.PORT.json` is written beside and then replaced, every few seconds in
which something came and when the service ends. A service that is started again counts on. The
file's content:

    {"format": 1,
     "written": "2026-11-26T03:00:12Z",
     "versions": {"mno-darcy/3": {
        "since": "2026-11-25T18:12:40Z",   first request that this version answered
        "last": "2026-11-26T03:00:11Z",    latest
        "samples": 5120,                       answered
        "judged": 5120,                        of which it is known whether they are flagged
        "flagged": 310,                        unlike the training data, so out of range
        "bounded": 5100,                       with a finite bound on the relative L2 error
        "mean_bound": 0.031,                   mean of these bounds, as a fraction; or null
        "level": 0.9,                          share of predictions that a bound holds for; or null
        "expected_flags": 0.01,                share of usual inputs that is flagged; or null
        "most_unusual": {"permeability mean": 300}}}}   flagged samples by their strangest feature

What is tried by hand on the service's own page is not counted. `read` gives the versions of all
files of a workspace added up.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.absent import Absent
from mno.core.files import write_text

if TYPE_CHECKING:  # who reads counts does without torch
    from mno.serving.model import Served

FLAG = "unlike_training"
"""Name of the array of an estimate that says of which samples the input is out of range."""
FORMAT = 1
FOLDER = Path("build") / "serving"
_MOST_VERSIONS = 20  # in a file, the latest ones
_NUMBERS = ("samples", "judged", "flagged", "bounded")


class Counts:
    """The counts of one service.

    Args:
        path: The file.
        interval: Seconds between two looks whether there is something to write.

    Raises:
        OSError: The folder cannot be made, or written to.
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

    def add(self, served: Served, samples: int, found: Mapping[str, np.ndarray] | Absent) -> None:
        """Count so many samples that a model has answered, and what is known of them."""
        now = _time()
        with self._lock:
            seen = self._versions.setdefault(served.name, _fresh(now))
            seen["last"], seen["samples"] = now, seen["samples"] + samples
            if not isinstance(found, Absent):
                _judge(seen, served, found)
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
            latest = sorted(self._versions, key=lambda name: self._versions[name]["last"])
            kept = {name: self._versions[name] for name in latest[-_MOST_VERSIONS:]}
            content = json.dumps({"format": FORMAT, "written": _time(), "versions": kept}, indent=1)
        write_text(self._path, content + "\n")


def relative_bound(estimate: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the bound on the relative L2 error, the largest of all fields; `(samples,)`."""
    bounds = [array for name, array in estimate.items() if name.endswith("_relative_l2_bound")]
    return np.max(bounds, axis=0)


def read(root: Path) -> dict[str, dict[str, Any]]:
    """Return what services of a workspace have seen, by version; see the head of this module.

    A file that cannot be read counts nothing.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        for name, seen in _versions(path).items():
            found[name] = _added(found[name], seen) if name in found else seen
    return found


def _judge(seen: dict[str, Any], served: Served, found: Mapping[str, np.ndarray]) -> None:
    flags, trust = found[FLAG].astype(bool), served.trust
    bounds = relative_bound(found)
    finite = bounds[np.isfinite(bounds)]
    seen["judged"] += len(flags)
    seen["flagged"] += int(flags.sum())
    if len(finite):
        before = (seen["mean_bound"] or 0.0) * seen["bounded"]
        seen["bounded"] += len(finite)
        seen["mean_bound"] = (before + float(finite.sum())) / seen["bounded"]
    if isinstance(trust, Absent):
        return
    seen["level"], seen["expected_flags"] = trust.level, trust.likeness.false_alarm_rate
    names = trust.likeness.names
    unusual = Counter(names[k] for k in found["most_unusual"][flags])
    seen["most_unusual"] = dict(Counter(seen["most_unusual"]) + unusual)


def _fresh(now: str) -> dict[str, Any]:
    unknown = dict.fromkeys(("mean_bound", "level", "expected_flags"))
    counted = dict.fromkeys(_NUMBERS, 0)
    return {"since": now, "last": now, **counted, **unknown, "most_unusual": {}}


def _added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of two services of the same version as one."""
    both = {**one, **{k: v for k, v in other.items() if v is not None}}
    both |= {name: one[name] + other[name] for name in _NUMBERS}
    if both["bounded"]:
        sums = [(seen["mean_bound"] or 0.0) * seen["bounded"] for seen in (one, other)]
        both["mean_bound"] = sum(sums) / both["bounded"]
    both["since"] = min(one["since"], other["since"])
    both["last"] = max(one["last"], other["last"])
    both["most_unusual"] = dict(Counter(one["most_unusual"]) + Counter(other["most_unusual"]))
    return both


def _versions(path: Path) -> dict[str, dict[str, Any]]:
    """Return what a file holds; nothing of versions whose counts are no numbers."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return {}
        found = {n: {**_fresh(""), **seen} for n, seen in content["versions"].items()}
        return {
            name: seen
            for name, seen in found.items()
            if all(isinstance(seen[key], int) for key in _NUMBERS)
            and isinstance(seen["mean_bound"], int | float | None)
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _time() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
