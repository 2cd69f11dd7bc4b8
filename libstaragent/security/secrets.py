"""Where an operator's Ed25519 seed is kept: the OS keyring, or a file that only its owner can read.

Not here: signing. A shell: it talks to the keyring (imported on first use: 200 ms) and to files.

Rules: never in clear silently. A keyring counts only with a priority of 1 or more, which is `keyring`'s own mark of a
backend that protects what it keeps: `fail` has 0, `null` less, the plain-text file of keyrings.alt 0.5. Where there is
none the error says so, and a file is used only when its path was given.
"""

from __future__ import annotations

__all__ = ("KeyFile", "KeyStore", "Keyring")

import base64
import binascii
from pathlib import Path
from typing import Protocol, cast

from libstaragent import codes
from libstaragent.security.private_file import read_private, write_private
from libstaragent.security.signing import SEED_BYTES

SAFE_PRIORITY = 1
# What stands before the seed, so that a wrong file or entry is recognised.
_MARK = "opsconsole-ed25519-seed-1 "


class KeyStore(Protocol):
    """The seam between what signs and where its seed is."""

    def load(self) -> bytes:
        """The 32-byte seed.

        :raises StarAgentError: it is not there, not safe, or not a seed.
        """
        ...

    def save(self, seed: bytes) -> None:
        """Keeps a new seed; an old one is never overwritten.

        :raises StarAgentError: there is one already, or it cannot be kept safely.
        """
        ...


class _Backend(Protocol):
    """What is used of a `keyring` backend."""

    def get_password(self, service: str, username: str) -> str | None: ...

    def set_password(self, service: str, username: str, password: str) -> None: ...


class KeyFile:
    """A file of mode 0600 that belongs to whoever runs this."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> bytes:
        """See `KeyStore`."""
        return _seed_of(read_private(self.path).decode("ascii", "replace"))

    def save(self, seed: bytes) -> None:
        """See `KeyStore`."""
        write_private(self.path, _text_of(seed).encode() + b"\n")


class Keyring:
    """An entry in the OS keyring, by the fleet's fingerprint and the key's name: an operator's, or ``fleet root``."""

    def __init__(self, fleet: str, name: str) -> None:
        self.service = f"opsconsole {fleet}"
        self.name = name

    def load(self) -> bytes:
        """See `KeyStore`."""
        text = self._read(_safe_backend())
        if text is None:
            raise codes.KEY_MISSING.error(f"{self.name} of {self.service} in the keyring")
        return _seed_of(text)

    def save(self, seed: bytes) -> None:
        """See `KeyStore`."""
        text = _text_of(seed)
        backend = _safe_backend()
        if self._read(backend) is not None:
            raise codes.KEY_EXISTS.error(f"{self.name} of {self.service} in the keyring")
        try:
            backend.set_password(self.service, self.name, text)
        except Exception as error:  # a backend is anybody's plug-in, and raises what its OS or bus raises
            raise codes.KEYRING_FAILED.error(f"{type(error).__name__}: {error}") from error

    def _read(self, backend: _Backend) -> str | None:
        try:
            return backend.get_password(self.service, self.name)
        except Exception as error:  # as above
            raise codes.KEYRING_FAILED.error(f"{type(error).__name__}: {error}") from error


def _safe_backend() -> _Backend:
    import keyring
    from keyring.backends.chainer import ChainerBackend

    try:
        chosen = keyring.get_keyring()
        # The chainer tries its members in turn, unsafe ones included: take the best member instead.
        candidates = list(chosen.backends) if isinstance(chosen, ChainerBackend) else [chosen]
        safe = [backend for backend in candidates if float(backend.priority) >= SAFE_PRIORITY]
    except Exception as error:  # looking for a backend already runs its code
        raise codes.KEYRING_FAILED.error(f"{type(error).__name__}: {error}") from error
    if not safe:
        names = ", ".join(type(backend).__module__ for backend in candidates) or "none"
        raise codes.KEYRING_ABSENT.error(f"found: {names}")
    return cast(_Backend, max(safe, key=lambda backend: float(backend.priority)))


def _text_of(seed: bytes) -> str:
    if len(seed) != SEED_BYTES:
        raise ValueError("a seed is 32 bytes")
    return _MARK + base64.b64encode(seed).decode()


def _seed_of(text: str) -> bytes:
    line = text.removesuffix("\n")
    if not line.startswith(_MARK):
        raise codes.KEY_MALFORMED.error()
    try:
        seed = base64.b64decode(line.removeprefix(_MARK), validate=True)
    except binascii.Error:
        raise codes.KEY_MALFORMED.error() from None
    if len(seed) != SEED_BYTES:
        raise codes.KEY_MALFORMED.error()
    return seed
