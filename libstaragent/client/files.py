"""Files to hosts and from hosts, and what hosts keep of outputs: the parts that take many requests.

    put     hash the file, sign, upload what central lacks of it, submit the job
    collect each host that has ended a fetch ok is read from where the local part stands
    read    one host's spool as pieces; what was cut goes on by itself where it stood

Not here: HTTP (`transport`), the class that people call (`fleet`). Rules: what is put is read twice, and a file that
changed meanwhile is refused by whoever checks its digest; a fetched file takes its name only when it is whole, of the
length and digest that the host's result says, and on disk; where it lies is made of a checked host name and of the
path's last part, so no host has a say in it.
"""

from __future__ import annotations

__all__ = ("Fetched", "Progress", "RecordDecoder", "act_of_put", "collect_files", "place_file", "spool_pieces")

import hashlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from io import RawIOBase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from libstaragent import codes
from libstaragent.client.output import STDOUT, Gap, Piece
from libstaragent.client.submission import BACKGROUND, FOREGROUND
from libstaragent.client.transport import coded
from libstaragent.errors import StarAgentError
from libstaragent.jobs.spool_stream import END, GAP, end_of
from libstaragent.model import ids
from libstaragent.model.api import JobSubmission, TargetView
from libstaragent.model.files import BlobStands
from libstaragent.model.result import RECORD_HEADER
from libstaragent.security.act_limits import MAX_FILE
from libstaragent.security.acts import Member, Plan, Put, ReadSpool

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet
    from libstaragent.client.job import Job

# A request of an upload: large enough to be few, small enough to be soon repeated.
PART = 1024 * 1024
# An upload must be done, and a read begun, within so many seconds of its signature.
UPLOAD_SECONDS = 3600.0
READ_SECONDS = 3600.0
# A read that brought nothing is tried again so often, with growing pauses: a host that reconnects takes seconds.
TRIES = 8
PAUSE_SECONDS = 0.25
PAUSE_MAX_SECONDS = 5.0
# Files that are read at once.
READ_AT_ONCE = 8
# A piece of a spool is at most 16 KiB; a longer record is no record.
RECORD_MAX = 1024 * 1024
# Of a file's name in that of its part: with the job's id it fits into the 255 bytes that a name may have.
PART_NAME_BYTES = 200

# Told as it goes: of what (a host, or nothing for the upload), bytes so far, bytes in all.
Progress = Callable[[str, int, int], None]

_AGAIN = (
    codes.READ_CUT,
    codes.HOST_UNREACHABLE,
    codes.CONNECTION_LOST,
    codes.CENTRAL_UNREACHABLE,
    codes.CENTRAL_SILENT,
    codes.CENTRAL_ANSWER,
)


class Fetched(Struct, frozen=True):
    """One host's file: where it is now, or why it is not."""

    host: str
    target: TargetView
    path: Path | None = None
    error: StarAgentError | None = None


async def act_of_put(
    source: Path,
    to: str,
    *,
    mode: int | None,
    owner: str | None,
    group: str | None,
    user: str | None,
    timeout: float,
) -> Put:
    """See `Fleet.placing`."""
    with _local(source):
        size, digest = await anyio.to_thread.run_sync(_digest_of, source)
    return Put(
        path=to,
        size=size,
        sha256=digest,
        mode=mode,
        owner=owner,
        group=group,
        user=user,
        timeout_ms=int(timeout * 1000),
    )


async def place_file(
    fleet: Fleet,
    act: Put,
    source: Path,
    *,
    expression: str,
    members: Sequence[Member],
    ttl: float | None,
    background: bool,
    plan: Plan | None,
    life: float | None,
    progress: Progress | None,
) -> Job:
    """See `Fleet.place`."""
    begin = ttl if ttl is not None else (BACKGROUND if background else FOREGROUND).ttl
    # The envelope must outlive the upload; a host still has only `begin` from the submission on, or from its turn.
    _, submission = await fleet.sign(
        act, expression=expression, members=members, ttl=max(begin, UPLOAD_SECONDS), plan=plan, life=life
    )
    if plan is None:
        submission = replace(submission, within_ms=int(begin * 1000))
    await _upload(fleet, submission, source, progress)
    return await fleet.submit(submission)


