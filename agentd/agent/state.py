"""The agent's own files: who it is, what it believes, how often it connected.

    identity.json   agent id, name, room, fleet, addresses, when to renew the certificate          0600
    identity.pem    its key and certificate in one file, so that a renewal replaces both at once   0600
    result.key      seed of the key with which it signs results; it does not change with the certificate    0600
    ca.pem          the fleet's CA
    roster          the newest roster revision that was verified
    heads           what was seen of the audit
    drafts          files on their way to be placed
    kept            spools whose results are in the store
    connects        how many connections were made, ever

Not here: the journal (`journal_file`), the keeper's spool. Rules: a file takes its name only when it is whole on disk.
"""

from __future__ import annotations

__all__ = ("AgentState", "Identity", "write_whole")

import os
from pathlib import Path

import msgspec

from libstaragent import codes
from libstaragent.security.acts import Member
from libstaragent.security.heads import Head, decode_heads, encode_heads
from libstaragent.security.private_file import read_private, write_private
from libstaragent.security.signed import MAX_JSON, Signed, signed_from_json, signed_to_json

# Digits for a connection a microsecond over a century.
CONNECTS_BYTES = 20


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What `join` learned. `api` and `room_address` are ``host:port``; `renew_at_ms` is when to ask for a
    certificate.
    """

    agent: str
    name: str
    room: str
    fleet: str
    api: str
    room_address: str
    renew_at_ms: int

    @property
    def member(self) -> Member:
        """This host as operators sign it."""
        return Member(self.agent, self.name, self.room)


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, durable and readable by its owner only."""
    write_private(path, data, overwrite=True)


class AgentState:
    """The directory of one agent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.identity_pem = directory / "identity.pem"
        self.journal = directory / "journal"
        self.spool = directory / "spool"
        self.kept = directory / "kept"
        self.drafts = directory / "drafts"
        self.keeper_socket = directory / "keeper.sock"
        self.boot_id = directory / "boot_id"
        self._connects = 0

    @property
    def joined(self) -> bool:
        """Whether `join` has finished here."""
        return (self.directory / "identity.json").exists()

    def identity(self) -> Identity:
        """Who this host is. Raises NOT_JOINED or STATE_DAMAGED."""
        path = self.directory / "identity.json"
        if not path.exists():
            raise codes.NOT_JOINED.error(str(self.directory))
        try:
            return msgspec.json.decode(read_private(path), type=Identity)
        except msgspec.MsgspecError as error:
            raise codes.STATE_DAMAGED.error(f"{path}: {error}") from error

    def write_identity(self, identity: Identity) -> None:
        """Written last by `join`: from then on the host has joined."""
        write_whole(self.directory / "identity.json", msgspec.json.encode(identity))

    def ca(self) -> str:
        """The fleet's CA as PEM."""
        return read_private(self.directory / "ca.pem").decode("ascii", "replace")

    def write_ca(self, pem: str) -> None:
        """Keep the CA."""
        write_whole(self.directory / "ca.pem", pem.encode())

    def result_seed(self) -> bytes | None:
        """The seed of the host's result key; None where it has none (it joined with a version before these)."""
        path = self.directory / "result.key"
        return read_private(path) if path.exists() else None

    def write_result_seed(self, seed: bytes) -> None:
        """Keep it."""
        write_whole(self.directory / "result.key", seed)

    def roster(self) -> Signed:
        """The newest verified roster revision."""
        return signed_from_json(read_private(self.directory / "roster", at_most=MAX_JSON))

    def write_roster(self, signed: Signed) -> None:
        """Keep a verified revision."""
        write_whole(self.directory / "roster", signed_to_json(signed))

    def heads(self) -> tuple[Head, ...]:
        """What was seen of the audit; nothing where the file cannot be read."""
        try:
            return decode_heads((self.directory / "heads").read_bytes())
        except OSError:
            return ()

    def write_heads(self, heads: tuple[Head, ...]) -> None:
        """Keep them, not synced: this is written with each heartbeat that tells something new, and what a loss of power
        takes the next one brings again.
        """
        self._replace("heads", encode_heads(heads))

    def count_connect(self) -> int:
        """The number of the connection that is about to be made, which never goes back; 0, which tells no number, where
        it cannot be put on disk.

        A number that went back would look like another machine with this identity (`libstaragent.roles.clones`): the
        next process must go on after all that this one has told. So it is synced, and written over itself in one
        sector: that needs no space on most full disks.
        """
        path = self.directory / "connects"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return 0
        try:
            told = os.pread(descriptor, CONNECTS_BYTES, 0).strip()
            number = max(int(told) if told.isdigit() else 0, self._connects) + 1
            os.pwrite(descriptor, b"%*d" % (CONNECTS_BYTES, number), 0)
            os.fdatasync(descriptor)
        except OSError:
            return 0
        finally:
            os.close(descriptor)
        self._connects = number
        return number

    def _replace(self, name: str, data: bytes) -> None:
        """Write a file that may be lost. On a full disk things go on in memory: a host must not be lost over it."""
        draft = self.directory / f".{name}"
        try:
            draft.write_bytes(data)
            draft.chmod(0o600)
            os.replace(draft, self.directory / name)
        except OSError:
            pass
