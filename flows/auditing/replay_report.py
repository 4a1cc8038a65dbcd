"""What a person reads of a replay."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from mno.lineage.replay.outcome import Change, Item, Likeness, Outcome

_STYLES = {
    Likeness.IDENTICAL: "green",
    Likeness.CLOSE: "yellow",
    Likeness.DIFFERENT: "bold red",
    Likeness.UNKNOWN: "yellow",
}
_SHOWN = 8


def print_replay(model: str, outcome: Outcome, console: Console) -> None:
    """Draw what was made again, under which conditions, and a verdict for each item."""
    console.print(f"\nReplay of {model}\n")
    console.print(f"{'ran':<24}{', '.join(outcome.stages)}")
    for given in outcome.given:
        console.print(f"{'given':<24}{given}")
    _print_changes("packages", outcome.packages, console)
    _print_changes("machine", outcome.machine, console)
    console.print(f"{'tolerance':<24}{outcome.tolerance}\n")
    for item in outcome.items:
        _print_item(item, console)
    console.print()
    console.print(_conclusion(outcome))
    if outcome.folder is not None:
        console.print(f"What was made is in {outcome.folder}; remove it when you have looked")


def _print_changes(name: str, changes: Sequence[Change] | None, console: Console) -> None:
    if not changes:
        said = "as recorded" if changes is not None else "those recorded cannot be known"
        console.print(f"{name:<24}{said}")
        return
    for change in changes[:_SHOWN]:
        bits = "" if change.matters else " (decides no bits)"
        console.print(f"{name:<24}{change}{bits}")
    if len(changes) > _SHOWN:
        console.print(f"{name:<24}and {len(changes) - _SHOWN} more; all of them with --json")


def _print_item(item: Item, console: Console) -> None:
    verdict = Text(f"{item.likeness:<20}", style=_STYLES[item.likeness])
    same = item.likeness is Likeness.IDENTICAL
    console.print(Text.assemble(f"{item.name:<24}", verdict, item.found if same else item.note))
    if not same:
        console.print(
            f"  recorded {item.recorded or 'nothing'}\n  found    {item.found or 'nothing'}"
        )


def _conclusion(outcome: Outcome) -> Text:
    counted = {likeness: outcome.count(likeness) for likeness in Likeness}
    told = ", ".join(f"{number} {likeness}" for likeness, number in counted.items() if number)
    if outcome.reproduced:
        return Text(f"REPRODUCED: {told}", style="bold green")
    return Text(f"NOT REPRODUCED: {told or 'nothing to compare'}", style="bold red")
