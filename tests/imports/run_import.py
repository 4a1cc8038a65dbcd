"""Import a file in a process of its own, in small shards. Arguments: folder, file."""

from __future__ import annotations

import sys
from pathlib import Path

from mno.imports import convert
from mno.imports.collection import import_files


def main() -> None:
    folder, file = map(Path, sys.argv[1:])
    convert.SHARD_BYTES = 20_000
    import_files(folder, [file], "npz", None)


if __name__ == "__main__":
    main()
