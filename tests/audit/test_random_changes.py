"""A random search for a change that an audit would miss: none may."""

from __future__ import annotations

import random
import re
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from mno.lineage.audit.objects import read_listing
from tests.support.audited_line import MODEL, Line
from tests.support.undone_damage import byte, content

Change = tuple[str, Callable[[], AbstractContextManager[None]]]

OURS = f"name = '{MODEL}' AND version = 2"
RUN = "run_uuid = '{run}'"
OF_USERS = f"{RUN} AND key NOT LIKE 'system/%'"
# Rows that an audit of version 2 relies on, and their columns.
ROWS = (
    ("model_version_tags", OURS, ("key", "value")),
    ("model_versions", OURS, ("source", "run_id", "storage_location", "creation_time")),
    ("registered_model_tags", f"name = '{MODEL}'", ("key", "value")),
    ("registered_model_aliases", f"name = '{MODEL}'", ("alias", "version")),
    ("runs", RUN, ("start_time", "end_time", "artifact_uri")),
    ("params", RUN, ("key", "value")),
    ("metrics", OF_USERS, ("key", "value", "step")),
    ("latest_metrics", OF_USERS, ("key", "value")),
    ("tags", f"{RUN} AND key IN ('mno.training_key', 'mno.candidate')", ("key", "value")),
    ("inputs", "destination_id = '{run}' AND source_type = 'DATASET'", ("destination_id",)),
    ("datasets", "1", ("name", "digest", "dataset_source")),
    ("logged_models", "source_run_id = '{run}'", ("name", "source_run_id", "artifact_location")),
    ("logged_model_tags", "model_id = '{model}'", ("tag_key", "tag_value")),
)


class Changes:
    """Draws changes to what an audit of version 2 relies on."""

    def __init__(self, line: Line, seed: int) -> None:
        self.line, self.random = line, random.Random(seed)
        with line.evidence() as evidence:
            assert evidence.package and evidence.run and evidence.record
            folders = [evidence.package, evidence.run, line.root / "data"]
            run, source = evidence.facts["run"]["id"], evidence.facts["version"]["source"]
        seals = list((line.run_files(1) / "seals").iterdir())
        listing = line.object(evidence.record["data"]["md5"])
        objects = {line.object(md5) for md5 in read_listing(listing.read_bytes()).values()}
        left = {"registered_model_meta"}
        inside = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()]
        kept = [p for p in inside if p.name not in left and "__pycache__" not in p.parts]
        self.files = [*kept, *seals, listing, *sorted(objects)]
        self.blobs = self._loose(evidence.record["snapshot"]["commit"])
        self.rows = self._relied_on(run, source.removeprefix("models:/"))

    def draw(self) -> Change:
        kinds = (self._byte, self._line, self._object, self._lock, self._row)
        return self.random.choices(kinds, (40, 10, 10, 5, 35))[0]()

    def _byte(self) -> Change:
        path = self.random.choice([path for path in self.files if path.stat().st_size])
        position, bit = self.random.randrange(path.stat().st_size), self.random.randrange(8)
        return f"bit {bit} of byte {position} of {path}", lambda: byte(path, position, bit)

    def _line(self) -> Change:
        path = self.random.choice([p for p in self.files if p.suffix in (".json", ".txt", ".py")])
        lines = path.read_bytes().splitlines(keepends=True)
        if not lines:
            return self._line()
        number = self.random.randrange(len(lines))
        new = b"".join(lines[:number] + lines[number + 1 :])
        return f"line {number} of {path} removed", lambda: content(path, new)

    def _object(self) -> Change:
        path = self.random.choice(self.blobs)
        text = bytearray(zlib.decompress(path.read_bytes()))
        position = self.random.randrange(len(text))
        text[position] ^= 1 << self.random.randrange(8)
        return f"byte {position} of object {path}", lambda: content(path, zlib.compress(text))

    def _lock(self) -> Change:
        path = self.line.root / "dvc.lock"
        text = path.read_text()
        ours = text.partition("\n  register:")[0]
        spot = self.random.choice(list(re.finditer(r"md5: [0-9a-f]{32}", ours))).end() - 1
        digit = "0" if text[spot] != "0" else "1"
        new = text[:spot] + digit + text[spot + 1 :]
        return f"dvc.lock at {spot}: {digit}", lambda: content(path, new.encode())

    def _row(self) -> Change:
        table, row, column, value = self.random.choice(self.rows)
        if isinstance(value, str) and value:
            spot = self.random.randrange(len(value))
            letter = chr(ord(value[spot]) ^ (1 << self.random.randrange(3)))
            new = value[:spot] + letter + value[spot + 1 :]
            change = f"{column} = '{new.replace(chr(39), chr(39) * 2)}'"
        else:
            change = f"{column} = coalesce({column}, 0) + 1"
        if self.random.random() < 0.1 and table not in ("model_versions", "runs", "datasets"):
            change = None
        what = f"{table} {row}: {change or 'removed'}"
        return what, lambda: self.line.row(table, f"rowid = {row}", change)

    def _loose(self, commit: str) -> list[Path]:
        listed = self.line.git("ls-tree", "-r", "-t", "--object-only", commit).split()
        names = [commit, self.line.git("rev-parse", f"{commit}^{{tree}}"), *listed]
        paths = (self.line.root / ".git/objects" / n[:2] / n[2:] for n in dict.fromkeys(names))
        return [path for path in paths if path.exists()]

    def _relied_on(self, run: str, model: str) -> list[tuple[str, int, str, object]]:
        found = []
        with closing(sqlite3.connect(self.line.database)) as database:
            for table, where, columns in ROWS:
                chosen = where.format(run=run, model=model)
                for column in columns:
                    query = f"SELECT rowid, {column} FROM {table} WHERE {chosen}"
                    rows = database.execute(query).fetchall()
                    assert rows, (table, chosen)
                    found += [(table, row, column, value) for row, value in rows]
        return found


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("number", "seed"), [(25, 1), (600, 2)])
def test_no_change_is_missed(line: Line, number: int, seed: int) -> None:
    changes, missed = Changes(line, seed), []
    for _ in range(number):
        what, apply = changes.draw()
        with apply():
            if not line.differences():
                missed.append(what)
    assert missed == []
    assert line.differences() == []
