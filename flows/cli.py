"""The `mno` command: puts its words together, and turns what goes wrong into one line."""

from __future__ import annotations

import os
import sys

from flows.commands import (  # noqa: F401 - each brings its words
    certificate,
    line,
    lineage,
    promotion,
    questions,
    schedule,
    stores,
    study,
    tidying,
    tune,
    workspace,
)
from flows.commands.app import app, print_json
from mno.core.errors import MnoError


def main() -> None:
    """Run the command line; turn what goes wrong into one line and an exit code."""
    try:
        app()
    except MnoError as error:
        from flows.stages import StageFailedError

        if not isinstance(error, StageFailedError):  # which has printed its own line already
            print(f"error: {error}", file=sys.stderr)
        if "--json" in sys.argv:
            print_json({"error": str(error), "exit_code": error.exit_code})
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as in `mno status | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
