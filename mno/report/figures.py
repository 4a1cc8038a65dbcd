"""A figure, with the words that go with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure with the words that go with it.

    Attributes:
        name: File name without `.png`.
        title: Its heading in the report.
        caption: What to look for.
        alt: What it shows, for who cannot see it.
        png: The picture.
        narrow: The same for the screen of a telephone.
        full_width: Whether it wants the whole width of a page.
        animation: The same in motion, as GIF; shown to who asks for it.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    narrow: bytes
    full_width: bool = False
    animation: bytes | None = None
