"""The catalogue of error codes: one line of data each, in the order of their numbers.

`by_code` finds an entry from what a user typed; `opsconsole explain SA-4301` prints it and docs/errors.md is generated from
here. A code is provoked by a test through CLI, API or wire before it may stand here. How a code is built: `libstaragent.errors`.
"""

from __future__ import annotations

from libstaragent.errors import Code

__all__ = ("ALL", "by_code")

ALL: dict[str, Code] = {}


def _code(
    code: str,
    symbol: str,
    sentence: str,
    remedy: str,
    *,
    owner: str = "operator",
    scope: str = "target",
    retryable: bool = False,
) -> Code:
    entry = Code(code, symbol, sentence, remedy, owner=owner, scope=scope, retryable=retryable)
    if code in ALL or any(other.symbol == symbol for other in ALL.values()):
        raise AssertionError(f"{code} {symbol} stands in the catalogue twice")
    ALL[code] = entry
    return entry


def by_code(text: str) -> Code | None:
    """The entry for ``SA-4301``, ``4301`` or ``token_unknown``, in any case; None where there is none."""
    wanted = text.strip().upper()
    if not wanted.startswith("SA-"):
        wanted = "SA-" + wanted
    found = ALL.get(wanted)
    if found is not None:
        return found
    symbol = text.strip().lower()
    return next((entry for entry in ALL.values() if entry.symbol == symbol), None)


# 1: console and library -------------------------------------------------------------------------------------------------

TARGET_SYNTAX = _code(
    "SA-1001",
    "target_syntax",
    "the target expression cannot be read",
    "See `opsconsole help targets`; the caret shows where reading stopped.",
)
HOST_UNKNOWN = _code(
    "SA-1101",
    "host_unknown",
    "a named host is not enrolled in this fleet",
    "Check the spelling with `opsconsole hosts`; nothing was sent to anyone.",
)
NO_TARGET = _code(
    "SA-1102",
    "no_target",
    "the target expression matches no host",
    "Widen the expression; nothing was sent to anyone.",
)
