"""How imported samples are assigned to splits: at random, by a parameter's range, or by time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mno.core.errors import InputError
from mno.data.config import SPLITS, GenerateConfig
from mno.scenarios.imported import SplitRule


def assign(
    rule: SplitRule,
    config: GenerateConfig,
    groups: np.ndarray,
    starts: np.ndarray | None,
    numbers: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Assign samples to splits.

    Args:
        rule: How.
        config: Shares and seed.
        groups: Number of each sample's group, shape `(samples,)`; one group is in one split.
        starts: When each sample begins, shape `(samples,)`, where that is known.
        numbers: Inputs that are one number per sample, shape `(samples,)`, by field.

    Returns:
        Names of splits, shape `(samples,)`, dtype object.

    Raises:
        InputError: The rule cannot be applied to these samples, or leaves a split empty.
    """
    if rule.by == "parameter":
        names = _by_parameter(rule, numbers)
    elif rule.by == "time":
        names = _by_time(config, starts)
    else:
        names = _at_random(config, groups)
    empty = [name for name in SPLITS if name not in names]
    if empty:
        raise InputError(
            f"splitting by {rule.by} leaves no sample for {' and '.join(empty)}; change "
            "scenarios.imported.split or generate.split, or import more samples"
        )
    return names


def _at_random(config: GenerateConfig, groups: np.ndarray) -> np.ndarray:
    numbers, group_of = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(0, 0)))
    place = np.empty(len(numbers), dtype=np.int64)
    place[rng.permutation(len(numbers))] = np.arange(len(numbers))
    return _shares(config, place)[group_of]


def _by_time(config: GenerateConfig, starts: np.ndarray | None) -> np.ndarray:
    if starts is None:
        raise InputError(
            "split by time needs samples that begin at known times, which these do not; set "
            "scenarios.imported.split.by=random"
        )
    _, place = np.unique(starts, return_inverse=True)
    return _shares(config, place)


def _shares(config: GenerateConfig, place: np.ndarray) -> np.ndarray:
    """Return splits by place in a queue of `place.max() + 1`; every split gets one, if it can."""
    count = int(place.max()) + 1
    validation = max(1, round(count * config.split.validation))
    test = max(1, round(count * config.split.test))
    names = np.full(count, "train", dtype=object)
    names[count - test - validation :] = "validation"
    names[count - test :] = "test"
    return names[place]


def _by_parameter(rule: SplitRule, numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    if rule.field not in numbers:
        known = ", ".join(numbers) or "none"
        raise InputError(
            f"split by parameter: {rule.field!r} is no input with one number per sample; there "
            f"are: {known}"
        )
    values = numbers[str(rule.field)]
    names = np.full(len(values), "train", dtype=object)
    for name, limits in (("validation", rule.validation), ("test", rule.test)):
        if limits is not None:
            names[(values >= limits[0]) & (values <= limits[1])] = name
    return names
