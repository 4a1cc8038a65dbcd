"""What a request is told that is not answered."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        message: Why, and what was expected.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def refusal(error: RefusedError) -> Response:
    """Return a refusal in the form that MLflow's server gives it."""
    codes = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 503: "TEMPORARILY_UNAVAILABLE"}
    content = {
        "error_code": codes.get(error.status, "INVALID_PARAMETER_VALUE"),
        "message": str(error),
    }
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
    return JSONResponse(content, error.status, headers.get(error.status))
