"""Darcy flow by the protocol of the Fourier neural operator, which the literature's tables follow.

`a` is 12 or 3 by the sign of a Gaussian random field of covariance `(-Laplacian + 9)^-2`; every
fifth of 421 x 421 cells is seen, on 85 x 85 points: the first and the last half a fine cell from a
wall. 1,000 samples teach and 200 test (Li et al., arXiv:2010.08895, sections 5.2 and A.3.2). The
published files are not at hand: samples are drawn anew (`benchmarks.accuracy.fine_darcy`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.accuracy.fine_darcy import FINE, Flow, centres
from mno.core.fields import Axis
from mno.data.reading import Schema, Split
from mno.scenarios.base import scenario_class

SAMPLES = {"train": 1000, "test": 200}
FLOW = Flow("darcy_421", 2.0, 3.0, (3.0, 12.0), tuple(range(0, FINE, 5)))
POINTS = len(FLOW.seen)


def read() -> dict[str, Split]:
    """Return the splits `train` and `test`; solve them, once, where they are not kept yet."""
    fields = FLOW.samples(sum(SAMPLES.values()))
    darcy = scenario_class("darcy")
    # As if the points were in the middle of cells that fill the square: they are as symmetric.
    axes = tuple(Axis(name, "1", name, centres(POINTS), (0.0, 1.0)) for name in ("x", "y"))
    schema = Schema("darcy", darcy.fields, axes, darcy.symmetries, walls=darcy.walls)
    splits: dict[str, Any] = {}
    begun = 0
    for name, count in SAMPLES.items():
        some = {key: field[begun : begun + count] for key, field in fields.items()}
        splits[name] = Split(name, schema, some, np.arange(count))
        begun += count
    return splits
