"""`opsconsole operator list | add | revoke | key`, and what else changes the roster: `opsconsole hosts revoke NAME`.

Not here: signing (`libstaragent.client.administration`). Rules: a private key is made where it will be used and never
leaves it; what takes rights away asks first, on a terminal.
"""

from __future__ import annotations

__all__ = ("confirmed", "revoke_host", "root_seed", "run")

import base64
import binascii
import sys
from argparse import Namespace
from pathlib import Path

from opsconsole.cli.failure import narrate, usage
from opsconsole.cli.lines_json import json_line

KEY_PREFIX = "opskey-"


def run(options: Namespace) -> int:
    """Runs the command line; the exit status."""
    if options.verb == "key":
        return _key(options)
    import anyio

    return anyio.run(_VERBS[options.verb], options)


async def revoke_host(name: str, options: Namespace) -> int:
    """`opsconsole hosts revoke NAME`; the exit status."""
    from libstaragent.client.administration import Administration
    from opsconsole.config import fleet_of

    async with fleet_of(options) as fleet:
        if not confirmed(options, f"put {name} out of the fleet for good"):
            narrate("nothing was changed")
            return 5
        revision = await Administration(fleet, seed=root_seed(options)).revoke_host(name)
    _told(options, revision, f"{name} is revoked and its name is free")
    return 0


def confirmed(options: Namespace, what: str, *, word: str = "yes") -> bool:
    """Whether it is to be done: asked on a terminal, taken as said elsewhere.

    :raises UsageError: there is nobody to ask, and --yes was not given.
    """
    if options.yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise usage(f"to {what} without a terminal give --yes")
    sys.stderr.write(f"{what}? type {word}: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == word


def root_seed(options: Namespace) -> bytes | None:
    """The root's key, where the options name its file."""
    if not options.root_key_file:
        return None
    from libstaragent.security.secrets import KeyFile

    return KeyFile(Path(options.root_key_file)).load()


async def _list(options: Namespace) -> int:
    from libstaragent.security.signing import fingerprint
    from opsconsole.cli.table import table
    from opsconsole.config import LOOK_DAYS, fleet_of

    async with fleet_of(options, warn_days=LOOK_DAYS) as fleet:
        roster = await fleet.roster()
    rows = [(operator.name, ",".join(operator.roles), fingerprint(operator.key)[:16]) for operator in roster.operators]
    if options.json:
        for operator in roster.operators:
            sys.stdout.write(
                json_line("operator", name=operator.name, roles=operator.roles, fingerprint=fingerprint(operator.key))
            )
    else:
        sys.stdout.write(table(("NAME", "ROLES", "KEY"), rows))
    return 0


async def _add(options: Namespace) -> int:
    from libstaragent.client.administration import Administration
    from opsconsole.config import fleet_of

    key = _public_key(options.key)
    roles = options.role or ["operator", "read"]
    async with fleet_of(options) as fleet:
        revision = await Administration(fleet, seed=root_seed(options)).add_operator(options.name, key, roles)
    _told(options, revision, f"{options.name} is {', '.join(roles)}")
    return 0


async def _revoke(options: Namespace) -> int:
    from libstaragent.client.administration import Administration
    from opsconsole.config import fleet_of

    async with fleet_of(options) as fleet:
        if not confirmed(options, f"take {options.name} out of the roster"):
            narrate("nothing was changed")
            return 5
        revision = await Administration(fleet, seed=root_seed(options)).revoke_operator(options.name)
    _told(options, revision, f"{options.name} is revoked; what it signed and did not run yet is void")
    return 0


def _key(options: Namespace) -> int:
    """Makes the operator's key, and lets the context name both."""
    import os

    import msgspec

    from libstaragent import codes
    from libstaragent.client.context import context_path, load_context, save_context
    from libstaragent.errors import StarAgentError
    from libstaragent.model.ids import is_user_name
    from libstaragent.security.signing import SEED_BYTES, public_key

    if not is_user_name(options.name):
        raise usage(f"{options.name!r} is not a name")
    path = context_path(Path(options.context) if options.context else None)
    context = msgspec.structs.replace(load_context(path), operator=options.name, key_file="")
    if options.key_file:
        context = msgspec.structs.replace(context, key_file=str(Path(options.key_file).absolute()))
    store = context.key_store()
    try:
        seed = store.load()
    except StarAgentError as error:
        if error.code is not codes.KEY_MISSING:
            raise
        seed = os.urandom(SEED_BYTES)
        store.save(seed)
        narrate(f"made a key for {options.name}")
    save_context(context, path)
    text = KEY_PREFIX + base64.urlsafe_b64encode(public_key(seed)).decode().rstrip("=")
    if options.json:
        sys.stdout.write(json_line("key", name=options.name, key=text))
    else:
        narrate(f"an admin lets it in with: opsconsole operator add {options.name} {text}")
        sys.stdout.write(f"{text}\n")
    return 0


_VERBS = {"list": _list, "add": _add, "revoke": _revoke}


def _public_key(text: str) -> bytes:
    body = text.removeprefix(KEY_PREFIX)
    try:
        key = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(KEY_PREFIX) or len(key) != 32:
        raise usage(f"{text[:80]!r} is not what `opsconsole operator key` prints")
    return key


def _told(options: Namespace, revision: int, what: str) -> None:
    if options.json:
        sys.stdout.write(json_line("roster", revision=revision))
    else:
        sys.stdout.write(f"{what}: roster revision {revision}\n")
