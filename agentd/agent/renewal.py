"""The host's next certificate. A short-lived process (`agentd renew`) makes key and request, and later installs the
answer: X.509 needs `cryptography`, which is larger than the whole agent.

    idle ─time→ making ─request there→ asked ─answer→ installing ─done→ idle

Whatever fails is tried again after RETRY_MS; a third of the certificate's life is left for that.
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
    """See the module. `due` is asked once a second."""

    def __init__(self, state: AgentState, identity: Identity, *, log: Callable[[str], None]) -> None:
        self._state = state
        self._log = log
        self._next_ms = identity.renew_at_ms
        self._process: int | None = None
        self._doing = "idle"

    def due(self, now_ms: int) -> bytes | None:
        """A certificate request to send now; None otherwise."""
        if self._process is not None:
            return self._reaped(now_ms)
        if now_ms < self._next_ms:
            return None
        self._next_ms = now_ms + RETRY_MS
        self._doing = "making"
        self._start("prepare")
        return None

    def postpone(self) -> None:
        """There was no connection to ask over: try again soon."""
        self._next_ms = 0

    def install(self, pem: bytes, code: str) -> None:
        """The answer came."""
        if code or self._process is not None:
            self._log(f"certificate: {code or 'an answer while busy'}")
            return
        write_whole(self._state.directory / "renewed.pem", pem)
        self._doing = "installing"
        self._start("install")

    def _start(self, step: str) -> None:
        command = [sys.executable, "-m", "agentd", "renew", step, "--state", str(self._state.directory)]
        self._process = os.posix_spawn(sys.executable, command, dict(os.environ))

    def _reaped(self, now_ms: int) -> bytes | None:
        assert self._process is not None
        pid, status = os.waitpid(self._process, os.WNOHANG)
        if pid == 0:
            return None
        self._process = None
        if status != 0:
            self._log(f"certificate: {self._doing} failed with status {os.waitstatus_to_exitcode(status)}")
            self._doing = "idle"
            return None
        if self._doing == "making":
            self._doing = "asked"
            return (self._state.directory / "request.pem").read_bytes()
        self._doing = "idle"
        try:
            self._next_ms = self._state.identity().renew_at_ms
        except StarAgentError as error:
            self._log(str(error))
            self._next_ms = now_ms + RETRY_MS
        self._log("certificate: renewed")
        return None
