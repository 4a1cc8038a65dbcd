"""One of the processes of a training, as a person would write it for torchrun.

`torchrun --nproc-per-node 2 shared_training.py CONFIG WORK RESULT`; the first process writes the
weights and the history.
"""

import json
import os
import sys
from pathlib import Path

from safetensors.torch import save_file
from smoothing_problem import run

from mno.training.config import TrainConfig
from mno.training.processes import started_by_torchrun

KILLED = "KILLED_RANK"


class EndAt:
    """An observer that kills its process after an epoch, as nothing can catch."""

    def __call__(self, epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 2:
            os.kill(os.getpid(), 9)


def main():
    config, work, result = sys.argv[1:]
    with started_by_torchrun() as rank:
        killed = os.environ.get(KILLED) == str(rank.number)
        surrogate, history = run(
            Path(work),
            config=TrainConfig.model_validate_json(config),
            observers=[EndAt()] if killed else [],
        )
        if rank.is_first:
            weights = {k: v.contiguous() for k, v in surrogate.operator.state_dict().items()}
            save_file(weights, f"{result}.safetensors")
            Path(result).write_text(json.dumps(history.to_dict()))


if __name__ == "__main__":
    main()
