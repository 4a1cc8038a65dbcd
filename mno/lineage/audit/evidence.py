"""What an audit looks at, gathered before it begins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mno.lineage.audit.objects import is_object_name
from mno.lineage.audit.tree import Tree, read_tree
from mno.lineage.seal import Seal

RECORD_FILE = "record.json"


@dataclass(frozen=True)
class Evidence:
    """One registered version, and where the rest of its lineage may be found.

    Attributes:
        root: A clone of the repository; also the workspace whose files are compared if they are of
            this version.
        name: The registered model.
        version: The version's number.
        facts: What `mno.registry.facts.read_facts` returned.
        aliases: The version that each alias of the model stands for now.
        versions: Our tags of all versions of the model, by number.
        chain: The model's seals, the latest first.
        seal: The version's own latest seal; none where it has none.
        sealed_tag: What the version says of its seal; none where it says nothing.
        package: Folder with the version's files; none where they cannot be read.
        run: Folder with the run's files; none where they cannot be read.
        caches: Folders of DVC caches, in which objects are looked for in this order.
        originals: Folders in which files that were imported may lie.
    """

    root: Path
    name: str
    version: int
    facts: Mapping[str, Any]
    aliases: Mapping[str, int]
    versions: Mapping[int, Mapping[str, str]]
    chain: tuple[Seal, ...]
    seal: Seal | None
    sealed_tag: str | None
    package: Path | None
    run: Path | None
    caches: tuple[Path, ...]
    originals: tuple[Path, ...] = ()

    @property
    def tags(self) -> Mapping[str, str]:
        """The version's tags."""
        return self.facts["version"]["tags"]

    @property
    def sealed(self) -> Mapping[str, Any] | None:
        """What the version's seal holds; none where it has none, or it cannot be relied on."""
        return self.seal.content if self.seal is not None and not self.seal.problem else None

    @cached_property
    def record(self) -> Mapping[str, Any] | None:
        """The lineage record: the sealed one, else the run's; none where it cannot be read."""
        return self.sealed["record"] if self.sealed else self.run_record

    @property
    def data_md5(self) -> str | None:
        """DVC's hash of the data, as the record says; none where it says nothing of that kind."""
        md5 = entry(self.record, "data", "md5")
        return md5 if is_object_name(md5) else None

    @cached_property
    def run_record(self) -> Mapping[str, Any] | None:
        """The record among the run's files; none where it cannot be read."""
        content = self.run_json(RECORD_FILE)
        return content if isinstance(content, dict) else None

    @cached_property
    def tree(self) -> Tree:
        """The snapshot that the model was trained from."""
        return read_tree(self.root, entry(self.record, "snapshot", "commit"))

    @cached_property
    def registered_tree(self) -> Tree | None:
        """The snapshot that the model was registered from; none where it is not sealed."""
        if self.sealed is None:
            return None
        commit = self.sealed["snapshot"]["commit"]
        same = commit == self.tree.commit
        return self.tree if same else read_tree(self.root, commit)

    def run_json(self, name: str) -> Any:
        """Read a file of the run as JSON; none where it cannot be read."""
        if self.run is None:
            return None
        try:
            return json.loads((self.run / name).read_bytes())
        except (OSError, ValueError):
            return None


def entry(record: Any, *keys: str) -> Any:
    """Return what is at a path of keys; none where there is nothing of that kind."""
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record
