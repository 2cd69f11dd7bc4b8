"""Files over HTTP: taking those that hosts are to place, and reading what hosts keep of outputs.

Not here: the files (`central.blobs`), the reads (`central.reads`). Rules: an upload needs a signed Put that names it
and a login; a read is itself an operator's envelope; what is answered while a read goes on is its own error record,
because the status was said before.
"""

from __future__ import annotations

__all__ = ("FilesApi",)

from agentd.central.api.bodies import MAX_STRANGERS_BODY
from agentd.central.api.call import Call, Reply, Stream
from agentd.central.api.jobs import MAX_SUBMISSION, read_submission
from agentd.central.audit import Claim
from agentd.central.blobs import Blobs
from agentd.central.file_acts import FileActs
from agentd.central.reads import Reads, bytes_of
from libstaragent import codes
from libstaragent.jobs.spool_stream import END, end_of
from libstaragent.model.files import BlobStands
from libstaragent.model.result import records
from libstaragent.security.act_limits import MAX_FILE
from libstaragent.security.acts import Put

SPOOL = b"application/x-opsconsole-spool"
# What one request may bring of a file; the next one brings more.
MAX_BLOB_PART = 4 * 1024 * 1024
MAX_OFFSET = 1 << 53


class FilesApi:
    """See the module."""

    def __init__(self, acts: FileActs, blobs: Blobs, reads: Reads) -> None:
        self._acts = acts
        self._blobs = blobs
        self._reads = reads

    async def expect(self, call: Call) -> Reply:
        """POST /v1/blobs"""
        signed, members, _ = read_submission(await call.body(MAX_SUBMISSION))
        call.claim = Claim(signed)
        envelope = self._acts.permitted(signed, members, source=call.address)
        act = envelope.act
        if not isinstance(act, Put):
            raise codes.ACT_UNSUPPORTED.error("a file is taken for a put")
        return Reply(BlobStands(act.sha256.hex(), act.size, self._blobs.expect(act)))

    async def take(self, call: Call) -> Reply:
        """PUT /v1/blobs/{sha256}"""
        offset = call.number("offset", 0, low=0, high=MAX_FILE)
        name = call.part("sha256")
        data = await call.body(MAX_BLOB_PART)
        return Reply(BlobStands(name, *await self._blobs.take(name, offset, data)))

    async def read(self, call: Call) -> Stream:
        """POST /v1/reads"""
        offset = call.number("offset", 0, low=0, high=MAX_OFFSET)
        signed, _, _ = read_submission(await call.body(MAX_STRANGERS_BODY))
        call.claim = Claim(signed)
        member = await self._acts.permit_read(signed, source=call.address)
        read = self._reads.open(signed, None, agent=member.agent, room=member.room, offset=offset)
        try:
            first = await read.next()
            stream, body = next(iter(records(first)), (END, b""))
            said = end_of(body) if stream == END else {}
            if "code" in said:
                raise (codes.by_code(str(said["code"])) or codes.READ_CUT).error(str(said.get("detail", "")))
        except BaseException:
            self._reads.close(read)
            raise
        return Stream(bytes_of(read, first), content_type=SPOOL, closed=lambda: self._reads.close(read))
