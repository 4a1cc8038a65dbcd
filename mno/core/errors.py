"""Errors that reach a person as one line."""


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
