"""A code to an HTTP status and a body: the one place where the API says what went wrong.

Not here: the catalogue. Rules: the class of the code decides, and a few codes where HTTP has a closer word. What was
not foreseen is a code with an id, the same id stands in the log; no stack and no text of a strange exception goes to
a client.
"""

from __future__ import annotations

__all__ = ("error_body", "status_of", "unforeseen")

import logging
import secrets

from libstaragent import codes
from libstaragent.errors import (
    Bug,
    Conflict,
    Denied,
    DependencyFailed,
    IntegrityError,
    NotFound,
    ProtocolError,
    ResourceShort,
    StarAgentError,
    TimedOut,
    UsageError,
)
from libstaragent.model.api import ErrorBody

log = logging.getLogger("agentd.central.api")

_BY_CLASS: dict[type[StarAgentError], int] = {
    UsageError: 422,
    NotFound: 404,
    Conflict: 409,
    Denied: 403,
    TimedOut: 410,
    ResourceShort: 503,
    ProtocolError: 422,
    DependencyFailed: 503,
    IntegrityError: 403,
    Bug: 500,
}

_BY_CODE: dict[str, int] = {
    codes.METHOD_UNKNOWN.code: 405,
    codes.BEARER_MISSING.code: 401,
    codes.BEARER_UNKNOWN.code: 401,
    codes.LOGIN_EXPIRED.code: 401,
    codes.LOGIN_REFUSED.code: 401,
    codes.REQUEST_SLOW.code: 408,
    codes.BODY_TOO_LARGE.code: 413,
    codes.SIGNED_TOO_LARGE.code: 413,
    codes.HEADERS_TOO_LARGE.code: 431,
    codes.TOO_MANY_REQUESTS.code: 429,
    codes.ROSTER_CHAIN.code: 409,
    # Central has not got the newer roster yet: the envelope is good, and the same request succeeds later.
    codes.ROSTER_BEHIND.code: 409,
    codes.SIGNED_NOT_CANONICAL.code: 422,
}


def status_of(error: StarAgentError) -> int:
    """The HTTP status of a coded error."""
    return _BY_CODE.get(error.code.code) or _BY_CLASS[error.code.error_class]


def error_body(error: StarAgentError) -> ErrorBody:
    """What the client reads; the message is what `str(error)` says, without the code in front."""
    code = error.code
    message = f"{code.sentence}: {error.detail}" if error.detail else code.sentence
    return ErrorBody(
        code=code.code,
        symbol=code.symbol,
        message=message,
        remedy=code.remedy,
        retryable=code.retryable,
        errno=error.errno,
    )


def unforeseen(error: BaseException) -> StarAgentError:
    """A strange exception as a code; the log has it whole, under the id that the client gets."""
    incident = secrets.token_hex(6)
    log.error("unforeseen error, id %s", incident, exc_info=error)
    return codes.CENTRAL_BUG.error(f"id {incident}")
