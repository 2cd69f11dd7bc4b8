"""The program `opsconsole`: reads the command line and hands it to the one module that does it.

Rules: nothing heavy is imported before it is known what is asked for, so that `--help` answers at once; stdout is data,
stderr is narration; every failure ends with its code and an exit status.
"""

from __future__ import annotations

__all__ = ("main",)

import sys


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line; the exit status."""
    from opsconsole.cli.dispatch import run

    return run(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
