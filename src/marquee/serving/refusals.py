"""What a service says instead of an answer: one shape of error, each with its status."""

from collections.abc import Sequence
from typing import Any

from marquee.errors import DataError, MarqueeError
from marquee.inference.names import Unknown


class Refusal(Exception):
    """A request that is not answered.

    status       of HTTP
    code         a word that programs go by
    suggestions  names that would have been known
    retry        seconds after which it may be tried again
    """

    def __init__(self, status: int, code: str, message: str, suggestions: Sequence[Any] = (), retry: int | None = None):
        super().__init__(message)
        self.status, self.code, self.suggestions, self.retry = status, code, list(suggestions), retry

    @property
    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.suggestions:
            error["suggestions"] = self.suggestions
        return {"error": error}

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry is None else {"Retry-After": str(self.retry)}


def refusal_of(error: BaseException) -> Refusal:
    """What an exception of the predictors means to whoever asked."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Unknown):
        return Refusal(404, "unknown", str(error), error.suggestions)
    if isinstance(error, DataError):
        return Refusal(400, "unreadable", str(error))
    if isinstance(error, MarqueeError):
        return Refusal(400, "invalid", str(error))
    return Refusal(500, "internal", "The service has a bug; its log has the details.")
