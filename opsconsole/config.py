"""What the options of a command line say about the fleet: which context, which key.

Not here: the context itself (`libstaragent.client.context`). Rules: an option goes before the environment, that before
the user's own file; nothing is written here.
"""

from __future__ import annotations

__all__ = ("LOOK_DAYS", "fleet_of")

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from libstaragent.client.fleet import Fleet


# How early each act says that the roster ends: two weeks in which somebody tells an admin.
ACT_DAYS = 14
# Who looks at operators or rules is told earlier: an admin who is away for a month must still have time.
LOOK_DAYS = 45


def fleet_of(options: Namespace, *, warn_days: int = ACT_DAYS) -> Fleet:
    """The fleet that the options `context` and `key_file` mean; nothing is sent yet.

    :param warn_days: how early to say on stderr that its roster ends; 0 for never.
    :raises NotFound: there is no context.
    :raises UsageError: the context cannot be used.
    """
    import msgspec

    from libstaragent.client.audit import heads_path
    from libstaragent.client.context import context_path, load_context
    from libstaragent.client.known_hosts import known_hosts_path
    from libstaragent.client.session import session_path
    from opsconsole.cli.expiry import WarningFleet

    path = context_path(Path(options.context) if options.context else None)
    context = load_context(path)
    if options.key_file:
        context = msgspec.structs.replace(context, key_file=options.key_file)
    fleet = WarningFleet(
        context,
        session_file=session_path(path),
        known_hosts=known_hosts_path(path),
        heads_file=heads_path(path),
    )
    fleet.warn_days = warn_days
    return fleet
