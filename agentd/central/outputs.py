"""Outputs of a job put together for the API: identical ones in groups, and the parts of a reduction merged.

Not here: what a group or a part is (`libstaragent.jobs`), HTTP. Rules: blocking, called in threads; rows are read in
pages and each distinct body once, so that memory is that of the groups and not of the outputs; a part that cannot be
read is left out, and its hosts are among the uncounted.
"""

from __future__ import annotations

__all__ = ("GROUP_BYTES_MAX", "folded_view", "reduced_view")

import logging
from collections.abc import Iterator, Mapping

import msgspec

from agentd.central.views import output_view
from agentd.store.ops import InsertTarget
from agentd.store.reader import Reader
from libstaragent import targets
from libstaragent.jobs.folding import content_digest
from libstaragent.jobs.kept_output import output_of
from libstaragent.jobs.reduce import Part, Reducer, merge, read_part, total
from libstaragent.model.gathered import FoldedGroup, FoldedView, ReducedLine, ReducedView
from libstaragent.model.result import Output
from libstaragent.security.acts import Member

log = logging.getLogger("agentd.central")

# Output that comes along with groups, a third more as JSON; the rest is read host by host.
GROUP_BYTES_MAX = 8 * 1024 * 1024
# Parts read at once, at most PART_MAX each.
PARTS_PAGE = 16


def folded_view(read: Reader, job_id: str, members: Mapping[str, Member], *, still_open: int, limit: int) -> FoldedView:
    """The groups of a job's ended targets; an amendment stands for what it amends."""
    later = {row.agent: row for row in read.amendments(job_id)}
    contents: dict[bytes, bytes] = {}
    found: dict[object, list[InsertTarget]] = {}
    for ended in _rows(read, job_id):
        row = later.get(ended.agent, ended)
        if row.agent in members:
            found.setdefault(_key(row, _content(read, row, contents)), []).append(row)
    ordered = sorted(found.values(), key=lambda rows: (-len(rows), min(members[row.agent].name for row in rows)))
    groups: list[FoldedGroup] = []
    room = GROUP_BYTES_MAX
    for rows in ordered[:limit]:
        output = _output(read, rows[0])
        size = 0 if output is None else len(output.head) + len(output.tail)
        group = _group(rows, members)
        if size <= room:
            room -= size
            group = msgspec.structs.replace(group, output=output_view(output))
        groups.append(group)
    rest = ordered[limit:]
    return FoldedView(
        job=job_id, open=still_open, groups=tuple(groups), more_groups=len(rest), more_hosts=sum(map(len, rest))
    )


def reduced_view(read: Reader, job_id: str, reducer: Reducer, *, hosts: int, still_open: int) -> ReducedView:
    """The reduction of a job over what has ended."""
    part = merge(_parts(read, job_id))
    lists = reducer.name in ("uniq-count", "top-n", "sort-merge")
    kept = list(part.kept)
    if reducer.name != "sort-merge":
        kept.sort(key=lambda entry: (-entry[1], entry[0]))
    shown = kept[: reducer.top] if reducer.name == "top-n" else kept
    return ReducedView(
        job=job_id,
        reducer=f"top-n:{reducer.top}" if reducer.name == "top-n" else reducer.name,
        targets=hosts,
        open=still_open,
        hosts=part.hosts,
        uncounted=max(0, hosts - still_open - part.hosts),
        cut_hosts=part.cut_hosts,
        cut_bytes=part.cut_bytes,
        lines=part.lines,
        line_bytes=part.line_bytes,
        left_out=part.left_out if lists else 0,
        rows=tuple(ReducedLine(count, line) for line, count in shown),
        more_rows=len(kept) - len(shown),
        total=total(part) if reducer.name == "sum" else None,
        numbers=part.numbers,
    )


def _rows(read: Reader, job_id: str) -> Iterator[InsertTarget]:
    after = ""
    while page := read.targets(job_id, after=after):
        yield from page
        after = page[-1].agent


def _parts(read: Reader, job_id: str) -> Iterator[Part]:
    after = ""
    while page := read.reductions(job_id, after=after, limit=PARTS_PAGE):
        for agent, data in page:
            try:
                yield read_part(data)
            except msgspec.MsgspecError as error:
                log.error("a part of the reduction of %s, from %s on, cannot be read: %s", job_id, agent, error)
        after = page[-1][0]


def _content(read: Reader, row: InsertTarget, contents: dict[bytes, bytes]) -> bytes:
    if row.output_digest is None:
        return b""
    if row.output_digest not in contents:
        output = _output(read, row)
        # Without a body (it was reduced, or pruned) the digest is all that is known.
        contents[row.output_digest] = row.output_digest if output is None else content_digest(output)
    return contents[row.output_digest]


def _output(read: Reader, row: InsertTarget) -> Output | None:
    body = None if row.output_digest is None else read.output(row.output_digest)
    return None if body is None else output_of(body)


def _key(row: InsertTarget, content: bytes) -> object:
    return (
        row.state,
        row.exit_status,
        row.signal,
        row.code,
        row.omitted,
        content,
        row.stdout_bytes,
        row.stderr_bytes,
        row.stdout_sha256,
        row.stderr_sha256,
    )


def _group(rows: list[InsertTarget], members: Mapping[str, Member]) -> FoldedGroup:
    first = rows[0]
    return FoldedGroup(
        hosts=targets.fold(members[row.agent].name for row in rows),
        count=len(rows),
        state=first.state,
        exit_status=first.exit_status,
        signal=first.signal,
        code=first.code,
        stdout_bytes=first.stdout_bytes,
        stderr_bytes=first.stderr_bytes,
        stdout_sha256=None if first.stdout_sha256 is None else first.stdout_sha256.hex(),
        stderr_sha256=None if first.stderr_sha256 is None else first.stderr_sha256.hex(),
    )
