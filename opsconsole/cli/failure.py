"""How the command line says what went wrong, and what it ends with.

    opsconsole: SA-1101 host_unknown: a named host is not enrolled in this fleet: web9
      → Check the spelling with `opsconsole hosts`; nothing was sent to anyone.

Not here: what targets ended with (`libstaragent.jobs.states.exit_status`). Rules: on stderr; a detail may come from a
host or from central, so it passes the sanitiser, line by line.
"""

from __future__ import annotations

__all__ = ("describe", "exit_status_of", "narrate", "usage")

import sys

from libstaragent import codes
from libstaragent.errors import Denied, StarAgentError, UsageError
from opsconsole.sanitize import safe

# When these stop us before any target was reached, the exit status is what `exec` uses for the same.
_STATUS_OF_CODE = {
    # Out of its bounds before it was signed.
    codes.ENVELOPE_FIELD.code: 64,
    codes.HOST_UNKNOWN.code: 3,
    codes.NO_TARGET.code: 3,
    codes.GROUP_UNKNOWN.code: 3,
    codes.CENTRAL_UNREACHABLE.code: 2,
    codes.CENTRAL_SILENT.code: 2,
    codes.CENTRAL_FAILED.code: 2,
}


def exit_status_of(error: StarAgentError) -> int:
    """What the program ends with."""
    status = _STATUS_OF_CODE.get(error.code.code)
    if status is not None:
        return status
    if isinstance(error, UsageError):
        return 64
    return 4 if isinstance(error, Denied) else 1


def describe(error: StarAgentError) -> str:
    """The error, its particulars, and what to do next."""
    text = f"{error.code.code} {error.code.symbol}: {error.code.sentence}"
    if error.detail:
        text += f": {error.detail}"
    if error.errno:  # 0 is what a host says where its system had no objection
        text += f" (errno {error.errno})"
    text += f"\n  → {error.code.remedy}"
    return "\n".join(safe(line) for line in text.split("\n"))


def narrate(text: str) -> None:
    """A line for whoever watches; gone quietly if nobody does."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return
    except OSError:
        # Who writes on there is told; what is said here must be said all the same.
        pass
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201  stderr has this one writer
    except OSError:
        pass


def usage(detail: str) -> StarAgentError:
    """What was asked for cannot be asked."""
    return codes.COMMAND_LINE.error(detail)
