"""Folding: the outputs of many hosts as few groups, identical or similar; and what groups differ in. Pure.

Identical: same end (state, exit status, signal, code), same bytes kept of each stream, same true lengths and digests.
So two outputs that were cut and end alike are two groups if what was cut differs; and how the streams were mixed,
which is chance, does not count.

Similar: the same but for *values*, that is for words with a digit in them and for the host's own name, and for how much
blank space stands between words. So `web01 up 12 days` and `web02 up 3 days` are one group, `active` and `failed` two.
A group's text then shows the host's name as `⟨host⟩` and each value that differs as what it is: `⟨3 | 12⟩`, and where
there are many `⟨3 … 12, 137 values⟩`. An output that was cut, or that is no text, is similar to its equals only.

Work is linear in the bytes of the outputs, whatever they hold; only a diff is more, and is bounded by its own budget.

Not here: fetching outputs, printing. Rules: what was cut is always told; every limit that was met is told in its place.
"""

from __future__ import annotations

__all__ = ("Group", "GroupDiff", "Printed", "content_digest", "diff", "fold", "fold_similar", "text_lines")

import difflib
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256

from msgspec import Struct

from libstaragent.model.result import Output, records

# Groups that are compared with the largest; who has more differences than this looks for a pattern, not for a diff.
DIFFED_MAX = 100
# Lines of an output that are compared: more is a file. Its cost grows with their square, at worst.
DIFF_LINES_MAX = 1000
# Pairs of differing lines over all diffs, some seconds of a core at worst; beyond it groups are told without a diff.
DIFF_BUDGET = 20_000_000
CONTEXT_LINES = 3
# Different outputs that a template is made of, and so values told apart in one place of it.
VALUES_MAX = 1000
# Values that are named one by one.
VALUES_NAMED = 3

_STDERR = 2
_STREAMS = (1, _STDERR)
_HOST = "⟨host⟩".encode()
# NUL stands for the host's name; what has one itself is no text.
_NAME = b"\0"
_VALUE = re.compile(rb"\0|[\w.:+-]*\d[\w.:+-]*")
_BLANKS = re.compile(rb"[ \t]+")


class Printed(Struct, frozen=True, kw_only=True):
    """One host's end and what is kept of its output."""

    host: str
    state: str
    exit_status: int | None = None
    signal: int | None = None
    code: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: str | None = None
    stderr_sha256: str | None = None
    output: Output = Output()


class Group(Struct, frozen=True, kw_only=True):
    """Hosts with one output; `first` is one of them, and stands for all.

    Attributes:
        hosts: sorted by name.
        template: of a group of similar outputs, its text with the values that differ; empty where all are identical.
        variants: how many different outputs are in it.
    """

    hosts: tuple[str, ...]
    first: Printed
    template: str = ""
    variants: int = 1


class GroupDiff(Struct, frozen=True, kw_only=True):
    """How a group differs from the largest: lines of a unified diff without its heading.

    Attributes:
        cut: there are more lines than were compared.
        skipped: it was not compared, because there are too many or too large differences.
    """

    group: Group
    lines: tuple[str, ...] = ()
    cut: bool = False
    skipped: bool = False


def fold(printed: Iterable[Printed]) -> list[Group]:
    """Groups of identical outputs, the largest first."""
    found: dict[object, list[Printed]] = {}
    for one in printed:
        found.setdefault(_identity(one), []).append(one)
    return _in_order(
        Group(hosts=tuple(sorted(one.host for one in alike)), first=min(alike, key=lambda one: one.host))
        for alike in found.values()
    )


def fold_similar(printed: Iterable[Printed]) -> list[Group]:
    """Groups of similar outputs, the largest first."""
    identical: dict[object, list[Printed]] = {}
    for one in printed:
        identical.setdefault(_identity(one), []).append(one)
    similar: dict[object, list[list[Printed]]] = {}
    for alike in identical.values():
        similar.setdefault(_likeness(alike[0]), []).append(alike)
    return _in_order(_similar_group(variants) for variants in similar.values())


def diff(groups: Sequence[Group]) -> list[GroupDiff]:
    """Each group but the first compared with the first, which is the largest."""
    if not groups:
        return []
    budget = DIFF_BUDGET
    base, base_cut = _bounded(text_lines(groups[0].first))
    found: list[GroupDiff] = []
    for index, group in enumerate(groups[1:]):
        lines, cut = _bounded(text_lines(group.first))
        start = _common(base, lines)
        end = _common(base[start:][::-1], lines[start:][::-1])
        cost = (len(base) - start - end) * (len(lines) - start - end)
        if index >= DIFFED_MAX or cost > budget:
            found.append(GroupDiff(group=group, skipped=True))
            continue
        budget -= cost
        changed = list(difflib.unified_diff(base, lines, n=CONTEXT_LINES, lineterm=""))[2:]
        found.append(GroupDiff(group=group, lines=tuple(changed), cut=cut or base_cut))
    return found


