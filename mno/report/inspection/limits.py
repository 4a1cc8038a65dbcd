"""What data of sensors must keep to suffice for training; every threshold, in one place."""

from __future__ import annotations

MISSING = 0.3
"""Largest share of a field's values that may be missing, at the sensors that measure it."""
LONGEST_GAP = 0.1
"""Longest time without a reading of one sensor, as a share of the recorded time."""
FAULTY = 0.1
"""Largest share of sensors that are silent, constant or dead."""
DEAD = 0.02
"""A sensor is dead whose deviation is below this share of the median sensor's."""
MOSTLY_MISSING = 0.5
"""A sensor is named whose share of missing values is above this."""
RATE = 0.3
"""Largest share of the variance between neighbouring frames: that of a wave of 8 frames."""
NOISE = 0.3
"""Largest noise, as a share of the standard deviation."""
RANGE = 0.1
"""How far values to be tested on may lie beyond those trained on, as a share of their range."""
HOLE = 0.6
"""Largest diameter without a sensor, as a share of the diagonal of the box around all."""
POINTS = 3
"""Fewest different places along each axis."""
WINDOWS = {"train": 30, "validation": 3, "test": 3}
"""Fewest samples of each split."""
