"""The device that is computed on, as `--device` of a command says it for all of its processes."""

import os

import torch

from mno.core.errors import InputError

DEVICE = "MNO_DEVICE"
"""Variable of the environment that holds what was asked for."""


def asked_device() -> str | None:
    """Return the device that was asked for, `cpu` or `cuda`; none where nothing was.

    Training then takes a CUDA device where there is one, and `mno predict` the processor. What an
    evaluation measures is always the processor's.

    Raises:
        InputError: It is another, or not there.
    """
    asked = os.environ.get(DEVICE) or None
    if asked not in (None, "cpu", "cuda"):
        raise InputError(f"device {asked!r} is not known; choose cpu or cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device cuda was asked for, but torch {torch.__version__} finds none here; install a "
            "build of torch for CUDA and its driver, or choose cpu"
        )
    return asked
