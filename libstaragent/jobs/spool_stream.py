"""How what a host keeps of an output travels to its reader: records as in results, and two kinds more. Pure.

    1, 2   output of stdout, stderr
    3      a gap: so many bytes (u64) before the next record are not kept any more
    0      the end, always the last: JSON {"end": offset after the last byte} or {"code": …, "detail": …}

Not here: who sends them (`libstaragent.roles.agent_spools`) and carries them. Rules: a piece holds whole records; bytes
that are no records give nothing.
"""

from __future__ import annotations

__all__ = ("END", "GAP", "end_of", "end_record", "ends_with_end", "error_end", "gap_record")

from collections.abc import Mapping
from typing import Any

import msgspec

from libstaragent.errors import StarAgentError
from libstaragent.model.result import encode_records, records

END = 0
GAP = 3
# A sentence about what went wrong.
DETAIL_MAX = 500


def end_record(offset: int) -> bytes:
    """The end, after all that is kept."""
    return encode_records([(END, msgspec.json.encode({"end": offset}))])


def error_end(error: StarAgentError) -> bytes:
    """The end, because of `error`."""
    word = {"code": error.code.code, "detail": error.detail[:DETAIL_MAX]}
    return encode_records([(END, msgspec.json.encode(word))])


def gap_record(missed: int) -> tuple[int, bytes]:
    """So many bytes are not kept."""
    return GAP, missed.to_bytes(8, "big")


def end_of(data: bytes) -> Mapping[str, Any]:
    """What the body of an END record says; nothing where it cannot be read."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}


def ends_with_end(piece: bytes) -> bool:
    """Whether this piece of whole records is the last."""
    return any(stream == END for stream, _ in records(piece))
