"""A host's own signature on what it reports: Ed25519 over a domain, the fleet, the agent and the result.

What it proves: whoever held the host's result key said that this job ended so there, with outputs of these lengths and
digests. A control plane that was stolen can withhold a result and invent one for a host that never signs, but cannot
change one that was signed, move it to another host or job, or make one for a host whose key is known. It proves nothing
against root on the host itself, who has the key; and nothing before a key was first seen (`client.known_hosts`).

What is signed is what a reader of the API sees again: state, exit status, signal, errno, code, detail, whether it ran,
the times, the true lengths and digests of both streams, what it left running, and the digest of the kept output. So a
client can judge a target without its output, and the output by the digest.

Rules: pure and light, the agent imports it; a statement is one form of bytes (MessagePack of a list in this order).
"""

from __future__ import annotations

__all__ = ("ResultSigner", "kept_digest", "result_holds", "statement")

import msgspec

from libstaragent.jobs.kept_output import pack_output
from libstaragent.model.result import Output, TargetResult
from libstaragent.security.signing import public_key, sign_bytes, signature_holds

DOMAIN = b"opsconsole result 1\0"

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def kept_digest(output: Output | None) -> bytes | None:
    """The digest of the kept output, under which it is stored; None where nothing is kept."""
    return pack_output(output)[0] or None


def statement(result: TargetResult, *, fleet: str, agent: str, kept: bytes | None) -> bytes:
    """What is signed. `kept` is the `kept_digest` of the result's output, which need not be there."""
    return _encode(
        (
            fleet,
            agent,
            result.job,
            result.state,
            result.exit_status,
            result.signal,
            result.core_dumped,
            result.errno,
            result.code or "",
            result.detail,
            result.ran,
            result.started_ms,
            result.finished_ms,
            result.stdout_bytes,
            result.stderr_bytes,
            result.stdout_sha256,
            result.stderr_sha256,
            [(left.pid, left.name) for left in result.left_running],
            result.left_count,
            kept,
        )
    )


def result_holds(result: TargetResult, *, fleet: str, agent: str, kept: bytes | None, key: bytes) -> bool:
    """Whether `key` signed this result of this agent."""
    said = statement(result, fleet=fleet, agent=agent, kept=kept)
    return signature_holds(DOMAIN, said, key, result.signature or b"")


class ResultSigner:
    """Signs an agent's results with the key that it made when it joined."""

    def __init__(self, seed: bytes, *, fleet: str, agent: str) -> None:
        self._seed = seed
        self._fleet = fleet
        self._agent = agent
        self.key = public_key(seed)

    def sign(self, result: TargetResult) -> TargetResult:
        """The same result with its signature."""
        said = statement(result, fleet=self._fleet, agent=self._agent, kept=kept_digest(result.output))
        return msgspec.structs.replace(result, signature=sign_bytes(DOMAIN, said, self._seed))
