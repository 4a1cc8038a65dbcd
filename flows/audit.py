"""`mno audit`: every link of a registered model's lineage, held against its content."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import urlsplit

import typer
from rich.text import Text

from flows.options import Json, Quiet, console, print_json
from flows.workspace import (
    cache_folder,
    find_workspace,
    prepare_environment,
    program,
    progress_bar,
)
from mno.core.errors import InputError, first_line
from mno.lineage.audit import Evidence, Finding, Verdict, counts, differs, worst
from mno.lineage.record import Tag, entry

if TYPE_CHECKING:
    from mno.lineage.audit.walk import Check
    from mno.lineage.replay_compare import Outcome

DIFFERENCE_FOUND = 3
_STYLES = {Verdict.VERIFIED: "green", Verdict.UNKNOWN: "yellow"}
TIMEOUT = 10.0  # seconds that an endpoint may take
LIMIT = 1 << 18  # bytes of its answer that are read
_NAMED = re.compile(r"([^/@:\s]+)/([0-9]+)")
_TIME = re.compile(r"[\dT:+-]+")
_DATA = "outs:\n- md5: {md5}\n  hash: md5\n  path: data\n"


def _models(incomplete: str) -> list[str]:
    from mno.registry.catalogue import known_models

    return [uri for uri in known_models(find_workspace()) if uri.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Argument(
        help="models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID, a model's folder or its file "
        "of weights, or the address of a served one, as http://127.0.0.1:5001.",
        autocompletion=_models,
    ),
]
Caches = Annotated[
    list[Path] | None,
    typer.Option("--cache", help="Look for data in this DVC cache, too; may be repeated.",
                 metavar="FOLDER"),
]  # fmt: skip
Remote = Annotated[
    str | None,
    typer.Option(help="Take the copy of the data in this DVC remote instead of the cache's.",
                 metavar="NAME"),
]  # fmt: skip
Originals = Annotated[
    list[Path] | None,
    typer.Option(
        help="Look here for the files that data were imported from; may be repeated.",
        metavar="FOLDER",
    ),
]


def audit(
    model: Model,
    cache: Caches = None,
    remote: Remote = None,
    originals: Originals = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show what was verified, too, check by check.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Verify where a registered model comes from: every link by its content, not by its label.

    Weights, training run, record, dataset, imported files, code, parameters, environment, snapshot
    and the decision to promote it; each is verified, changed, missing, or cannot be known. Nothing
    that is looked at is written to. Exit code 3 if anything was changed or is missing.

    Example: mno audit models:/mno-darcy@champion

    To make it again, to the last bit: mno replay;  to certify it: mno certify
    """
    found = audit_model(model, Places(cache or (), originals or (), remote), quiet or as_json)
    if as_json:
        print_json(found.to_dict())
    elif not quiet or not found.passed:
        print_audit(found, everything)
    if not found.passed:
        raise typer.Exit(DIFFERENCE_FOUND)


@dataclass(frozen=True)
class Audit:
    """What an audit has found."""

    model: str  # the version, as `models:/NAME/VERSION`
    lineage: Mapping[str, str]  # what the model says that it comes from, in the chain's order
    findings: Sequence[Finding]
    replay: Outcome | None = None  # what making it again has come to, if that was asked for

    @property
    def passed(self) -> bool:
        """Whether nothing was changed or missing, nor made again otherwise."""
        return not differs(self.findings) and (self.replay is None or self.replay.reproduced)

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "model": self.model,
            "passed": self.passed,
            "lineage": self.lineage,
            "verdicts": counts(self.findings),
            "findings": [asdict(finding) for finding in self.findings],
            **({"replay": self.replay.to_dict()} if self.replay else {}),
        }


class Places(NamedTuple):
    """Where an audit looks for what is not in the registry."""

    caches: Sequence[Path] = ()  # DVC caches besides the workspace's own
    originals: Sequence[Path] = ()  # folders in which files that were imported may lie
    remote: str | None = None  # a DVC remote, whose copy of the data is audited instead


def audit_model(target: str, places: Places, quiet: bool) -> Audit:
    """Audit a registered version; see `audited`."""
    with audited(target, places, quiet) as (_, found):
        return found


