"""The catalogue of error codes: one module a layer, each entry data, in the order of their numbers.

`codes.TOKEN_UNKNOWN` is found wherever it stands; a process loads only the layers that it asks for, because the keeper
counts every hundred kilobytes. `by_code` finds an entry from what a user typed; `opsconsole explain SA-4370` prints
it and docs/errors.md is generated from here. A code is provoked by a test through CLI, API or wire before it may
stand here.
"""

from __future__ import annotations

from importlib import import_module

from libstaragent.errors import Code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libstaragent.codes.agent import *  # noqa: F403  what `__getattr__` finds, for type checkers
    from libstaragent.codes.central import *  # noqa: F403
    from libstaragent.codes.channel import *  # noqa: F403
    from libstaragent.codes.console import *  # noqa: F403
    from libstaragent.codes.executor import *  # noqa: F403
    from libstaragent.codes.policy import *  # noqa: F403
    from libstaragent.codes.room import *  # noqa: F403

__all__ = ("by_code", "catalogue")

# In this order they are searched: what agents need comes first.
_LAYERS = ("executor", "channel", "agent", "policy", "room", "central", "console")


def __getattr__(name: str) -> Code:
    for layer in _LAYERS if name.isupper() else ():
        found = vars(import_module(f"{__name__}.{layer}")).get(name)
        if isinstance(found, Code):
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def catalogue() -> dict[str, Code]:
    """Every entry by its code, in order. Raises AssertionError where a number or a symbol stands twice."""
    entries = [
        value
        for layer in _LAYERS
        for value in vars(import_module(f"{__name__}.{layer}")).values()
        if isinstance(value, Code)
    ]
    found = {entry.code: entry for entry in sorted(entries, key=lambda entry: entry.code)}
    assert len(found) == len(entries) == len({entry.symbol for entry in entries}), "a code or a symbol stands twice"
    return found


def by_code(text: str) -> Code | None:
    """The entry for ``SA-4370``, ``4370`` or ``token_unknown``, in any case; None where there is none."""
    entries = catalogue()
    wanted = text.strip().upper()
    found = entries.get(wanted if wanted.startswith("SA-") else f"SA-{wanted}")
    if found is not None:
        return found
    symbol = text.strip().lower()
    return next((entry for entry in entries.values() if entry.symbol == symbol), None)
