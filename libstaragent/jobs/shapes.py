"""What decoded JSON turned out to be, so that a type checker knows it too.

For the modules that may load nothing but the standard library; everything else reads JSON with msgspec.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

__all__ = ("is_array", "is_object")


def is_object(value: object) -> TypeGuard[dict[str, object]]:
    """A JSON object; the decoder makes no keys but text."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[object]]:
    """A JSON array."""
    return isinstance(value, list)
