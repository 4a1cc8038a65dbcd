"""Whether changed code makes the same cells of studies as the code that made those that are kept.

    python -m benchmarks.equivalence BEFORE            # a commit for which the kept cells are fresh
    python -m benchmarks.equivalence BEFORE --write    # and keeps what was found
    python -m benchmarks.equivalence BEFORE --study memory    # of one study alone
    python -m benchmarks.equivalence BEFORE --epochs 1        # where a whole training takes long

One cell of each kind (backbone, mixers and discretisation, the scenarios in turn) is made twice on
this machine, by the code of the commit and by the code that is committed now; with `--epochs` only
the beginning of its training. Where data, weights and errors are equal bit for bit, the identities
of old and new code are named together in `studies/results/equivalences.json`, and cells of the old
code stay fresh. What was made for a commit is kept in `build/equivalence/`, so that an interrupted
comparison continues.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows.study import load_study
from mno.lineage.dvcfiles import read_data_version
from mno.study.design import GONE, StudySpec
from mno.study.results import EQUIVALENCES, Code, Found, Study

ROOT = Path(__file__).parents[1]


def kinds(studies: list[Study]) -> list[tuple[str, Found]]:
    """Return one finished cell of each kind, with its study; the scenarios take turns."""
    done = [
        item for study in studies for item in study.found() if item.record.get("state") == "done"
    ]
    by_kind: dict[tuple[object, ...], list[Found]] = {}
    for item in done:
        model = item.cell.params["model"]
        kind = (model["backbone"], *sorted(set(model["mixer"])), model["discretization"])
        by_kind.setdefault(kind, []).append(item)
    scenarios = list(dict.fromkeys(item.cell.params["scenario"] for item in done))
    chosen = []
    for number, same in enumerate(by_kind.values()):
        wanted = scenarios[number % len(scenarios)]
        match = [item for item in same if item.cell.params["scenario"] == wanted]
        chosen.append((match or same)[0])
    return [(item.cell.study, item) for item in chosen]


def made(
    commit: str, name: str, record: Mapping[str, Any], cache: Path, epochs: int | None
) -> dict[str, str]:
    """Make a cell, or its first epochs, by the code of a commit; return digests of what came."""
    length = f"--{epochs}" if epochs else ""
    kept = cache / commit / f"{name.replace('/', '--')}{length}.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    root = cache / commit / "clone"
    if not root.exists():
        _run("git", "clone", "-q", "--shared", "--no-checkout", str(ROOT), str(root), cwd=cache)
        _run("git", "checkout", "-q", "--detach", commit, cwd=root)
    params = root / "params.yaml"
    _run("git", "checkout", "-q", "--", "params.yaml", "dvc.lock", "data.dvc", cwd=root)
    given = dict(record["params"])
    own = {given["scenario"]: given.pop("parameters")}
    if epochs:
        given["train"] = {**given["train"], "epochs": epochs}
    yaml = YAML(typ="safe")
    base = yaml.load(params)  # what a cell does not name of its sections is at its default
    for section, gone in GONE.items():  # which the code of this commit may not know
        known = given[section].items()
        given[section] = {k: v for k, v in known if k not in gone or k in base[section]}
    whole = {**base, **given, "scenarios": {**base["scenarios"], **own}}
    with params.open("w", encoding="utf-8") as file:
        yaml.dump(whole, file)
    _run("dvc", "repro", "evaluate", cwd=root)
    found = {
        "data": str(read_data_version(root / "data.dvc").md5),
        "weights": _digest(next((root / "models/candidate").glob("*.safetensors"))),
        "errors": _digest(root / "reports/metrics.json"),
    }
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(*command: str, cwd: Path) -> None:
    binaries = str(Path(sys.executable).parent)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MNO_", "DVC_"))}
    environment = {**kept, "PATH": f"{binaries}{os.pathsep}{kept['PATH']}", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(
            f"{' '.join(command)} failed in {cwd}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )


def renamed(studies: list[Study]) -> dict[str, dict[str, str]]:
    """Return the identities of code in kept cells, and what they would be now."""
    code = Code(ROOT)
    pairs: dict[str, dict[str, str]] = {"code": {}, "datasets": {}}
    for study in studies:
        for item in [*study.found(code), *study.scaling(code), *study.latencies(code)]:
            if not item.record:
                continue
            was, now = item.record["identity"], item.identity
            pairs["code"][was["code"]] = now.code
            if was["dataset"]:
                pairs["datasets"][was["dataset"]] = now.dataset
    return {part: {a: b for a, b in found.items() if a != b} for part, found in pairs.items()}


def main() -> int:
    """Compare, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("before", help="a commit for which the kept cells are fresh")
    parser.add_argument("--only-before", action="store_true", help="make the old cells, no more")
    parser.add_argument("--write", action="store_true", help="keep what was found")
    parser.add_argument("--study", help="the cells of this study alone")
    parser.add_argument("--epochs", type=int, help="train for so many, with the code of both")
    given = parser.parse_args()
    commits = [
        subprocess.run(
            ["git", "rev-parse", f"{name}^{{commit}}"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.strip()
        for name in (given.before, "HEAD")
    ]  # fmt: skip
    cache = ROOT / "build/equivalence"
    for commit in commits:
        (cache / commit).mkdir(parents=True, exist_ok=True)
    names = [given.study] if given.study else StudySpec.names(ROOT)
    studies = [load_study(name, ROOT) for name in names if name != "paper"]
    shown, differing = [], []
    chosen = kinds(studies)
    for number, (study, item) in enumerate(chosen, 1):
        name = f"{study}/{item.cell.name}"
        old, new = (
            made(commit, name, item.record, cache, given.epochs)
            for commit in (commits[0], commits[0 if given.only_before else 1])
        )
        same = [part for part in old if old[part] == new[part]]
        print(f"{number}/{len(chosen)} {name}: equal in {', '.join(same) or 'nothing'}", flush=True)
        (shown if len(same) == len(old) else differing).append({"cell": name, **new})
    if given.only_before or not given.write:
        return 0 if not differing else 1
    file = ROOT / EQUIVALENCES
    kept: list[dict[str, Any]] = []
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))["equivalences"]
    entry = {
        "before": commits[0],
        "now": commits[1],
        "machine": {"architecture": platform.machine(), "python": platform.python_version()},
        "epochs": given.epochs,
        "equal": shown,
        "not_equal": [item["cell"] for item in differing],
        **renamed(studies),
    }
    content = {"schema": 1, "equivalences": [*kept, entry]}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
