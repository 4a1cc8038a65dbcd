"""The surroundings of a training: reproducible arithmetic, and Lightning without its small talk."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from mno.core.errors import InputError, MnoError


def training_device() -> str:
    """Return where training computes: `cuda` where there is such a device, else `cpu`.

    Apple's MPS is left out: it has no deterministic kernels for all that is used.
    """
    return "cuda" if torch.cuda.is_available() else "cpu"


def lightning_precision(
    precision: Literal[32, "bf16"], device: str
) -> Literal["32-true", "bf16-mixed"]:
    """Return Lightning's name for the precision of training.

    Args:
        precision: `train.precision`.
        device: Where training computes. A processor without instructions for bf16 does it in
            software, at no gain.

    Raises:
        InputError: The device does not have it.
    """
    if precision == 32:
        return "32-true"
    if device == "cuda":
        available = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        available = torch.amp.is_autocast_available(device)
    if not available:
        raise InputError(
            f"train.precision={precision}: {device} here has no bf16; set train.precision=32"
        )
    return "bf16-mixed"


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Compute with a fixed number of threads and deterministic kernels; then put all back.

    The random generators are put back, too: training leaves no trace in the process it runs in.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    # By itself torch then also fills every new tensor with NaN, a seventh of a step's time. That
    # shows reads of memory before it is written, which the tests of the kernels look for.
    filling_before = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.set_num_threads(threads)
        torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(deterministic_before)
            torch.utils.deterministic.fill_uninitialized_memory = filling_before  # pyright: ignore


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's device reports, tips and hints off the console; errors still show."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        # Of several processes that average gradients; a matter of speed, and of a kernel's layout.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def honest_interrupts() -> Iterator[None]:
    """Turn Lightning's exits back into what happened.

    On Ctrl-C it calls `sys.exit`, and on SIGTERM it ends with exit code 0, as if all were done.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
        MnoError: The process was asked to end.
    """
    try:
        yield
    except SystemExit as ending:
        if isinstance(ending.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise MnoError(
            "training was asked to end (SIGTERM); run it again and it continues after its last "
            "whole epoch"
        ) from None