@contextmanager
def audited(target: str, places: Places, quiet: bool) -> Iterator[tuple[Evidence, Audit]]:
    """Audit a registered version and yield what was looked at, too; none of it is written to.

    The version is what `mno.registry.evidence.find_model` takes, or the address of an endpoint that
    serves one.

    Raises:
        InputError: There is no such model, endpoint, folder or remote.
    """
    from mno.lineage.audit.walk import audit as walk
    from mno.registry.catalogue import existing_workspace, registry_of
    from mno.registry.evidence import find_model, gather

    root = find_workspace()
    prepare_environment(root)
    for folder in (*places.caches, *places.originals):
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give one that exists")
    workspace = existing_workspace(root)
    served, said = served_model(target) if "://" in target else (target, None)
    version = find_model(registry_of(workspace), served)
    caches = [cache_folder(root), *places.caches]
    with ExitStack() as stack:
        evidence = stack.enter_context(
            gather(workspace, version.name, version.number, caches, places.originals)
        )
        if places.remote is not None:
            cache = stack.enter_context(_fetched(root, places.remote, evidence.data_md5))
            evidence = replace(evidence, caches=(cache,))
        with progress_bar(quiet, "links") as show:
            findings = walk(evidence, show, _links_of_annexes())
        yield evidence, Audit(version.uri, _lineage(evidence, said), findings)


def _links_of_annexes() -> Iterator[Check]:
    try:
        from mno.certificate.verify import CERTIFICATES, check_kept
    except ModuleNotFoundError:  # the extra is not installed
        return
    yield CERTIFICATES, check_kept


def _lineage(evidence: Evidence, endpoint: str | None) -> dict[str, str]:
    known = {
        "endpoint": endpoint,
        "weights": evidence.recorded("model", "sha256"),
        "trained": evidence.recorded("times", "started"),
        "run": evidence.facts["version"]["run"],
        "data": evidence.data_md5,
        "code": evidence.recorded("snapshot", "commit"),
        "commit": evidence.recorded("head"),
        "environment": evidence.recorded("environment_sha256"),
        "machine": evidence.recorded("machine", "cpu"),
        "decision": evidence.tags.get(Tag.DECISION),
        "because": evidence.tags.get(Tag.REASON),
        "sealed": entry(evidence.sealed, "sealed"),
    }
    return {name: str(value) for name, value in known.items() if value}


def served_model(address: str) -> tuple[str, str]:
    """Ask an endpoint of `mno serve`, as `http://127.0.0.1:5001`, which version it serves.

    A token is taken from `MNO_SERVE_TOKEN`, as the server takes it. No redirection is followed.

    Returns:
        The version as `models:/NAME/VERSION`, and what the endpoint said, for a person.

    Raises:
        InputError: It is no such address, does not answer, or does not name a version.
    """
    import httpx

    from flows.serve import TOKEN

    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InputError(
            f"{address}: expected http://HOST:PORT or https://HOST:PORT of a served model, as "
            f"http://127.0.0.1:5001; a token goes into {TOKEN}"
        )
    path = parts.path.rstrip("/").removesuffix("/invocations")
    url = f"{parts.scheme}://{parts.netloc}{path}"
    token = os.environ.get(TOKEN)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = b""
    try:
        with httpx.stream("GET", f"{url}/model", headers=headers, timeout=TIMEOUT) as response:
            for block in response.iter_bytes():
                body += block
                if len(body) > LIMIT:
                    break
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InputError(
            f"{url}/model does not answer ({first_line(error)}); start it with mno serve, or name "
            "the version: models:/NAME/VERSION"
        ) from None
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise InputError(f"{url}/model wants a token: set {TOKEN} to the one it was started with")
    try:
        content = json.loads(body) if response.status_code == httpx.codes.OK else None
    except ValueError:
        content = None
    named, since = entry(content, "model"), entry(content, "since")
    match = _NAMED.fullmatch(named) if isinstance(named, str) else None
    if match is None:
        text = " ".join(body[:200].decode(errors="replace").split())
        said = text.encode("ascii", "backslashreplace").decode() or "nothing"
        raise InputError(
            f"{url}/model answered {response.status_code}: {said!r}; expected a version, as an "
            "endpoint of mno serve names it"
        )
    dated = f" since {since}" if isinstance(since, str) and _TIME.fullmatch(since) else ""
    return f"models:/{named}", f"{url} serves {named}{dated}"


