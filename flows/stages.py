"""What DVC says of the targets of the line, and running one: `dvc repro <target>`."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import permutations, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil

from flows.options import Say
from flows.workspace import program, read_json
from mno.core.config import read_params, read_yaml
from mno.core.errors import InputError, MnoError
from mno.core.files import lock_holder
from mno.lineage.dvcfiles import filled

DONE = Path("build/done")  # notes of stages whose own files are no outputs of DVC's
_TOLD = ("cost.json", "decision.json", "report.html", "report.ja.html")
GRACE = 15.0  # seconds between asking a stage to stop and killing it
_STARTED = re.compile(r"Running stage '(.+)':")
_DVC_CHATTER = (
    "Running stage '", "> ", "Stage '", "'data.dvc' didn't", "Importing ", "Updating lock file",
    "Generating lock file", "Data and pipelines are up to date", "To track the changes with git",
    "\tgit add", "To enable auto staging", "\tdvc config", "Use `dvc push`",
)  # fmt: skip

Action = Literal["ran", "reused", "restored"]
_SAID = {
    "ran": "done",
    "reused": "reused, nothing it depends on has changed",
    "restored": "restored: made before from the same inputs, and put back as recorded",
}


class StageResult(NamedTuple):
    """What became of one target, a stage or `data.dvc`, in how many seconds."""

    target: str
    action: Action
    seconds: float

    def __str__(self) -> str:
        return f"{self.target:<10} {_SAID[self.action]} ({self.seconds:.1f} s)"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {**self._asdict(), "seconds": round(self.seconds, 2)}


class StageFailedError(MnoError):
    """A stage failed; what it printed says why, and so does the reason, in one line."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


def run_target(
    root: Path, target: str, environment: Mapping[str, str], say: Say = lambda _: None
) -> StageResult:
    """Bring one target, a stage or `data.dvc`, up to date.

    The environment is what a stage has besides this process's; `say` is handed each line it prints.
    Ctrl-C is passed on after the stage has been stopped.
    """
    return run_dvc([program("dvc"), "repro", target], root, {**os.environ, **environment}, say)


