"""The size of the registry that questions are asked of in tests."""

from __future__ import annotations

from benchmarks.lineage_registry import Size

SIZE = Size(versions=40, commits=10, snapshots=20, data=5)
