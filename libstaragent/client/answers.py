"""What central's answers mean: a typed value, or the error that central raised, raised here again.

Not here: HTTP. Rules: pure; whatever bytes come, the outcome is the value or a StarAgentError; a code that this version
does not know is raised all the same, with the words that central sent for it.
"""

from __future__ import annotations

__all__ = ("decode_answer", "raised_at_central")

from typing import TypeVar

import msgspec

from libstaragent import codes
from libstaragent.errors import Code, StarAgentError
from libstaragent.model.api import ErrorBody

T = TypeVar("T")

# What of an answer that cannot be read is shown: enough to recognise a proxy's error page.
_SHOWN = 120

_error_decoder = msgspec.json.Decoder(ErrorBody)


def decode_answer(body: bytes, kind: type[T]) -> T:
    """`body` as the JSON of a `kind`.

    :raises ProtocolError: it is not.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise codes.CENTRAL_ANSWER.error(f"{error}: {_begin(body)}") from error


def raised_at_central(status: int, body: bytes) -> StarAgentError:
    """The error that an answer with a failing HTTP status stands for."""
    try:
        said = _error_decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        code = codes.CENTRAL_FAILED if status >= 500 else codes.CENTRAL_ANSWER
        return code.error(f"HTTP {status}: {_begin(body)}")
    code = codes.by_code(said.code)
    if code is None:
        if not _is_code(said.code):
            return codes.CENTRAL_ANSWER.error(f"HTTP {status}: {_begin(body)}")
        sentence, _, detail = said.message.partition(": ")
        code = Code(said.code, said.symbol, sentence, said.remedy, retryable=said.retryable)
        return code.error(detail, errno=said.errno)
    return code.error(_detail_of(code, said.message), errno=said.errno)


def _is_code(text: str) -> bool:
    return len(text) == 7 and text.startswith("SA-") and text[3:].isalnum() and text[4].isdecimal()


def _detail_of(code: Code, message: str) -> str:
    """What is particular: `message` without the catalogue's words, which the local code brings itself."""
    for known in (code.code, code.sentence):
        # Only what joins them: a detail may begin with colons, as an IPv6 network does.
        message = message.removeprefix(known).removeprefix(":").removeprefix(" ")
    return message


def _begin(body: bytes) -> str:
    text = body[:_SHOWN].decode("utf-8", "replace")
    return repr(text + "…" if len(body) > _SHOWN else text)
