"""The keeper's ledger: what has to survive the loss of power of all its jobs, in one file that is synced once for many.

A spool is a file of its own for each job, and to sync each costs two commits of the file system a command. What must be
on disk before a command may run, and before its end is told, is a few hundred bytes: it goes here, and the spools are
left to the page cache, which outlives every process. After a loss of power (another boot) they are made anew from here.

    header   boot
    started  job, reserved, value
    finished job, reserved, value, and the output where it is short
    gone     job

An entry is ``crc32 | length | JSON``; zeros, or anything else that is no entry, are the end.

Not here: files (`agentd.keeper.ledger`). Rules: whatever bytes are read, nothing raises; of two entries of a job and
kind the later counts.
"""

from __future__ import annotations

import json
import struct
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from zlib import crc32

from libstaragent.jobs.shapes import is_object

__all__ = ("OUTPUT_MAX", "Kept", "decode_entries", "encode_entry", "read_ledger")

# Output up to this many bytes (framing included) stands in the ledger itself: most commands' output, and less to write
# than the two syncs of a spool.
OUTPUT_MAX = 2048
# A header's slots are at most 8 KiB; with a short output in base64 an entry is far under this.
ENTRY_MAX = 64 * 1024

_HEAD = struct.Struct(">II")


def encode_entry(kind: str, job: str, value: dict[str, object], **more: object) -> bytes:
    """One entry; `more` is `reserved` (an object) and `output` (bytes, one block of a spool)."""
    entry: dict[str, object] = {"kind": kind, "job": job, "value": value, **more}
    output = entry.pop("output", None)
    if isinstance(output, bytes):
        entry["output"] = b2a_base64(output, newline=False).decode()
    body = json.dumps(entry, separators=(",", ":")).encode("ascii")
    return _HEAD.pack(crc32(body), len(body)) + body


def decode_entries(data: bytes) -> list[tuple[dict[str, object], bytes]]:
    """(entry, its bytes) of all entries up to the first that is none."""
    found: list[tuple[dict[str, object], bytes]] = []
    at = 0
    while at + _HEAD.size <= len(data):
        checksum, length = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        body = data[at + _HEAD.size : end]
        if not 0 < length <= ENTRY_MAX or len(body) != length or crc32(body) != checksum:
            break
        try:
            entry: object = json.loads(body)
        except (ValueError, RecursionError):
            break
        if not is_object(entry):
            break
        found.append((entry, data[at:end]))
        at = end
    return found


class Kept:
    """What the ledger knows of one job: the values of a spool's three slots (None: none), and its short output."""

    __slots__ = ("finished", "output", "reserved", "started")

    def __init__(self) -> None:
        self.reserved: dict[str, object] = {}
        self.started: dict[str, object] | None = None
        self.finished: dict[str, object] | None = None
        self.output = b""


def read_ledger(data: bytes) -> tuple[str, dict[str, Kept]]:
    """(the boot in which it was written, what is known of each job that is not gone)."""
    boot = ""
    jobs: dict[str, Kept] = {}
    for entry, _ in decode_entries(data):
        kind, job, value, reserved = (entry.get(name) for name in ("kind", "job", "value", "reserved"))
        if not isinstance(job, str) or not is_object(value):
            continue
        if kind == "header":
            boot = job
        elif kind == "gone":
            jobs.pop(job, None)
        elif kind in ("started", "finished"):
            kept = jobs.setdefault(job, Kept())
            if is_object(reserved):
                kept.reserved = reserved
            if kind == "started":
                kept.started = value
            else:
                kept.finished = value
                kept.output = _bytes(entry.get("output"))
    return boot, jobs


def _bytes(text: object) -> bytes:
    try:
        return a2b_base64(text) if isinstance(text, str) else b""
    except (Base64Error, ValueError):
        return b""
