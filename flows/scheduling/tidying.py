"""Tidying at the end of a scheduled run: what `mno gc --retention --delete` does."""

from __future__ import annotations

from rich.filesize import decimal

from mno.core.errors import MnoError, first_line


def tidy_up() -> str:
    """Remove what nothing needs; the latest runs stay, as `retention` in `params.yaml` says.

    A run that has trained a model has not failed because the tidying did.

    Returns:
        What came of it, in a few words.
    """
    from flows.tidying import tidy  # takes a second, which a run without it need not

    try:
        plan = tidy(delete=True, retention=True, quiet=True)
    except MnoError as error:
        return f"not tidied: {first_line(error)}"
    said = f"tidied: {decimal(plan.size)} freed, {decimal(plan.total - plan.size)} in use"
    return "; ".join([said, *plan.kept])
