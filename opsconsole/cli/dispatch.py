"""From the command line to the module that does it, and from whatever that raises to an exit status.

Rules: a closed pipe is no failure and says nothing (141, as the shell counts SIGPIPE); Ctrl-C ends with 130; what the
OS refuses, as a full disk behind stdout, ends with its code.
"""

from __future__ import annotations

__all__ = ("run",)

import os
import sys
from argparse import Namespace
from importlib import import_module
from types import ModuleType

from opsconsole.cli.parser import USAGE, build_parser, parse

BROKEN_PIPE = 141
INTERRUPTED = 130


def run(arguments: list[str]) -> int:
    """Runs one command line; the exit status."""
    _open_what_is_closed()
    try:
        options = parse(arguments)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else USAGE
    if options.version:
        from importlib.metadata import version

        sys.stdout.write(f"opsconsole {version('opsconsole')}\n")
        return 0
    if not options.module:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            build_parser().print_help(sys.stderr)
            return USAGE
        options = parse(["console"])
    # What was sent by a host is text by now, but the terminal's encoding may not hold it.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    return _guarded(options)


def _guarded(options: Namespace) -> int:
    from libstaragent import codes
    from libstaragent.errors import StarAgentError
    from opsconsole.cli.failure import describe, exit_status_of, narrate

    _leave_out_what_httpx_does_not_need()
    try:
        status = import_module(options.module).run(options)
        sys.stdout.flush()
        return status
    except StarAgentError as error:
        narrate(f"opsconsole: {describe(error)}")
        return exit_status_of(error)
    except BrokenPipeError:
        _give_up_stdout()
        return BROKEN_PIPE
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            _give_up_stdout()
        failure = codes.FILE_REFUSED.error(error.filename or "what this command prints", errno=error.errno)
        narrate(f"opsconsole: {describe(failure)}")
        return exit_status_of(failure)
    except KeyboardInterrupt:
        narrate("")
        return INTERRUPTED


def _give_up_stdout() -> None:
    """What is still in the buffer is lost: the interpreter must not find that out at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_what_is_closed() -> None:
    """A shell may start us without stdin, stdout or stderr: no socket or key file must get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python has none where there was none; a test may have its own.
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def _leave_out_what_httpx_does_not_need() -> None:
    """Halves the start of each command that talks to central.

    httpx loads its own command line (with click, rich and pygments), and httpcore loads trio where that is installed;
    this program runs on asyncio and calls neither. As a library nothing of this is done.
    """

    def main() -> None:
        raise SystemExit("httpx's command line is not loaded here")

    program = ModuleType("httpx._main")
    program.__dict__["main"] = main
    sys.modules.setdefault("httpx._main", program)
    # An import of a name that is None here fails as if it were not installed, which httpcore and anyio expect.
    sys.modules.setdefault("trio", None)  # type: ignore[arg-type]
