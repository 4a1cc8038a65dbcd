"""Errors that reach a person as one line."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path


class MnoError(Exception):
    """Something failed that is not the user's input; commands exit with 1."""

    exit_code = 1


class InputError(MnoError):
    """The user's input cannot be used; commands exit with 2.

    The message says what was given, what was expected and what to do.
    """

    exit_code = 2


def first_line(error: BaseException) -> str:
    """Return an error's message as a single line."""
    return " ".join(str(error).split())


@contextmanager
def reading(
    path: Path, what: str = "", expected: str = "an undamaged file of this kind"
) -> Iterator[None]:
    """Turn whatever a library raises over a damaged file, or what is not a file, into one line."""
    try:
        yield
    except MnoError:
        raise
    except Exception as error:
        subject, reason = f"{path}: {what}" if what else path, first_line(error).split(". ")[0]
        raise InputError(
            f"{subject} cannot be read ({reason[:200] or type(error).__name__}); "
            f"expected {expected}: get it anew, or convert it"
        ) from None


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """Return `; did you mean NAME?` where a known name is close to what was given, else nothing."""
    near = get_close_matches(str(given), list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""
