"""SHA-256 without OpenSSL, for the processes that have to stay small.

`hashlib` maps libcrypto: 3.6 MB more in the keeper, and page tables that every fork of a command has to copy. The
interpreter's own does 250 MB/s on a core where OpenSSL does 1,700: beyond what commands print.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class _Digest(Protocol):
        """What every implementation offers."""

        def update(self, data: bytes, /) -> None: ...
        def hexdigest(self) -> str: ...


__all__ = ("sha256",)


def _smallest() -> Callable[[bytes], _Digest]:
    # Python 3.12 renamed it, and a distribution may have left it out.
    for name in ("_sha2", "_sha256"):
        try:
            return __import__(name).sha256
        except ImportError:
            continue
    return __import__("hashlib").sha256


sha256 = _smallest()
