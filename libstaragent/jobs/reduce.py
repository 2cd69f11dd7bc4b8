"""Reducers: what a room makes of many hosts' outputs so that the outputs need not travel. Pure.

    count        how many lines                         sum          the sum of the lines that are numbers
    uniq-count   each line and how often, most first    top-n:N      the N most frequent of them
    sort-merge   all lines, sorted

A `Part` is the state of a reduction over some hosts. Parts merge, in any order and grouping, into the part of all
their hosts (a property test holds this): so rooms reduce what they have, and central merges without looking.

What is kept is bounded by KEPT_LINES and KEPT_BYTES: of all distinct lines, sorted by their bytes, the first ones that
fit. The first that does not fit (its beginning: `cut`) ends them, and no line from there on is kept, by whatever part:
so the choice is the same however the lines were grouped, and the count of a kept line is exact. How many lines were not
kept is known (`left_out`), and who shows a reduction says it.

Rules: only results `ok` and `exit_nonzero` with whole outputs count, and of these stdout; a host whose output was cut
is counted in `cut_hosts` and `cut_bytes` and nowhere else, never by half. Lines are bytes between newlines; the last
need not have one. Sums are exact decimals. Not here: which results go together (`libstaragent.roles.room_outputs`).
"""

from __future__ import annotations

__all__ = (
    "KEPT_BYTES",
    "KEPT_LINES",
    "NAMES",
    "PART_MAX",
    "Part",
    "Reducer",
    "counts",
    "counts_state",
    "is_reducer",
    "merge",
    "pack_part",
    "parse_reducer",
    "read_part",
    "reduce_output",
    "total",
)

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model.result import Output, TargetResult, Whole, records

NAMES = ("count", "sort-merge", "sum", "top-n", "uniq-count")
# Distinct lines of one part, and their bytes: with the results beside it a part stays below the megabyte that a message
# of the bus may be.
KEPT_LINES = 8192
KEPT_BYTES = 256 * 1024
# As much of the first line that does not fit as tells where to stop.
CUT_BYTES = 64
# A part packed: its lines, a count and a header for each, and its numbers.
PART_MAX = KEPT_BYTES + KEPT_LINES * 14 + 4096
# Digits of a number before and after its point: larger ones are no measurements; 10,000 of them add up exactly.
NUMBER_DIGITS = 30
FRACTION_DIGITS = 12
TOP_MAX = KEPT_LINES
# What a command prints per line is told by `top-n` without a number.
TOP_DEFAULT = 10

_STDOUT = 1
_NUMBER = re.compile(rb"[ \t]*([+-]?)(\d{1,%d})(?:\.(\d{1,%d}))?[ \t\r]*\Z" % (NUMBER_DIGITS, FRACTION_DIGITS))
_SPELLING = re.compile(r"(top-n)(?::([1-9]\d{0,4}))?\Z")


class Reducer(Struct, frozen=True):
    """A reducer by name; `top` is the N of top-n."""

    name: str
    top: int = 0


class Part(Struct, frozen=True, kw_only=True, array_like=True):
    """A reduction over `hosts` hosts.

    Attributes:
        hosts: whose outputs are in it. cut_hosts, cut_bytes: those that are not, because this much of them is missing.
        lines, line_bytes: all lines of stdout, with their newlines.
        kept: distinct lines and how often, sorted; empty for count and sum. cut: no line from here on is kept.
        sum: of the numbers, in units of 10^-12, as text. numbers: how many lines were one.
    """

    hosts: Whole = 0
    cut_hosts: Whole = 0
    cut_bytes: Whole = 0
    lines: Whole = 0
    line_bytes: Whole = 0
    kept: Annotated[tuple[tuple[bytes, Whole], ...], Meta(max_length=KEPT_LINES)] = ()
    cut: Annotated[bytes, Meta(max_length=CUT_BYTES)] | None = None
    sum: Annotated[str, Meta(max_length=64, pattern=r"^-?[0-9]+$")] = "0"
    numbers: Whole = 0

    @property
    def left_out(self) -> int:
        """Lines of a reducer that keeps lines which are in no count."""
        return self.lines - sum(count for _, count in self.kept)


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Part)


def is_reducer(text: str) -> bool:
    """Whether `text` names a reducer of this version."""
    try:
        parse_reducer(text)
    except StarAgentError:
        return False
    return True


