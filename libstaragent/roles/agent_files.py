"""Files on their way to this host: the draft of each `Put`, pulled piece by piece until it is whole. Pure.

    opening   the draft on disk is looked for: what an earlier agent had of it counts
    pulling   pieces are asked for by their offset, a few at once, and again until they come
    checking  it is as long as was signed; its digest is taken
              → the keeper places it, or the job ends with a code; the draft goes
              → where an earlier agent's part was wrong, as after a loss of power: once more, from the beginning

Pieces may come twice, late, in any order or not at all: only the next one is appended, the others wait or are asked for
again. Nothing is believed before the digest of the whole is the one that was signed.

Not here: files (`agentd.agent.drafts`), the placing (`agentd.keeper.filework`), who carries pieces (`room_files`).
"""

from __future__ import annotations

__all__ = ("Pulls",)

from collections.abc import Callable

from libstaragent import codes
from libstaragent.errors import Code
from libstaragent.protocol import messages as m
from libstaragent.roles.agent_effects import CheckDraft, DropDraft, Effect, OpenDraft, WriteDraft
from libstaragent.security.acts import Put

# Pieces of one file that are asked for at once: 256 KiB on the way fill a usual path and bound what waits here.
WANTED_AT_ONCE = 4
# Files that are pulled at once; the others wait for their turn.
PULLED_AT_ONCE = 4
# A piece that has not come is asked for again; a room that reads from central takes milliseconds.
ASK_AGAIN_AFTER = 3.0


class _Pull:
    __slots__ = ("act", "asked", "come", "deadline", "have", "resumed", "state", "writing")

    def __init__(self, act: Put, deadline: float) -> None:
        self.act = act
        self.state = "opening"
        self.deadline = deadline
        # Bytes of the draft on disk, and on their way there.
        self.have = 0
        self.resumed = False
        self.writing = False
        self.asked: dict[int, float] = {}
        self.come: dict[int, bytes] = {}


class Pulls:
    """See the module. `say` sends if it can; `whole` and `failed` are told the end of a pull."""

    def __init__(
        self,
        *,
        say: Callable[[m.AgentMessage], bool],
        act: Callable[[Effect], None],
        whole: Callable[[str, float], None],
        failed: Callable[[str, str, str, int | None, float], None],
    ) -> None:
        self._say = say
        self._act = act
        self._whole = whole
        self._failed = failed
        self._pulls: dict[str, _Pull] = {}

    def __contains__(self, job: str) -> bool:
        return job in self._pulls

    def begin(self, job: str, act: Put, now: float) -> None:
        """The job is taken, on disk."""
        if job not in self._pulls:
            self._pulls[job] = _Pull(act, now + act.timeout_ms / 1000)
            self._act(OpenDraft(job, act.size))

    def drop(self, job: str) -> None:
        """Its file is no longer wanted, or placed."""
        self._pulls.pop(job, None)
        self._act(DropDraft(job))

    def opened(self, job: str, size: int, errno: int | None, *, now: float) -> None:
        """The answer to OpenDraft: so many bytes are there."""
        pull = self._pulls.get(job)
        if pull is None or pull.state != "opening":
            return
        if errno is not None:
            self._fail(job, "spawn_failed", codes.DRAFT_FAILED, now, errno=errno)
            return
        pull.state = "pulling"
        pull.have = size
        pull.resumed = size > 0
        self._go_on(job, pull, now)

    def came(self, chunk: m.Chunk, *, now: float) -> None:
        """A piece, or why there will be none."""
        pull = self._pulls.get(chunk.job)
        if pull is None or pull.state != "pulling":
            return
        if chunk.code:
            self._fail(chunk.job, "spawn_failed", chunk.code, now)
            return
        if pull.asked.pop(chunk.offset, None) is None or len(chunk.data) != self._length(pull, chunk.offset):
            # Twice, or not what was asked for: the missing one is asked for again.
            return
        pull.come[chunk.offset] = chunk.data
        self._go_on(chunk.job, pull, now)

    def written(self, job: str, errno: int | None, *, now: float) -> None:
        """The answer to WriteDraft."""
        pull = self._pulls.get(job)
        if pull is None or pull.state != "pulling":
            return
        pull.writing = False
        if errno is not None:
            self._fail(job, "spawn_failed", codes.DRAFT_FAILED, now, errno=errno)
            return
        self._go_on(job, pull, now)

    def checked(self, job: str, digest: bytes, errno: int | None, *, now: float) -> None:
        """The answer to CheckDraft: its SHA-256."""
        pull = self._pulls.get(job)
        if pull is None or pull.state != "checking":
            return
        if errno is not None:
            self._fail(job, "spawn_failed", codes.DRAFT_FAILED, now, errno=errno)
        elif digest != pull.act.sha256 and pull.resumed:
            # What was on its way to the disk when the power went may have become zeros. That is nobody's forgery.
            pull.state = "opening"
            self._act(DropDraft(job))
            self._act(OpenDraft(job, pull.act.size))
        elif digest != pull.act.sha256:
            self._fail(job, "bad_signature", codes.FILE_DIGEST, now)
        else:
            del self._pulls[job]
            self._whole(job, now)
            self._next(now)

    def connected(self, now: float) -> None:
        """A room listens: what was asked of the one before is asked again."""
        for pull in self._pulls.values():
            pull.asked.clear()
        self._next(now)

    def tick(self, now: float) -> None:
        """What has not come in time."""
        for job, pull in list(self._pulls.items()):
            if now >= pull.deadline:
                self._fail(job, "timeout", codes.COMMAND_TIMEOUT, now)
                continue
            for offset, at in list(pull.asked.items()):
                if now - at >= ASK_AGAIN_AFTER:
                    del pull.asked[offset]
        self._next(now)

    def _next(self, now: float) -> None:
        pulling = [item for item in self._pulls.items() if item[1].state == "pulling"]
        for job, pull in pulling[:PULLED_AT_ONCE]:
            self._go_on(job, pull, now)

    def _go_on(self, job: str, pull: _Pull, now: float) -> None:
        if not pull.writing:
            data = pull.come.pop(pull.have, None)
            if data is not None:
                self._act(WriteDraft(job, pull.have, data))
                pull.have += len(data)
                pull.writing = True
            elif pull.have >= pull.act.size:
                pull.state = "checking"
                self._act(CheckDraft(job))
                return
        active = [name for name, one in self._pulls.items() if one.state == "pulling"][:PULLED_AT_ONCE]
        if job not in active:
            return
        offset = pull.have
        while offset < pull.act.size and len(pull.asked) + len(pull.come) < WANTED_AT_ONCE:
            if offset not in pull.asked and offset not in pull.come:
                if not self._say(m.Want(job, offset)):
                    return
                pull.asked[offset] = now
            offset += m.CHUNK_MAX

    @staticmethod
    def _length(pull: _Pull, offset: int) -> int:
        return min(m.CHUNK_MAX, pull.act.size - offset)

    def _fail(self, job: str, state: str, code: Code | str, now: float, *, errno: int | None = None) -> None:
        del self._pulls[job]
        self._failed(job, state, code if isinstance(code, str) else code.code, errno, now)
        self._next(now)
