"""The order in which tests are begun."""

from __future__ import annotations

from pathlib import Path

import pytest

LINE = Path(__file__).parent / "line"
# Its tests damage and mend one workspace.
AUDIT = Path(__file__).parent / "audit"
# Its tests run commands in one workspace, and two at a time would get into each other's way.
TOGETHER = LINE / "test_finished_run.py"
# What takes longest, so that no process is left alone with it at the end. The first test of the
# second needs no finished workspace, while another process makes that.
LONGEST = (TOGETHER, LINE / "test_interruptions.py", LINE)


def order(item: pytest.Item) -> tuple[bool, ...]:
    """Return a key that sorts tests into the order in which to begin them."""
    return tuple(longest not in (item.path, item.path.parent) for longest in LONGEST)
