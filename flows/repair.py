"""Repair of a dataset: what does not hold the bytes that its name or record promises, goes.

DVC trusts sizes, times and its own cache. Here every byte is read; what is removed is then made
again by DVC, from what is still good or from the solver.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from mno.core.errors import InputError
from mno.core.files import file_md5
from mno.data.reading import verify
from mno.lineage.audit.objects import find_object
from mno.lineage.dvcfiles import DATA_FILE, locked_out, read_data_version

CACHE = Path(".dvc/cache")
DATASET, DATA = "build/dataset", "data"


def remove_damage(root: Path, say: Callable[[str], None]) -> bool:
    """Remove damaged copies of the dataset, here and in DVC's cache; return whether any was."""
    found = False
    for name in (DATASET, DATA):
        folder = root / name
        if not folder.exists():
            continue
        try:
            problems = verify(folder)
        except InputError as error:
            problems = [str(error)]
        if problems:
            found = True
            for problem in problems:
                say(f"repair     {name}/{problem}")
            shutil.rmtree(folder)
    recorded = {read_data_version(root / DATA_FILE).md5, locked_out(root, "generate", DATASET)}
    for md5 in sorted(filter(None, recorded)):
        for path in _damaged_objects(root / CACHE, md5):
            found = True
            say(f"repair     {path.relative_to(root)} does not hold what its name promises")
            path.unlink()
    return found


def _damaged_objects(cache: Path, directory: str) -> Iterator[Path]:
    if (listing := find_object([cache], directory)) is None:
        return
    if file_md5(listing) != directory.removesuffix(".dir"):
        yield listing
        return
    for md5 in sorted({entry["md5"] for entry in json.loads(listing.read_bytes())}):
        path = find_object([cache], md5)
        if path is not None and file_md5(path) != md5:
            yield path