def run_dvc(
    command: Sequence[str], root: Path, environment: Mapping[str, str], say: Say
) -> StageResult:
    """Run a `dvc repro`, whose last word is the target, in a process group and environment."""
    start, target = time.monotonic(), command[-1]
    with tempfile.TemporaryDirectory(prefix="mno-") as folder:
        failure_file = Path(folder) / "failure.json"
        process = subprocess.Popen(
            command, cwd=root, env={**environment, "MNO_FAILURE_FILE": str(failure_file)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            action, last = _forward(process, target, say, failure_file)
            code = process.wait()
        finally:
            stop_group(process.pid)
        if code != 0:
            if not (failure := read_json(failure_file)):  # killed ones leave none
                reason = f"{target}: dvc repro failed" + (f" ({last[:500]})" if last else "")
                if code < 0:  # of which it can say nothing
                    reason = f"{target}: dvc was ended by signal {-code}"
                    say(f"error: {reason}; run again: what is finished is kept")
                raise StageFailedError(reason, 1)
            reason = f"{failure['stage']}: {failure['message']}"
            raise StageFailedError(reason, failure["exit_code"])
    return StageResult(target, action, time.monotonic() - start)


def stop_group(group: int) -> None:
    """Ask a process group to stop as Ctrl-C would, and kill it after a while."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
        deadline = time.monotonic() + GRACE
        while (lives := _group_lives(group)) and time.monotonic() <= deadline:
            time.sleep(0.05)
        if not lives:
            return


def _group_lives(group: int) -> bool:
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            zombie = process.info["status"] == psutil.STATUS_ZOMBIE
            if not zombie and os.getpgid(process.pid) == group:
                return True
    return False


def _forward(
    process: subprocess.Popen[str], target: str, say: Say, failure_file: Path
) -> tuple[Action, str]:
    """Hand on what DVC prints, but for what it says in any case; return what it did, and the last.

    That is the last line that is not DVC's account of a failure.
    """
    action: Action = "reused"
    last = ""
    for line in process.stdout or ():
        text = line.rstrip()
        if line.startswith(("Running stage '", "Importing ")):
            action = "ran"
        elif line.startswith((f"Stage '{target}' is cached", f"'{target}' is cached")):
            action = "restored" if action == "reused" else action
        if started := _STARTED.match(text):
            say(f"{started[1]:<10} started")
        # Where the stage has said in one line why it failed, DVC's account of it adds nothing.
        account = text.startswith("ERROR: failed to reproduce")
        if text and not line.startswith(_DVC_CHATTER):
            last = last if account else text
            if not (account and failure_file.exists()):
                say(text)
    return action, last


def read_graph(root: Path) -> dict[str, set[str]]:
    """Return each target of the line (a stage, or a `.dvc` file) with those it depends on."""
    params = read_params(root)
    stages = read_yaml(root / "dvc.yaml").get("stages") or {}
    needs, makes = {}, {}
    for name, stage in stages.items():
        if "cmd" not in stage:
            raise InputError(f"dvc.yaml cannot be used: stage {name!r} has no cmd")
        outs = [stage.get(kind) or () for kind in ("outs", "metrics", "plots")]
        needs[name] = filled(stage.get("deps"), params)
        makes[name] = [path for kind in outs for path in filled(kind, params)]
    for file in sorted(path for path in root.glob("?*.dvc") if path.is_file()):
        content = read_yaml(file)
        needs[file.name] = [item["path"] for item in content.get("deps") or ()]
        makes[file.name] = [item["path"] for item in content.get("outs") or ()]
    graph: dict[str, set[str]] = {name: set() for name in needs}
    for name, other in permutations(needs, 2):
        pairs = [(Path(a), Path(b)) for a, b in product(needs[name], makes[other])]
        if any(a.is_relative_to(b) or b.is_relative_to(a) for a, b in pairs):
            graph[name].add(other)
    return graph


def run_order(graph: Mapping[str, set[str]], target: str | None = None) -> list[str]:
    """Return all targets, or one and what it needs, each after those that it depends on."""
    try:
        ordered = {name: sorted(graph[name]) for name in sorted(graph)}
        order = list(TopologicalSorter(ordered).static_order())
    except CycleError as error:
        raise InputError(f"dvc.yaml: stages depend on each other: {error.args[1]}") from None
    wanted = set(order) if target is None else _needed(graph, target)
    if target == "register":  # and decided on
        wanted |= _needed(graph, "report")
    return [name for name in order if name in wanted]


def _needed(graph: Mapping[str, set[str]], target: str) -> set[str]:
    if target not in graph:
        raise InputError(f"dvc.yaml has no stage {target!r}; it has: {', '.join(sorted(graph))}")
    return {target}.union(*(_needed(graph, name) for name in graph[target]))


def read_changes(root: Path) -> dict[str, Any] | None:
    """Return what DVC says has changed, by target; none where a stage at work is in its way."""
    done = subprocess.run(
        [program("dvc"), "status", "--json"], cwd=root, capture_output=True, text=True, check=False
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        if " is busy, " in done.stderr:
            return None
        reason = done.stderr.strip().splitlines() or ["dvc status failed"]
        raise MnoError(reason[0].removeprefix("ERROR: ")) from None


def current_targets(
    root: Path, graph: Mapping[str, set[str]], changes: Mapping[str, Any] | None, say: Say
) -> set[str]:
    """Return the targets that need not be run: neither they nor what they need has changed."""
    if changes is None or not all(name in graph for name in changes):
        return set()
    stale = set(changes) | forget_what_is_gone(root, say)
    return {name for name in graph if not _needed(graph, name) & stale}


def forget_what_is_gone(root: Path, say: Say) -> set[str]:
    """Remove the notes of stages whose files or version are gone, so that DVC runs them again."""
    gone = what_is_gone(root)
    for name, reason in gone.items():
        say(f"{name}: to be done again: {reason}")
        (root / DONE / name).unlink(missing_ok=True)
    return set(gone)


def what_is_gone(root: Path) -> dict[str, str]:
    """Return, by stage, why what it is noted to have done is no more; a version is judged anew."""
    if reason := problem_of_registration(root):
        return dict.fromkeys(("register", "report"), reason)
    if not (root / DONE / "report").exists():
        return {}
    from mno.registry.reading import registered_now

    if missing := [name for name in _TOLD if not (root / "reports" / name).is_file()]:
        return {"report": f"reports/{missing[0]} is not there"}
    registered = registered_now(root)
    if registered and registered["decision"] is None:
        return {"report": f"version {registered['version']} has not been decided on"}
    return {}


def problem_of_registration(root: Path) -> str:
    """Return why the recorded version cannot be used; nothing if it can, or none is recorded."""
    if not (root / DONE / "register").exists():
        return ""
    from mno.registry.reading import REGISTERED, registered_now, why_version_is_unusable

    if not read_json(root / REGISTERED):
        return f"there is no {REGISTERED} that can be read"
    if (registered := registered_now(root)) is None:
        return "stages before it have run since, from other code or parameters"
    return why_version_is_unusable(root, registered) or ""


def read_stages(root: Path) -> list[dict[str, Any]]:
    """Return, for each target in the order of the line, `name`, `state` and `reasons`.

    `state` is `current`, `stale`, `waiting` for a stale one before it, `running`, or `unknown`
    where a running stage keeps DVC from looking.
    """
    graph = read_graph(root)
    running = {name for name in graph if lock_holder(root / "build/locks" / name)}
    changes, gone = read_changes(root), what_is_gone(root)
    stages, stale = list[dict[str, Any]](), set[str]()
    for name in run_order(graph):
        reasons: list[str] = []
        if name in running:
            state = "running"
        elif changes is None:
            state = "unknown"
        else:
            reasons = _reasons(changes.get(name, [])) + [gone[n] for n in (name,) if n in gone]
            state = "waiting" if graph[name] & stale else "stale" if reasons else "current"
            if state != "current":
                stale.add(name)
        stages.append({"name": name, "state": state, "reasons": reasons})
    return stages


def _reasons(changes: list[Any]) -> list[str]:
    reasons = []
    for change in changes:
        if isinstance(change, str):
            reasons.append(change)
            continue
        for kind, paths in change.items():
            for path, what in paths.items():
                if isinstance(what, dict):  # parameters: {"params.yaml": {"train": "modified"}}
                    reasons += [f"{key} {how}" for key, how in what.items()]
                else:
                    verb = "missing" if what == "deleted" and kind == "changed outs" else what
                    reasons.append(f"{path} {verb}")
    return reasons
