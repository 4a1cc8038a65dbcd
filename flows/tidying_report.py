"""What `mno gc` says."""

from __future__ import annotations

from rich.console import Console
from rich.filesize import decimal

from flows.text_table import aligned
from mno.lineage.tidying.plan import Plan

_WORDS = {
    "leftovers": "what killed work has left",
    "runs": "training runs, with their files",
    "models": "packages that were not registered",
    "files": "files that MLflow has forgotten",
    "cache": "objects and run entries of DVC's cache",
    "snapshots": "snapshots, whose objects git frees later",
}


def print_plan(plan: Plan, deleted: bool, retention: bool, console: Console) -> None:
    """Say how much of each kind goes, what is not touched and why, and what to do next."""
    rows = [
        (_WORDS[kind], str(number), decimal(size))
        for kind, (number, size) in plan.by_kind().items()
    ]
    console.print(aligned(("Removed" if deleted else "Nothing needs", "Number", "Size"), rows))
    if plan.spared:
        console.print(f"\nSpared: the latest {plan.spared} run(s) that nothing needs (retention)")
    for reason in plan.kept:
        console.print(f"\nnote: {reason}")
    left = decimal(plan.total - plan.size)
    if deleted:
        console.print(f"\n{decimal(plan.size)} freed; {left} are in use.\nNext: mno status")
    elif plan.items:
        words = "mno gc --retention --delete" if retention else "mno gc --delete"
        console.print(
            f"\n{decimal(plan.size)} of {decimal(plan.total)} may go; nothing was removed."
        )
        console.print(f"Next: {words};  one by one: {words.removesuffix(' --delete')} --json")
    else:
        console.print(f"\nAll of {left} is needed.")
