"""The command line: `python -m tests.golden --help`."""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import tests.golden
from tests.golden.compare import read_intended, report
from tests.golden.runs import HELP, RUNS, make_record

ROOT = Path(__file__).parents[2]
INTENDED = Path(__file__).with_name("intended.toml")
KEPT = ROOT / "build/golden"
NAMES = (HELP, *RUNS)


def main() -> int:
    options = _parser().parse_args()
    if options.command == "make":
        _make(options.folder, options.out, options)
        return 0
    if options.command == "check":
        options.before, options.after = _of_commit(options), KEPT / "working-tree.json"
        _make(ROOT, options.after, options)
    old, new = (json.loads(path.read_text("utf-8")) for path in (options.before, options.after))
    if old["recipe"] != new["recipe"]:
        print("the records are of other runs; make both anew to compare all of them")
    return 0 if report(old["values"], new["values"], read_intended(options.intended)) else 1


def _of_commit(options: argparse.Namespace) -> Path:
    """Return the record of a commit, which is made if there is none of these runs."""
    commit = _git("rev-parse", "--verify", f"{options.commit}^{{commit}}")
    out = KEPT / f"{'-'.join((commit, *(options.only or ())))}.json"
    if out.exists() and json.loads(out.read_text("utf-8"))["recipe"] == _recipe(options):
        return out
    with TemporaryDirectory(prefix="mno-golden-") as scratch:
        folder = Path(scratch) / "checkout"
        _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            _make(folder, out, options)
        finally:
            _git("worktree", "remove", "--force", str(folder))
    return out


def _make(folder: Path, out: Path, options: argparse.Namespace) -> None:
    values = make_record(folder.resolve(), options.only or NAMES)
    content = {"recipe": _recipe(options), "values": values}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    print(f"{out}: {len(values)} values")


def _recipe(options: argparse.Namespace) -> str:
    runs = {name: RUNS.get(name, ()) for name in options.only or NAMES}
    return hashlib.md5(json.dumps(runs, sort_keys=True).encode()).hexdigest()


def _git(*arguments: str) -> str:
    done = subprocess.run(("git", *arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"git {' '.join(arguments)} failed, see above")
    return done.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden", description=tests.golden.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="record what a checkout makes")
    make.add_argument("folder", type=Path, metavar="FOLDER", help="the checkout")
    make.add_argument("--out", type=Path, required=True, help="file for the record")
    compare = commands.add_parser("compare", help="show what differs between two records")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    check = commands.add_parser("check", help="hold the working tree against a commit")
    check.add_argument("commit", nargs="?", default="HEAD", help="before the change; HEAD if none")
    for command in (make, check):
        command.add_argument("--only", action="append", choices=NAMES, help="may be repeated")
    for command in (compare, check):
        command.add_argument("--intended", type=Path, default=INTENDED, help="list of changes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
