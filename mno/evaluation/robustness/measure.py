"""All trials of a surrogate's robustness, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.evaluation.robustness.frame_rate import at_frame_rates
from mno.evaluation.robustness.growth import over_time
from mno.evaluation.robustness.missing import without_sensors
from mno.evaluation.robustness.noise import under_noise
from mno.evaluation.robustness.outside import outside_training
from mno.evaluation.robustness.reasons import NOTHING_LISTED, OFF
from mno.evaluation.robustness.resolution import at_resolutions
from mno.evaluation.robustness.trial import Trial
from mno.evaluation.samples import some_samples

if TYPE_CHECKING:
    from mno.data.reading import Split, StoredSplit
    from mno.evaluation.robustness.config import RobustnessConfig
    from mno.surrogate.surrogate import Surrogate

KINDS = ("noise", "missing", "resolution", "frame_rate", "outside", "over_time")


def measure_robustness(
    surrogate: Surrogate,
    test: Split | StoredSplit,
    train_mean: Mapping[str, np.ndarray],
    config: RobustnessConfig,
    batch_size: int,
) -> dict[str, Any]:
    """Return what `reports/robustness.json` holds: by kind a curve, or why there is none.

    It depends on the model, the test split and the configuration alone. Test samples are taken
    evenly spread over the split; what has to be solved anew is solved by the scenario, from streams
    of its own.

    Args:
        surrogate: The trained operator, which fits the split.
        test: Samples it was not trained on.
        train_mean: The training split's `mean_fields`.
        config: What is tried; of an empty list, nothing.
        batch_size: Samples per forward pass.
    """
    if not config.enabled:
        return dict.fromkeys(KINDS, OFF)
    trial, schema = Trial(surrogate, train_mean, batch_size), test.schema
    samples = some_samples(test, config.samples)
    count, seed = config.solved_samples, config.seed
    noise, missing, resolutions = config.noise, config.missing, config.resolutions
    return {
        "noise": under_noise(trial, samples, noise, seed) if noise else NOTHING_LISTED,
        "missing": without_sensors(trial, samples, missing, seed) if missing else NOTHING_LISTED,
        "resolution": at_resolutions(trial, schema, resolutions, count, seed)
        if resolutions
        else NOTHING_LISTED,
        "frame_rate": at_frame_rates(trial, samples, schema, count, seed),
        "outside": outside_training(trial, schema, count, seed),
        "over_time": over_time(trial, samples, schema, count, seed, config.threshold),
    }
