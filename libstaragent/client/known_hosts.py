"""The keys with which hosts sign results, as this operator's machine first saw them: ssh's known_hosts for results.

The control plane tells the keys, so it could tell false ones. What was seen once is kept here and counts from then on:
another key for the same agent is said, and nothing signed with it is believed; a key that is withheld later is known
all the same. A host that joined anew is another agent with another key, and its old results hold by the old one.

A shell: it reads and writes one JSON file of mode 0600 beside the context, or keeps it in memory. Rules: a file that
others could write is not used; two processes that add at once may lose an addition, which is made again at the next
look.
"""

from __future__ import annotations

__all__ = ("KNOWN_MAX", "KnownHosts", "known_hosts_path")

from pathlib import Path

import msgspec

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.security.private_file import read_private, write_private
from libstaragent.security.signing import KEY_BYTES

# A hundred times the largest fleet planned for; beyond it nothing is added, and the file stays below 20 MB.
KNOWN_MAX = 100_000
FILE_MAX = 32 * 1024 * 1024


class _File(msgspec.Struct, frozen=True):
    """The file: fleet, and hex keys by agent id."""

    fleet: str
    hosts: dict[str, str]


def known_hosts_path(context_file: Path) -> Path:
    """Where the keys of the fleet in `context_file` are kept."""
    return context_file.with_suffix(".known_hosts")


class KnownHosts:
    """See the module. `file` None keeps it in memory."""

    def __init__(self, fleet: str, file: Path | None) -> None:
        self._fleet = fleet
        self._file = file
        self._keys: dict[str, str] | None = None
        self._new = False

    def key(self, agent: str, told: str) -> bytes:
        """The key that counts for this agent, when central tells `told` (hex, or nothing); empty where none is known.

        :raises IntegrityError: HOST_KEY_CHANGED, another one was seen before.
        :raises Denied: the file can be changed by others.
        """
        keys = self._load()
        known = keys.get(agent, "")
        if not known and _is_key(told):
            if len(keys) < KNOWN_MAX:
                keys[agent] = told
                self._new = True
            return bytes.fromhex(told)
        if told and known and told != known:
            raise codes.HOST_KEY_CHANGED.error(agent)
        return bytes.fromhex(known)

    def save(self) -> None:
        """Write what is new; a home that cannot be written to sees it as new again."""
        if self._new and self._file is not None and self._keys is not None:
            try:
                write_private(self._file, msgspec.json.encode(_File(self._fleet, self._keys)), overwrite=True)
            except StarAgentError:
                return
        self._new = False

    def _load(self) -> dict[str, str]:
        if self._keys is None:
            self._keys = {}
            if self._file is not None and self._file.exists():
                try:
                    kept = msgspec.json.decode(read_private(self._file, at_most=FILE_MAX), type=_File)
                except (msgspec.MsgspecError, ValueError) as error:
                    raise codes.KNOWN_HOSTS_DAMAGED.error(f"{self._file}: {error}") from error
                if kept.fleet == self._fleet:
                    self._keys = {agent: key for agent, key in kept.hosts.items() if _is_key(key)}
        return self._keys


def _is_key(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == KEY_BYTES
    except ValueError:
        return False
