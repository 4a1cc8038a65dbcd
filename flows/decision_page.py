"""The decision on a version as a page in Markdown, for Prefect's artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def decision_page(registered: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        registered: The content of `reports/registered.json`.
    """
    name, version = registered["name"], registered["version"]
    judged = registered.get("judged") or {}
    lines = [
        f"# {name} version {version}: {registered['decision']}",
        "",
        f"{registered['reason']}.",
        "",
        "| figure | value |",
        "| --- | --- |",
        f"| relative L2 on the test split | {registered['relative_l2']:.6g} |",
    ]
    if "difference" in judged:
        found = judged["interval"]
        shown = found if isinstance(found, str) else f"{found[0]:+.3g} to {found[1]:+.3g}"
        lines += [
            f"| of champion {judged['champion']}, on the same {judged['samples']} samples "
            f"| {judged['champion_relative_l2']:.6g} |",
            f"| difference | {judged['difference']:+.3g} |",
            f"| {judged['level']:.0%} interval of the difference | {shown} |",
        ]
    lines += _beside(judged.get("beside"))
    lines += [f"| {gate} | {status} |" for gate, status in judged.get("gates", {}).items()]
    lines += ["", f"Decided by {judged.get('by', 'the rule of the time')}.", ""]
    if registered["decision"] == "waiting":
        lines += [
            "Waits for a person:",
            "",
            f"    mno promote {version} --reason '…'",
            f"    mno promote {version} --refuse --reason '…'",
            "",
        ]
    return "\n".join(lines)


def _beside(found: Mapping[str, Any] | str | None) -> list[str]:
    """Return the rows of what was measured side by side with the champion."""
    if not isinstance(found, Mapping):
        return [f"| side by side with the champion | {found} |"] if found else []
    rows = []
    for name, sides in found.items():
        shown = sides if isinstance(sides, str) else _two(sides["own"], sides["champion"])
        rows.append(f"| {name}, side by side with the champion | {shown} |")
    return rows


def _two(own: float, champion: float) -> str:
    times = f", {own / champion:.2f} times" if champion else ""
    return f"{own:.4g} against {champion:.4g}{times}"