def text_lines(printed: Printed) -> list[str]:
    """What is kept, as lines: stdout, then stderr with `stderr: ` before each; a line for what is not there."""
    lines: list[str] = []
    for stream, prefix in ((1, ""), (_STDERR, "stderr: ")):
        for part in (_stream(printed.output.head, stream), _stream(printed.output.tail, stream)):
            lines.extend(prefix + line for line in _lines(part))
    if printed.output.omitted:
        lines.append(
            f"[{printed.output.omitted} bytes omitted; stdout {printed.stdout_bytes} bytes sha256 "
            f"{printed.stdout_sha256}, stderr {printed.stderr_bytes} bytes sha256 {printed.stderr_sha256}]"
        )
    return lines


def _in_order(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (-len(group.hosts), group.hosts))


def _end(one: Printed) -> tuple[object, ...]:
    return one.state, one.exit_status, one.signal, one.code


def _identity(one: Printed) -> object:
    lengths = (one.stdout_bytes, one.stderr_bytes, one.stdout_sha256, one.stderr_sha256)
    return (*_end(one), one.output.omitted, content_digest(one.output), *lengths)


def content_digest(output: Output) -> bytes:
    """The same for outputs whose streams have the same bytes, wherever they were parted and however they were mixed."""
    parts = [_stream(data, stream) for data in (output.head, output.tail) for stream in _STREAMS]
    if not output.omitted:
        # Head and tail are one text.
        parts = [parts[0] + parts[2], parts[1] + parts[3]]
    return _digest(parts)


def _likeness(one: Printed) -> object:
    """The same for outputs that are similar."""
    text = _plain(one)
    if text is None:
        return _identity(one)
    return (*_end(one), _digest([_VALUE.sub(b"0", part) for part in text]))


def _plain(one: Printed) -> list[bytes] | None:
    """The text of each stream with NUL for the host's name and one blank for many; None where that cannot be."""
    if one.output.omitted:
        return None
    parts = [_text(one, stream) for stream in _STREAMS]
    if any(_NAME in part for part in parts):
        return None
    name = one.host.encode("utf-8", "replace")
    if name and any(name in part for part in parts):
        alone = re.compile(rb"(?<![\w-])" + re.escape(name) + rb"(?![\w-])")
        parts = [alone.sub(_NAME, part) for part in parts]
    return [_BLANKS.sub(b" ", part) for part in parts]


def _similar_group(variants: list[list[Printed]]) -> Group:
    hosts = tuple(sorted(one.host for alike in variants for one in alike))
    first = min((one for alike in variants for one in alike), key=lambda one: one.host)
    if len(variants) == 1:
        return Group(hosts=hosts, first=first)
    some = sorted((alike[0] for alike in variants), key=lambda one: one.host)[:VALUES_MAX]
    template = _template([text for one in some if (text := _plain(one)) is not None], len(variants) > VALUES_MAX)
    return Group(hosts=hosts, first=first, template=template, variants=len(variants))


def _template(variants: Sequence[list[bytes]], more: bool) -> str:
    """The text of similar outputs, each value that is not the same in all of them as what it is."""
    slots: list[set[bytes]] = []
    for parts in variants:
        for number, value in enumerate(_VALUE.findall(b"".join(parts))):
            if number == len(slots):
                slots.append(set())
            slots[number].add(value)
    numbers = iter(slots)

    def shown(found: re.Match[bytes]) -> bytes:
        values = next(numbers)
        if found[0] == _NAME:
            return _HOST
        return found[0] if len(values) == 1 else _values(values, more)

    return _VALUE.sub(shown, b"".join(variants[0])).decode("utf-8", "backslashreplace")


def _values(values: set[bytes], more: bool) -> bytes:
    ordered = sorted(values, key=_natural)
    if len(ordered) <= VALUES_NAMED:
        shown = b" | ".join(ordered)
    else:
        number = b"%d%b" % (len(values), b"+" if more else b"")
        shown = b"%b \xe2\x80\xa6 %b, %b values" % (ordered[0], ordered[-1], number)
    return b"\xe2\x9f\xa8%b\xe2\x9f\xa9" % shown


def _natural(value: bytes) -> tuple[int, float, bytes]:
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def _text(one: Printed, stream: int) -> bytes:
    return _stream(one.output.head, stream) + _stream(one.output.tail, stream)


def _stream(data: bytes, stream: int) -> bytes:
    return b"".join(part for kind, part in records(data) if kind == stream)


def _lines(text: bytes) -> list[str]:
    lines = text.decode("utf-8", "backslashreplace").split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _bounded(lines: list[str]) -> tuple[list[str], bool]:
    return lines[:DIFF_LINES_MAX], len(lines) > DIFF_LINES_MAX


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
