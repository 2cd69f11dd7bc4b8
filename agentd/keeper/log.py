"""The log of keeper and agent: lines on stderr.

Rules: standard library only; a log that cannot be written (its disk is full, its reader is gone) is no reason to end
commands or to lose a host. So nothing is buffered and nothing is raised: such a line is lost.
"""

from __future__ import annotations

import os

__all__ = ("say",)

_STDERR = 2


def say(text: str) -> None:
    """One line, if stderr takes it now."""
    try:
        os.write(_STDERR, f"agentd: {text}\n".encode(errors="replace"))
    except OSError:
        return
