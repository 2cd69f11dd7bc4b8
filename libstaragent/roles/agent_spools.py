"""What a host still keeps of outputs, for those who may read it: each read an operator's signed ReadSpool. Pure.

A read is no job: it changes nothing, so it may be repeated while its envelope lives, from any offset, and nothing of it
is written down. What is read goes on a stream of its own as records, by the reader's credit, so a slow reader holds up
nothing but itself (`libstaragent.jobs.spool_stream` has the records).

Not here: the files (`agentd.agent.spools`), the room's side (`room_files`). Rules: whoever began a job may read its
output, and who has the right `manage`; the spool itself says who began it.
"""

from __future__ import annotations

__all__ = ("SpoolReads",)

from collections.abc import Sequence

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.jobs.spool_stream import end_record, error_end, gap_record
from libstaragent.model.result import encode_records
from libstaragent.protocol import messages as m
from libstaragent.protocol.connection import Connection
from libstaragent.protocol.limits import DATA_CHUNK
from libstaragent.roles.agent_effects import Effect, ReadRecords, Verifier
from libstaragent.security.acts import ReadSpool
from libstaragent.security.envelope import Envelope

# Reads that one host serves at once; each costs a read of its disk a piece.
READS_MAX = 16
# What gap and end take of a piece besides the records.
_EXTRA = 64


class _Read:
    __slots__ = ("allowed", "busy", "envelope", "job", "offset", "said")

    def __init__(self, envelope: Envelope, job: str, offset: int) -> None:
        self.envelope = envelope
        self.job = job
        self.offset = offset
        self.said = 0
        self.busy = False
        self.allowed = False


class SpoolReads:
    """See the module. `effects` are the agent's own."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._reads: dict[int, _Read] = {}

    def open(self, message: m.Read, connection: Connection, now_ms: int) -> None:
        """A room asks; whoever may not is told so on the stream."""
        try:
            envelope = self._verifier.verify(message.signed, message.proof, now_ms)
            if not isinstance(envelope.act, ReadSpool):
                raise codes.ACT_UNSUPPORTED.error("a read is for a ReadSpool")
            if len(self._reads) >= READS_MAX:
                raise codes.AGENT_BUSY.error(f"{READS_MAX} reads are open")
        except StarAgentError as error:
            _say_end(connection, message.stream, 0, error)
            return
        self._reads[message.stream] = _Read(envelope, envelope.act.job, max(0, message.offset))

    def stop(self, stream: int) -> None:
        """Nobody reads on."""
        self._reads.pop(stream, None)

    def clear(self) -> None:
        """The connection is gone, and all reads with it."""
        self._reads.clear()

    def pump(self, connection: Connection | None) -> list[Effect]:
        """What to read now: for each read that waits and whose reader has room."""
        if connection is None or not self._reads:
            return []
        effects: list[Effect] = []
        for stream, read in self._reads.items():
            if not read.busy and connection.credit(stream) >= DATA_CHUNK:
                read.busy = True
                effects.append(ReadRecords(stream, read.job, read.offset, DATA_CHUNK - _EXTRA))
        return effects

    def records_read(
        self,
        stream: int,
        connection: Connection | None,
        *,
        owner: str | None,
        pairs: Sequence[tuple[int, bytes]],
        next_offset: int,
        missed: int,
        now_ms: int,
    ) -> list[Effect]:
        """The answer to ReadRecords, and what to read next; `owner` is None where nothing is kept of that job, empty
        where it is not said.
        """
        read = self._reads.get(stream)
        if read is None or connection is None or connection.state != "open":
            return []
        read.busy = False
        try:
            if owner is None:
                raise codes.SPOOL_GONE.error(read.job)
            if not read.allowed:
                self._verifier.may_manage(read.envelope, owner or None, now_ms)
                read.allowed = True
        except StarAgentError as error:
            self._end(stream, read, connection, error)
            return self.pump(connection)
        read.offset = next_offset
        if not pairs:
            self._end(stream, read, connection, None)
            return self.pump(connection)
        gap = [gap_record(missed)] if missed else []
        data = encode_records([*gap, *pairs])
        connection.send_live(stream, read.said, data)
        read.said += len(data)
        return self.pump(connection)

    def _end(self, stream: int, read: _Read, connection: Connection, error: StarAgentError | None) -> None:
        del self._reads[stream]
        _say_end(connection, stream, read.said, error, read.offset)


def _say_end(connection: Connection, stream: int, said: int, error: StarAgentError | None, end: int = 0) -> None:
    data = end_record(end) if error is None else error_end(error)
    if connection.credit(stream) >= len(data):
        connection.send_live(stream, said, data)
    connection.close_stream(stream)
