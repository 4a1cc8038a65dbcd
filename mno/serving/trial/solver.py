"""The keeper of the process that draws and solves: one call at a time, each within a time limit."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from mno.errors import InputError, MnoError
from mno.serving.trial.wire import LENGTH, pack, unpack

_TO_START = 120.0  # s; importing and compiling take some, once
_MOST_BYTES = 2**31


class BusyError(MnoError):
    """The solver is at work for somebody else."""


class Solver:
    """A process of its own, started when it is first asked, and anew after it was ended.

    Args:
        limit: Seconds that a call may take; the first of a process may take longer.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._process: asyncio.subprocess.Process | None = None
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
        fresh = self._process is None or self._process.returncode is not None
        limit = self._limit + (_TO_START if fresh else 0.0)
        message = pack({**asked, "call": call, "seconds": math.ceil(limit) + 1}, arrays)
        done = False
        try:
            async with asyncio.timeout(limit):
                answer = await self._exchange(message)
            done = True
            return unpack(answer)
        except TimeoutError:
            raise MnoError(f"the solver took longer than {limit:g} s and was ended") from None
        except (OSError, asyncio.IncompleteReadError):
            raise MnoError("the solver's process ended; try again") from None
        finally:
            if not done:  # also where whoever asked has gone: half an answer is of no use
                self.close()

    async def _exchange(self, message: bytes) -> bytes:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mno.serving.trial.worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        write, read = self._process.stdin, self._process.stdout
        if write is None or read is None:
            raise OSError("no pipe to the solver")
        write.write(message)
        await write.drain()
        length = int.from_bytes(await read.readexactly(LENGTH), "big")
        if length > _MOST_BYTES:
            raise OSError("the solver answers nonsense")
        return await read.readexactly(length)

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