def parse_reducer(text: str) -> Reducer:
    """The reducer that `text` names.

    :raises UsageError: REDUCER_UNKNOWN.
    """
    if text in NAMES:
        return Reducer(text, TOP_DEFAULT if text == "top-n" else 0)
    match = _SPELLING.match(text)
    if match is not None and match[2] is not None and int(match[2]) <= TOP_MAX:
        return Reducer("top-n", int(match[2]))
    raise codes.REDUCER_UNKNOWN.error(f"{text[:100]!r}")


def counts(result: TargetResult) -> bool:
    """Whether a result takes part at all: its command ran to an end of its own."""
    return counts_state(result.state)


def counts_state(state: str) -> bool:
    """The same by its state alone."""
    return state in ("ok", "exit_nonzero")


def reduce_output(reducer: Reducer, output: Output | None) -> Part:
    """The part of one host."""
    if output is None:
        return Part(hosts=1)
    if output.omitted:
        return Part(cut_hosts=1, cut_bytes=output.omitted)
    text = b"".join(data for stream, data in (*records(output.head), *records(output.tail)) if stream == _STDOUT)
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if reducer.name == "count":
        return Part(hosts=1, lines=len(lines), line_bytes=len(text))
    if reducer.name == "sum":
        found = [number for number in map(_number, lines) if number is not None]
        return Part(hosts=1, lines=len(lines), line_bytes=len(text), sum=str(sum(found)), numbers=len(found))
    kept, cut = _first(Counter(lines), None)
    return Part(hosts=1, lines=len(lines), line_bytes=len(text), kept=kept, cut=cut)


def merge(parts: Iterable[Part]) -> Part:
    """The part of all hosts of `parts`."""
    kept: dict[bytes, int] = {}
    cut: bytes | None = None
    hosts = cut_hosts = cut_bytes = lines = line_bytes = numbers = added = 0
    for part in parts:
        hosts += part.hosts
        cut_hosts += part.cut_hosts
        cut_bytes += part.cut_bytes
        lines += part.lines
        line_bytes += part.line_bytes
        numbers += part.numbers
        added += int(part.sum)
        if part.cut is not None:
            cut = part.cut if cut is None else min(cut, part.cut)
        for line, count in part.kept:
            kept[line] = kept.get(line, 0) + count
        if len(kept) > 2 * KEPT_LINES:
            first, cut = _first(kept, cut)
            kept = dict(first)
    first, cut = _first(kept, cut)
    return Part(
        hosts=hosts,
        cut_hosts=cut_hosts,
        cut_bytes=cut_bytes,
        lines=lines,
        line_bytes=line_bytes,
        kept=first,
        cut=cut,
        sum=str(added),
        numbers=numbers,
    )


def pack_part(part: Part) -> bytes:
    """A part as it travels and is stored, at most PART_MAX bytes."""
    return _encode(part)


def read_part(data: bytes) -> Part:
    """The part that was packed.

    :raises msgspec.MsgspecError: it is none.
    """
    part = _decoder.decode(data)
    if any(line >= after for (line, _), (after, _) in zip(part.kept, part.kept[1:], strict=False)):
        raise msgspec.ValidationError("lines are not in their order")
    return part


def total(part: Part) -> str:
    """The sum, as a decimal number."""
    value = int(part.sum)
    whole, fraction = divmod(abs(value), 10**FRACTION_DIGITS)
    text = f"{whole}.{fraction:0{FRACTION_DIGITS}d}".rstrip("0").rstrip(".")
    return f"-{text}" if value < 0 else text


def _number(line: bytes) -> int | None:
    match = _NUMBER.match(line)
    if match is None:
        return None
    fraction = match[3] or b""
    value = int(match[2]) * 10**FRACTION_DIGITS + int(fraction.ljust(FRACTION_DIGITS, b"0") or b"0")
    return -value if match[1] == b"-" else value


def _first(found: Mapping[bytes, int], cut: bytes | None) -> tuple[tuple[tuple[bytes, int], ...], bytes | None]:
    """The lines before `cut` that fit, in their order; and where they end then."""
    ordered = sorted(found.items()) if cut is None else sorted(entry for entry in found.items() if entry[0] < cut)
    end = len(ordered)
    if end > KEPT_LINES or sum(len(line) for line, _ in ordered) > KEPT_BYTES:
        size = 0
        for end, (line, _) in enumerate(ordered):
            size += len(line)
            if size > KEPT_BYTES or end == KEPT_LINES:
                break
    if end == len(ordered):
        return tuple(ordered), cut
    cut = ordered[end][0][:CUT_BYTES]
    # What begins like the line that does not fit, and is longer than its beginning, goes with it.
    while end and ordered[end - 1][0] >= cut:
        end -= 1
    return tuple(ordered[:end]), cut