async def _upload(fleet: Fleet, submission: JobSubmission, source: Path, progress: Progress | None) -> None:
    body = msgspec.json.encode(submission)
    stands = await fleet.transport.post("/v1/blobs", body, BlobStands)
    failures = 0
    with _local(source), source.open("rb") as file:
        while stands.offset < stands.size:
            if progress is not None:
                progress("", stands.offset, stands.size)
            await anyio.to_thread.run_sync(file.seek, stands.offset)
            data = await anyio.to_thread.run_sync(file.read, min(PART, stands.size - stands.offset))
            if not data:
                raise codes.BLOB_DIGEST.error("the file became shorter")
            try:
                stands = await fleet.transport.put(f"/v1/blobs/{stands.sha256}", data, BlobStands, offset=stands.offset)
                failures = 0
            except StarAgentError as error:
                failures += 1
                if failures >= TRIES or error.code not in (*_AGAIN, codes.BLOB_OFFSET, codes.BLOB_UNEXPECTED):
                    raise
                await anyio.sleep(min(PAUSE_MAX_SECONDS, PAUSE_SECONDS * 2**failures))
                # It may have arrived all the same, or central may be another process now.
                stands = await fleet.transport.post("/v1/blobs", body, BlobStands)
    if progress is not None:
        progress("", stands.size, stands.size)


async def collect_files(fleet: Fleet, job: Job, into: Path, *, progress: Progress | None) -> tuple[Fetched, ...]:
    """The files of a fetch, its parts that are there already gone on with."""
    return await _collect_all(fleet, job, PurePosixPath(_path_of(job)).name, into, progress)


async def _collect_all(fleet: Fleet, job: Job, name: str, into: Path, progress: Progress | None) -> tuple[Fetched, ...]:
    result = await job.result()
    fetched: dict[str, Fetched] = {}
    limit = anyio.CapacityLimiter(READ_AT_ONCE)

    async def one(target: TargetView) -> None:
        async with limit:
            try:
                found = await _collect(fleet, job.id, target, into / target.host, name, progress)
                fetched[target.agent] = Fetched(target.host, target, path=found)
            except StarAgentError as error:
                fetched[target.agent] = Fetched(target.host, target, error=error)

    # What came after its deadline stands beside the word that it was lost, and goes before it.
    last = {target.agent: target for target in (*result.targets, *result.amendments)}
    names = [target.host for target in last.values()]
    async with anyio.create_task_group() as group:
        for target in last.values():
            if target.state == "ok" and names.count(target.host) > 1:
                # Two would write to one file; no central of ours has two hosts of one name.
                error = codes.CENTRAL_ANSWER.error(f"two hosts are called {target.host}")
                fetched[target.agent] = Fetched(target.host, target, error=error)
            elif target.state == "ok":
                group.start_soon(one, target)
            else:
                fetched[target.agent] = Fetched(target.host, target)
    return tuple(sorted(fetched.values(), key=lambda entry: entry.host))


async def _collect(
    fleet: Fleet, job: str, target: TargetView, folder: Path, name: str, progress: Progress | None
) -> Path:
    if not ids.is_host_name(target.host):
        raise codes.CENTRAL_ANSWER.error("a host's name is none")
    if target.stdout_bytes > MAX_FILE:
        raise codes.FETCH_DIGEST.error(f"it is to be {target.stdout_bytes} bytes, and nobody may ask for so many")
    part = folder / _part_name(name, job)
    with _local(folder):
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            digest = hashlib.sha256()
            at = await anyio.to_thread.run_sync(_hash_part, file, digest.update)
            if at > target.stdout_bytes:
                at, digest = 0, hashlib.sha256()
                file.truncate(0)
                file.seek(0)
            if at < target.stdout_bytes:
                async for piece in spool_pieces(fleet, job, target.host, offset=at):
                    if isinstance(piece, Gap):
                        raise codes.SPOOL_GONE.error("the host's disk had no room for all of it")
                    if piece.stream != STDOUT:
                        continue
                    if at + len(piece.data) > target.stdout_bytes:
                        file.truncate(0)
                        raise codes.FETCH_DIGEST.error(f"more than the {target.stdout_bytes} bytes that it is to be")
                    await anyio.to_thread.run_sync(file.write, piece.data)
                    digest.update(piece.data)
                    at += len(piece.data)
                    if progress is not None:
                        progress(target.host, at, target.stdout_bytes)
            if at != target.stdout_bytes or (at and target.stdout_sha256 != digest.hexdigest()):
                file.truncate(0)
                raise codes.FETCH_DIGEST.error(f"{at} bytes, SHA-256 {digest.hexdigest()}")
            os.fsync(descriptor)
        os.replace(part, folder / name)
        _sync_folder(folder)
    return folder / name


