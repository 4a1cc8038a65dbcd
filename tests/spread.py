"""How tests are shared out where pytest-xdist runs several processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.order import AUDIT, LINE, TOGETHER

ROOT = Path(__file__).parents[1]


class Spread(LoadScopeScheduling):
    """Give a process one test of the line at a time, or a file of other tests.

    The tests of a file often share what is made once for them, and those of the audit all do. Those
    of the line take long, and share what is made once for all processes.
    """

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)  # pyright: ignore[reportArgumentType]

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        path = ROOT / file
        if path.parent == AUDIT:
            return str(AUDIT)
        return nodeid if path.parent == LINE and path != TOGETHER else file
