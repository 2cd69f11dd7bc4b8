"""The host's next certificate. A short-lived process (`agentd renew`) makes key and request, and later installs the
answer: X.509 needs `cryptography`, which is larger than the whole agent.

    idle ─time→ making ─request there→ asked ─answer→ installing ─done→ idle

Whatever fails is said and tried again after RETRY_MS; a third of the certificate's life is left for that. A request
that found no connection is kept, and given again until it is sent: each one made costs a process.
"""

from __future__ import annotations

__all__ = ("Renewal",)

import os
import sys
from collections.abc import Callable

from agentd.agent.state import AgentState, Identity, write_whole
from libstaragent.errors import StarAgentError

RETRY_MS = 10 * 60_000


class Renewal:
    """See the module. `due` is asked once a second; `process` is the pid of the step that runs now."""

    def __init__(self, state: AgentState, identity: Identity, *, log: Callable[[str], None]) -> None:
        self._state = state
        self._log = log
        self._next_ms = identity.renew_at_ms
        self.process: int | None = None
        self._doing = "idle"
        self._unsent: bytes | None = None
        self._hurried = False
        self._shown = True

    def due(self, now_ms: int) -> bytes | None:
        """A certificate request to send now; None otherwise."""
        if self.process is not None:
            self._unsent = self._reaped(now_ms)
        if self._unsent is not None:
            request, self._unsent = self._unsent, None
            return request
        if self.process is not None or now_ms < self._next_ms:
            return None
        self._next_ms = now_ms + RETRY_MS
        self._doing = "making"
        self._start("prepare")
        return None

    def hurry(self) -> None:
        """The present certificate will not be taken any more: ask for the next now, and come back with it."""
        self._next_ms = 0
        self._hurried = True

    def come_back(self) -> bool:
        """Whether the room waits to see the certificate that was just installed; True once."""
        due, self._shown = self._shown, True
        return not due

    def postpone(self, request: bytes) -> None:
        """There was no connection to ask over: `due` gives the same request again."""
        self._unsent = request

    def install(self, pem: bytes, code: str) -> None:
        """The answer came."""
        if code or self.process is not None:
            self._log(f"certificate: {code or 'an answer while busy'}")
            return
        write_whole(self._state.directory / "renewed.pem", pem)
        self._doing = "installing"
        self._start("install")

    def _start(self, step: str) -> None:
        command = [sys.executable, "-m", "agentd", "renew", step, "--state", str(self._state.directory)]
        try:
            self.process = os.posix_spawn(sys.executable, command, dict(os.environ))
        except OSError as error:
            # An interpreter that is being replaced, no memory, too many processes.
            self._log(f"certificate: {self._doing} cannot be started: {error}")
            self._doing = "idle"

    def _reaped(self, now_ms: int) -> bytes | None:
        assert self.process is not None
        pid, status = os.waitpid(self.process, os.WNOHANG)
        if pid == 0:
            return None
        self.process = None
        if status != 0:
            self._log(f"certificate: {self._doing} failed with status {os.waitstatus_to_exitcode(status)}")
            self._doing = "idle"
            return None
        if self._doing == "making":
            self._doing = "asked"
            try:
                return (self._state.directory / "request.pem").read_bytes()
            except OSError as error:
                self._log(f"certificate: {error}")
                self._doing = "idle"
                return None
        self._doing = "idle"
        try:
            self._next_ms = self._state.identity().renew_at_ms
        except StarAgentError as error:
            self._log(str(error))
            self._next_ms = now_ms + RETRY_MS
        self._log("certificate: renewed")
        self._shown, self._hurried = not self._hurried, False
        return None