async def spool_pieces(fleet: Fleet, job: str, host: str, *, offset: int = 0) -> AsyncGenerator[Piece | Gap]:
    """What a host still keeps of one job's output, from `offset` on; see `Job.read_output`."""
    view = await fleet.host(host)
    member = Member(view.id, view.name, view.room)
    failures = 0
    body, until = b"", 0.0
    while True:
        if time.monotonic() >= until:
            _, submission = await fleet.sign(ReadSpool(job), expression=view.name, members=(member,), ttl=READ_SECONDS)
            body, until = msgspec.json.encode(submission), time.monotonic() + READ_SECONDS / 2
        try:
            async for piece in _read(fleet, body, offset):
                if piece is None:
                    return
                failures = 0
                offset += piece.size if isinstance(piece, Gap) else len(piece.data)
                yield piece
            raise codes.READ_CUT.error("the answer ended early")
        except StarAgentError as error:
            failures += 1
            if failures >= TRIES or error.code not in _AGAIN:
                raise
        await anyio.sleep(min(PAUSE_MAX_SECONDS, PAUSE_SECONDS * 2**failures))


async def _read(fleet: Fleet, body: bytes, offset: int) -> AsyncIterator[Piece | Gap | None]:
    """The pieces of one answer; None is its end as the host said it."""
    response = await fleet.transport.open_answer("/v1/reads", body, offset=offset)
    try:
        decoder = RecordDecoder()
        with coded():
            async for data in response.aiter_raw():
                for stream, payload in decoder.feed(data):
                    if stream == END:
                        said = end_of(payload)
                        if "code" in said:
                            code = codes.by_code(str(said["code"])) or codes.READ_CUT
                            raise code.error(str(said.get("detail", "")))
                        yield None
                        return
                    yield Gap(int.from_bytes(payload[:8], "big")) if stream == GAP else Piece(stream, payload)
    finally:
        with anyio.CancelScope(shield=True):
            await response.aclose()


class RecordDecoder:
    """Records from bytes cut anywhere."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The records that are whole now.

        :raises ProtocolError: there is one that no host sends.
        """
        self._data += data
        found: list[tuple[int, bytes]] = []
        at = 0
        while at + RECORD_HEADER <= len(self._data):
            length = int.from_bytes(self._data[at + 1 : at + RECORD_HEADER], "big")
            if length > RECORD_MAX or self._data[at] > GAP:
                raise codes.CENTRAL_ANSWER.error("no records of a spool")
            end = at + RECORD_HEADER + length
            if end > len(self._data):
                break
            found.append((self._data[at], bytes(self._data[at + RECORD_HEADER : end])))
            at = end
        del self._data[:at]
        return found


def _part_name(name: str, job: str) -> str:
    """What a part of a file called `name` is called, no longer than a name may be."""
    return f".{os.fsdecode(os.fsencode(name)[:PART_NAME_BYTES])}.{job}.part"


def _path_of(job: Job) -> str:
    """The path that a fetch was for, as its command shows it."""
    import shlex

    words = shlex.split(job.submitted.command)
    if len(words) != 2 or words[0] != "fetch" or PurePosixPath(words[1]).name in ("", "..", "."):
        raise codes.ACT_UNSUPPORTED.error(f"{job.id} is no fetch")
    return words[1]


def _digest_of(source: Path) -> tuple[int, bytes]:
    with source.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE:
            raise codes.FILE_FOR_DISTRIBUTION.error(f"{source}: {size} bytes")
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.digest()


def _hash_part(file: RawIOBase, update: Callable[[bytes], None]) -> int:
    size = 0
    while data := file.read(PART):
        update(data)
        size += len(data)
    return size


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _local:
    """Gives failures of local files their code."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise codes.FILE_REFUSED.error(f"{error.filename or self._path}: {error.strerror}", errno=error.errno)
