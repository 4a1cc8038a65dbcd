"""The keeper of the process that draws and solves: one call at a time, each within a time limit."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio.to_thread
import numpy as np

from mno.core.errors import InputError, MnoError
from mno.serving.trial.wire import LENGTH, pack, unpack

_TO_START = 120.0  # s; importing and compiling take some, once


class BusyError(MnoError):
    """The solver is at work for somebody else."""


class Solver:
    """A process of its own, started when it is first asked, and anew after it was ended.

    Args:
        limit: Seconds that a call may take; the first of a process may take longer.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = asyncio.Lock()

    async def call(
        self, call: str, asked: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what the worker's function answers.

        Args:
            call: Its name; see `mno.serving.trial.worker`.
            asked: A problem, and what else it takes.
            arrays: Fields by name.

        Raises:
            BusyError: Others are before, and it takes them too long.
            InputError: The scenario cannot be used so.
            MnoError: It failed, or took too long.
        """
        try:
            await asyncio.wait_for(self._lock.acquire(), self._limit)
        except TimeoutError:
            raise BusyError("the solver is at work for others; try again in a moment") from None
        try:
            found, fields = await self._ask(call, asked, arrays or {})
        finally:
            self._lock.release()
        if "wrong" in found:
            raise InputError(found["wrong"])
        if "failed" in found:
            raise MnoError(found["failed"])
        return found, fields

    async def _ask(
        self, call: str, asked: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        process, limit = self._process, self._limit
        if process is None or process.poll() is not None:
            process = self._process = _start()
            limit += _TO_START
        message = pack({**asked, "call": call, "seconds": math.ceil(limit) + 1}, arrays)
        done = False
        try:
            async with asyncio.timeout(limit):
                answer = await anyio.to_thread.run_sync(
                    _exchange, process, message, abandon_on_cancel=True
                )
            done = True
            return unpack(answer)
        except TimeoutError:
            raise MnoError(f"the solver took longer than {limit:g} s and was ended") from None
        except (OSError, EOFError):
            raise MnoError("the solver's process ended; try again") from None
        finally:
            if not done:  # also where whoever asked has gone: half an answer is of no use
                self.close()

    def close(self) -> None:
        """End the process, if there is one; a thread that waits for its answer then goes on."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not written is not wanted any more
                    pipe.close()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mno.serving.trial.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is for the service, which ends it
    )


def _exchange(process: subprocess.Popen[bytes], message: bytes) -> bytes:
    """Return what the process answers, without its length."""
    write, read = process.stdin, process.stdout
    if write is None or read is None:
        raise EOFError("no pipe")
    write.write(message)
    write.flush()
    length = int.from_bytes(read.read(LENGTH), "big")
    answer = read.read(length)
    if not 0 < length == len(answer):
        raise EOFError("it ended")
    return answer
