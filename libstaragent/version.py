"""The version of everything in this distribution."""

from __future__ import annotations

__all__ = ("VERSION",)

VERSION = "0.1.0"
