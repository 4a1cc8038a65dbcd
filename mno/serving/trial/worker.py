"""The process in which a scenario draws and solves: `python -m mno.serving.trial.worker`.

It reads messages from its input and answers each on its output, one after the other, until its
input ends. A call that takes longer than it may ends the process, whatever it is doing: the alarm
is not handled. So a server that was killed leaves no solver behind.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from mno.core.config import PARAMS_FILE
from mno.core.errors import InputError, MnoError, first_line
from mno.scenarios.base import Scenario, make_scenario
from mno.serving.trial.parameters import movable
from mno.serving.trial.wire import LENGTH, pack, unpack

Fields = dict[str, np.ndarray]
Answer = tuple[dict[str, Any], Fields]


def describe(asked: Mapping[str, Any], _: Fields) -> Answer:
    """Return the title, and the parameters that may be moved."""
    scenario = _scenario(asked)
    labels = {field.name: field.long_name for field in scenario.fields}
    axes = [
        {"name": axis.name, "units": axis.units, "extent": list(axis.extent)}
        for axis in scenario.axes
    ]
    return {
        "title": scenario.title,
        "labels": labels,
        "axes": axes,
        "parameters": movable(asked["scenario"], asked["resolution"], asked["parameters"]),
    }, {}


def draw(asked: Mapping[str, Any], _: Fields) -> Answer:
    """Draw a sample; return all its fields that a model is given, states with a frame axis."""
    scenario = _scenario(asked)
    drawn = scenario.sample(np.random.default_rng(asked["seed"]))
    states = [field.name for field in scenario.fields if field.role == "state"]
    if asked["history"] > 1:  # the first frames are those of a solution
        return {}, {**drawn, **scenario.solve(drawn)}
    return {}, {name: a[None] if name in states else a for name, a in drawn.items()}


def solve(asked: Mapping[str, Any], drawn: Fields) -> Answer:
    """Solve for what was drawn; return outputs and states at all frames, and the seconds."""
    scenario = _scenario(asked)
    scenario.compile()
    start = time.perf_counter()
    solved = scenario.solve(drawn)
    return {"seconds": time.perf_counter() - start}, solved


CALLS: Mapping[str, Callable[[Mapping[str, Any], Fields], Answer]] = {
    "describe": describe,
    "draw": draw,
    "solve": solve,
}


def _scenario(asked: Mapping[str, Any]) -> Scenario:
    return make_scenario(asked["scenario"], asked["resolution"], asked["parameters"])


def _answer(content: bytes) -> bytes:
    asked, arrays = unpack(content)
    signal.alarm(asked["seconds"])
    try:
        found, fields = CALLS[asked["call"]](asked, arrays)
        return pack(found, fields)
    except InputError as error:
        return pack({"wrong": first_line(error).removeprefix(f"{PARAMS_FILE}: ")}, {})
    except MnoError as error:
        return pack({"failed": first_line(error)}, {})
    finally:
        signal.alarm(0)


def main(read: BinaryIO, write: BinaryIO) -> None:
    """Answer until the input ends."""
    while len(length := read.read(LENGTH)) == LENGTH:
        write.write(_answer(read.read(int.from_bytes(length, "big"))))
        write.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not get among the answers
    os.nice(10)  # predictions come first
    main(sys.stdin.buffer, answers)
