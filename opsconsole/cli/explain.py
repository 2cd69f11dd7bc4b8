"""`opsconsole explain CODE`: what an error means, who can mend it, what to do."""

from __future__ import annotations

__all__ = ("run",)

import json
import sys
from argparse import Namespace

from libstaragent import codes
from libstaragent.errors import Code
from opsconsole.cli.failure import usage


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    if options.all:
        for code in sorted(codes.catalogue().values(), key=lambda code: code.code):
            sys.stdout.write(_json(code) if options.json else f"{code.code}  {code.symbol}: {code.sentence}\n")
        return 0
    if options.code is None:
        raise usage("name a code, or --all")
    code = codes.by_code(options.code)
    if code is None:
        raise codes.CODE_UNKNOWN.error(options.code)
    sys.stdout.write(_json(code) if options.json else _text(code))
    return 0


def _text(code: Code) -> str:
    return (
        f"{code.code} {code.symbol}\n"
        f"  what      {code.sentence}\n"
        f"  to do     {code.remedy}\n"
        f"  who       {code.owner}\n"
        f"  reaches   {code.scope}\n"
        f"  again     {'the same request may succeed later' if code.retryable else 'not without a change'}\n"
    )


def _json(code: Code) -> str:
    fields = ("code", "symbol", "sentence", "remedy", "owner", "scope", "retryable")
    return json.dumps({name: getattr(code, name) for name in fields}) + "\n"
