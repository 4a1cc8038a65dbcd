"""Preparing what comes next in the background, while the present is worked on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import Empty, Queue
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T], ahead: int) -> Iterator[T]:
    """Yield items in their order, a few of them prepared ahead by a thread.

    The thread ends with the items, or when the iterator is closed or forgotten. An error in it is
    raised here, in its place among the items.

    Args:
        items: What prepares an item when asked for the next one.
        ahead: Items that are kept ready; 0 for no thread.
    """
    if ahead < 1:
        yield from items
        return
    queue: Queue[tuple[str, T | BaseException | None]] = Queue(ahead)
    ended = threading.Event()
    thread = threading.Thread(
        target=_prepare, args=(items, queue, ended), name="mno-prefetch", daemon=True
    )
    thread.start()
    try:
        while True:
            kind, item = queue.get()
            if kind == "end":
                return
            if isinstance(item, BaseException) and kind == "error":
                raise item
            yield item  # type: ignore[misc]  # an item, then
    finally:
        ended.set()
        while thread.is_alive():
            try:  # make room, so that the thread sees that it has ended
                queue.get(timeout=0.01)
            except Empty:
                continue


def _prepare(items: Iterable[T], queue: Queue, ended: threading.Event) -> None:
    try:
        for item in items:
            queue.put(("item", item))
            if ended.is_set():
                return
        queue.put(("end", None))
    except BaseException as error:  # noqa: BLE001 - raised again by who asked
        queue.put(("error", error))
