"""The order in which tests are begun, and how they are shared out among processes."""

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[2]
LINE = ROOT / "tests/line"
# Their tests damage and mend one workspace.
AUDIT = (ROOT / "tests/audit", ROOT / "tests/certificate")
# Its tests run commands in one workspace, and two at a time would get into each other's way.
TOGETHER = LINE / "test_finished_run.py"
# What takes longest, so that no process is left alone with it at the end. The second makes a
# workspace of its own, while another process makes the finished one.
LONGEST = (TOGETHER, AUDIT[0], LINE)


def order(item: pytest.Item) -> tuple[bool, ...]:
    """Return a key that sorts tests into the order in which to begin them."""
    return tuple(longest not in (item.path, item.path.parent) for longest in LONGEST)


class Spread(LoadScopeScheduling):
    """Give a process one test of the line at a time, or a file of other tests.

    The tests of a file often share what is made once for them, and those of the audit and of
    certificates all do. Those of the line take long, and share what is made once for all processes.
    """

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)  # pyright: ignore[reportArgumentType]

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        path = ROOT / file
        if path.parent in AUDIT:
            return str(AUDIT)
        return nodeid if path.parent == LINE and path != TOGETHER else file
