"""A child process in which files of strangers are read: little memory, some time, no network.

Whatever a file makes of the libraries that read it, it cannot take more memory than this process
may (`RLIMIT_AS`), go on for ever, or send anything away; a crash is one line. The child is a fresh
Python, never a fork, and answers in JSON, so that nothing of it is run here.

On Linux it has a network namespace of its own, in which there is nothing, where the system lets it
(root may, others where user namespaces are allowed): that holds for C libraries, too. Everywhere an
audit hook, which no code can take back, refuses Python's sockets. Other systems may not know all
limits; there the time limit and the hook remain.
"""

import base64
import ctypes
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic_core import to_jsonable_python

from mno.core.errors import InputError, MnoError, first_line
from mno.core.memory import keep_freed_memory

MEMORY = 2**30  # bytes that reading may take beyond what Python and the libraries have

_SECONDS, _BYTES_A_SECOND = 600, 10**6  # time for any file, and how fast larger ones must go
_STACK = 2**21  # of a thread; all of it counts
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000  # of unshare, in sched.h
_END_WITH_PARENT = 1  # of prctl, in sys/prctl.h
_NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo")

_limited = False  # in the child alone


class Cage(AbstractContextManager["Cage", None]):
    """A child process, begun at the first call, that calls functions in `memory` bytes at most."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._memory = memory
        self._process: subprocess.Popen[str] | None = None

    def call(
        self, function: Callable[..., Any], arguments: Mapping[str, Any], files: Sequence[Path],
        progress: Callable[[Any], None] = lambda _: None,
    ) -> Any:  # fmt: skip
        """Call a function of a module in the child; return what it returns, as JSON has it.

        It is called with `arguments`, by name, and with `progress`, which is told what it says of
        it, as JSON has it. The size of the `files` that are read bounds the time.

        Raises:
            InputError: The function raised it, or the child took too much time or memory, or
                crashed.
            MnoError: The function raised it.
        """
        seconds = _SECONDS
        with suppress(OSError):
            each = (one for path in files for one in (path, *path.rglob("*")))
            seconds += sum(one.stat().st_size for one in each) // _BYTES_A_SECOND
        named = ", ".join(str(path) for path in files)
        process = self._process = self._process or _started()
        assert process.stdin and process.stdout  # they are pipes
        late = threading.Event()
        timer = threading.Timer(seconds, lambda: (late.set(), process.kill()))
        timer.daemon = True
        timer.start()
        name = f"{function.__module__}:{function.__qualname__}"
        try:
            with suppress(BrokenPipeError):  # of a child that ended before
                call = pickle.dumps((name, dict(arguments), self._memory, named))
                process.stdin.write(base64.b64encode(call).decode() + "\n")
                process.stdin.flush()
            for line in process.stdout:
                what, value = json.loads(line)
                if what == "done":
                    return value
                if what != "progress":
                    raise (InputError if what == "input" else MnoError)(printable(value))
                progress(value)
        except BaseException as error:
            if not isinstance(error, MnoError):  # interrupted: it may be anywhere
                self.close()
            raise
        finally:
            timer.cancel()
        code = process.wait()
        self.close()
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        why = f"took more than {seconds} s" if late.is_set() else f"ended by {cause}"
        raise InputError(
            f"{named} cannot be read: reading it {why}; expected an undamaged file: get it anew"
        )

    def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.communicate()

    def __exit__(self, *_: object) -> None:
        self.close()


def call_for_arrays(
    function: Callable, arguments: Mapping[str, Any], files: Sequence[Path], memory: int = MEMORY
) -> tuple[Any, dict[str, np.ndarray]]:
    """Call a function in a cage that saves arrays to `target`; return its answer and the arrays."""
    with TemporaryDirectory(prefix="mno-import-") as folder, Cage(memory) as cage:
        target = Path(folder) / "arrays.npz"
        said = cage.call(function, {**arguments, "target": str(target)}, files)
        with np.load(target, allow_pickle=False) as stored:
            return said, dict(stored)


def printable(text: str) -> str:
    """Return text of a file without what would command a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def make_room(nbytes: int) -> None:
    """Let this process, if it is a child in a cage, take more memory, for what is known of a file.

    Files are mapped into memory, samples may be large, and some formats are read as a whole.
    """
    if _limited:
        _limit(nbytes, anew=False)


def _started() -> subprocess.Popen[str]:
    # It finds what this process does, and nothing else in the current folder (-P). Memory has few
    # arenas, since each counts for more than it uses.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, "-P", "-m", "mno.imports.cage"]
    return subprocess.Popen(  # in a session of its own: Ctrl-C is for whoever started it
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip


def _main() -> None:
    """Answer calls, one line each, until there are no more."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print
    threading.stack_size(_STACK)
    keep_freed_memory()
    _cut_off()
    for line in sys.stdin:
        call = pickle.loads(base64.b64decode(line))  # of the process that started this one
        _say(channel, *_answer(*call, progress=lambda value: _say(channel, "progress", value)))


def _say(channel: Any, what: str, value: Any) -> None:
    channel.write(json.dumps([what, to_jsonable_python(value)]) + "\n")


def _answer(
    name: str, arguments: dict[str, Any], memory: int, files: str, progress: Callable
) -> tuple[str, Any]:
    try:
        module, function = name.split(":")
        called = getattr(import_module(module), function)
        _limit(memory, anew=True)
        return "done", called(**arguments, progress=progress)
    except MemoryError:
        return "input", (
            f"{files} cannot be read in {memory // 2**20} MiB of memory; expected an undamaged "
            "file: get it anew, or write it in smaller pieces"
        )
    except InputError as error:
        return "input", str(error)
    except MnoError as error:
        return "failed", str(error)
    except Exception as error:  # the file is not as whoever reads it thought
        why = f"{type(error).__name__}: {first_line(error)}"[:200]
        return "input", f"{files} cannot be read ({why}); expected an undamaged file: get it anew"


def _cut_off() -> None:
    """Leave the network, and end with the process that started this one."""
    with suppress(AttributeError, OSError):  # systems without
        libc = ctypes.CDLL(None)
        libc.prctl(_END_WITH_PARENT, signal.SIGKILL)
        if libc.unshare(_NEW_NETWORK):
            libc.unshare(_NEW_NETWORK | _NEW_USER)

    def refuse(event: str, _: Any) -> None:
        if event in _NETWORK:
            raise PermissionError("there is no network where files are read")

    sys.addaudithook(refuse)


def _limit(nbytes: int, *, anew: bool) -> None:
    """Let this process take so many bytes beyond what it has now, or else beyond its limit."""
    global _limited
    with suppress(ImportError, OSError, ValueError):  # systems without
        import resource

        limit, most = resource.getrlimit(resource.RLIMIT_AS)
        if anew:
            limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit + nbytes, most))
        _limited = True


if __name__ == "__main__":
    # Under its own name, since the functions it calls import it, too.
    import_module("mno.imports.cage")._main()
