"""An agent as a witness of the audit: what it keeps of the heads that pings tell, and how it tells them.

Not here: how heads are spread (`security.heads`), the file. Rules: pure; what the room says of the audit is kept, never
judged here: to find out what it means needs the whole chain, which the operator's client reads.
"""

from __future__ import annotations

__all__ = ("HeadsTold", "heads_result")

import hashlib

import msgspec

from libstaragent.model.result import Output, TargetResult, encode_records
from libstaragent.security.heads import Head

STDOUT = 1


class HeadsTold(msgspec.Struct, frozen=True):
    """The output of `ReadHeads`, as JSON: entry number, hash in hex, and when it was seen first, for each head."""

    heads: tuple[tuple[int, str, int], ...]


def heads_result(job: str, heads: list[Head]) -> TargetResult:
    """The end of a `ReadHeads`."""
    told = HeadsTold(tuple((head.seq, head.hash.hex(), head.seen_ms) for head in heads))
    text = msgspec.json.encode(told) + b"\n"
    return TargetResult(
        job=job,
        state="ok",
        exit_status=0,
        ran="yes",
        stdout_bytes=len(text),
        stdout_sha256=hashlib.sha256(text).digest(),
        output=Output(encode_records([(STDOUT, text)])),
    )
