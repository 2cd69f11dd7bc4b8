"""What the HTTP API says of files that hosts are to place. Values only; `libstaragent.model.api` has the rest."""

from __future__ import annotations

__all__ = ("BlobStands",)

from msgspec import Struct


class BlobStands(Struct, frozen=True):
    """How much of a file that hosts are to place is at central: `offset` of its `size` bytes; go on from there."""

    sha256: str
    size: int
    offset: int