@contextmanager
def _fetched(root: Path, remote: str, md5: str | None) -> Iterator[Path]:
    """Yield a cache of its own with what a DVC remote has of a version of the data, for a while.

    What the remote lacks is not in it; the caller finds that out object by object.
    """
    # The list of the word `remote` is folded to the width of a terminal.
    lines = (line.partition("=") for line in _dvc(root, "config", "--list").splitlines())
    keys = ((key.split("."), value) for key, _, value in lines)
    known = {".".join(k[1:-1]): value for k, value in keys if k[0] == "remote" and k[-1] == "url"}
    if remote not in known:
        raise InputError(
            f"--remote {remote}: no such DVC remote (known: {', '.join(known) or 'none'}); "
            "add it: dvc remote add"
        )
    with TemporaryDirectory(prefix="mno-remote-") as name:
        folder, cache = Path(name) / "workspace", Path(name) / "cache"
        folder.mkdir()
        _dvc(folder, "init", "-q", "--no-scm")
        for config in ("config", "config.local"):
            if (root / ".dvc" / config).exists():
                shutil.copy(root / ".dvc" / config, folder / ".dvc" / config)
        # The workspace's settings say nothing of being outside git.
        _dvc(folder, "config", "-q", "--local", "core.no_scm", "true")
        _dvc(folder, "config", "-q", "--local", "cache.dir", str(cache))
        # A relative address is relative to the workspace.
        _dvc(folder, "remote", "modify", "-q", "--local", remote, "url", known[remote])
        if md5 is not None:
            (folder / "data.dvc").write_text(_DATA.format(md5=md5), encoding="utf-8")
            # Fails if anything is missing.
            _dvc(folder, "fetch", "-q", "-r", remote, "data.dvc", check=False)
        yield cache


def _dvc(folder: Path, *arguments: str, check: bool = True) -> str:
    command = [program("dvc"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and check:
        reason = done.stderr.strip().splitlines() or [f"dvc {arguments[0]} failed"]
        raise InputError(f"{folder}: {reason[-1].removeprefix('ERROR: ')}")
    return done.stdout


def print_audit(audit: Audit, everything: bool = False) -> None:
    """Draw a verdict per link, and of each difference what was expected and what to do."""
    out = console()
    out.print(f"Audit of {audit.model}\n")
    for name, value in audit.lineage.items():
        out.print(f"{name:<15}{value}")
    out.print()
    for link, group in groupby(audit.findings, key=lambda finding: finding.link):
        findings = list(group)
        good = sum(finding.verdict is Verdict.VERIFIED for finding in findings)
        summary = f"{good} of {len(findings)} checks verified"
        out.print(Text.assemble(f"{link:<15}", styled(worst(findings)), summary))
        for finding in findings:
            if everything or finding.verdict is not Verdict.VERIFIED:
                out.print(Text.assemble("  ", styled(finding.verdict), finding.subject))
                if finding.verdict.is_difference:
                    out.print(f"      expected  {finding.expected or 'it to be there'}")
                if finding.found:
                    out.print(f"      found     {finding.found}")
                if finding.advice:
                    out.print(f"      do        {finding.advice}")
    good, changed, missing, unknown = counts(audit.findings).values()
    rest = f"; {unknown} cannot be known" if unknown else ""
    if differs(audit.findings):
        said = Text(f"FAILED: {changed} changed, {missing} missing{rest}", style="bold red")
    else:
        said = Text(f"PASSED: {good} checks verified{rest}", style="bold green")
    out.print(Text.assemble("\n", said))


def styled(verdict: Verdict) -> Text:
    """Return a verdict as it is drawn."""
    return Text(f"{verdict:<16}", style=_STYLES.get(verdict, "bold red"))
