"""`opsconsole up`: from nothing to a fleet that hosts can join; a second run starts what is there.

    keys → agentd init → roster, signed → agentd all → context → enrolment token → what to type on a host

Not here: keys and roster (`founding`), processes (`control_plane`). This is the wiring page of a start. Rules: stays in
the foreground until Ctrl-C or SIGTERM, then stops the control plane in order; with --detach leaves it running.
"""

from __future__ import annotations

__all__ = ("run",)

import getpass
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import anyio
import msgspec

from libstaragent import codes
from libstaragent.client.context import Context, context_path, load_context, save_context
from libstaragent.client.fleet import Fleet
from libstaragent.errors import StarAgentError
from libstaragent.model.api import TokenIssued
from opsconsole import control_plane
from opsconsole.cli.failure import describe, narrate, usage
from opsconsole.cli.lines_json import json_line
from opsconsole.founding import fleet_in, found_fleet, sign_first_roster

# What one types by hand in a first hour; more hosts get a token with its own terms.
TOKEN_USES = 16
TOKEN_SECONDS = 3600.0
LAST_LINE = 300  # characters of the log that are told when it ends by itself
_WILDCARDS = ("", "0.0.0.0", "::")
_LOCAL = ("127.0.0.1", "::1", "localhost")


def run(options: Namespace) -> int:
    """Starts the fleet; returns when it has stopped, or at once with --detach."""
    # Until the control plane is in the foreground: whoever ends us then must not leave it behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end_early)
    file = context_path(Path(options.context) if options.context else None)
    state = _state(options)
    advertise = _advertised(options)
    context = _founded(options, state=state, file=file, advertise=advertise)
    try:
        child, ready = control_plane.start(state, listen=options.listen, room_listen=options.room_listen)
    except StarAgentError as error:
        running = control_plane.running_here(state) if error.code is codes.STATE_IN_USE else None
        if running is None:
            raise
        narrate("the control plane is running already")
        child, ready = None, running
    try:
        context = msgspec.structs.replace(context, api=_reachable(ready.api))
        save_context(context, file)
        issued = anyio.run(_first_token, context)
        _tell(options, state=state, file=file, context=context, ready=ready, issued=issued, advertise=advertise)
        if child is None or options.detach:
            narrate(f"it is process {ready.pid}; this stops it: kill {ready.pid}")
            return 0
        return _foreground(child, state)
    except BaseException:
        if child is not None:
            control_plane.end(child)
        raise


def _end_early(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _state(options: Namespace) -> Path:
    if options.state:
        return Path(options.state).absolute()
    import platformdirs

    return platformdirs.user_data_path("opsconsole", appauthor=False) / "control-plane"


def _advertised(options: Namespace) -> tuple[str, ...]:
    """Under which names this machine is reached: those given, and the address that is listened on."""
    names = [name.strip() for name in options.advertise.split(",") if name.strip()]
    for option, text in (("--listen", options.listen), ("--room-listen", options.room_listen)):
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            raise usage(f"{option} {text!r} is not HOST:PORT")
        host = host.strip("[]")
        if host in _WILDCARDS:
            if not names:
                raise usage(
                    f"{option} {text} means every address: say under which name hosts reach it, --advertise NAME"
                )
        elif host not in _LOCAL and host not in names:
            names.append(host)
    return tuple(names)


def _founded(options: Namespace, *, state: Path, file: Path, advertise: tuple[str, ...]) -> Context:
    """The fleet's context, without its address: as it was left, or of a fleet founded now."""
    fleet = fleet_in(state)
    known = load_context(file) if file.exists() else None
    if known is not None and known.fleet != fleet:
        raise codes.FLEET_CONFLICT.error(
            f"{file}: {known.fleet[:16]}…, {state}: {fleet[:16] + '…' if fleet else 'none'}"
        )
    key_file = Path(options.key_file).absolute() if options.key_file else None
    if fleet is not None:
        control_plane.initialise(state, advertise=advertise, fleet=fleet)
        if known is not None:
            return known if key_file is None else msgspec.structs.replace(known, key_file=str(key_file))
        operator = options.operator or getpass.getuser()
    else:
        operator = options.operator or getpass.getuser()
        root_key_file = Path(options.root_key_file).absolute() if options.root_key_file else None
        founding = found_fleet(operator=operator, key_file=key_file, root_key_file=root_key_file)
        fleet = founding.fleet
        sign_first_roster(
            founding, state=state, ca_sha256=control_plane.initialise(state, advertise=advertise, fleet=fleet)
        )
        narrate(f"founded fleet {fleet}")
        narrate(
            f"the root's key is in {root_key_file or 'your keyring'}: it signs who may act at all and is not needed"
            " from day to day; move it to where this machine cannot read it"
        )
    ca = (state / "ca.pem").read_text(encoding="ascii")
    return Context(api="https://127.0.0.1", fleet=fleet, ca=ca, operator=operator, key_file=str(key_file or ""))


async def _first_token(context: Context) -> TokenIssued:
    async with Fleet(context) as fleet:
        return await fleet.issue_token(room="main", uses=TOKEN_USES, ttl=TOKEN_SECONDS)


def _tell(
    options: Namespace,
    *,
    state: Path,
    file: Path,
    context: Context,
    ready: control_plane.Ready,
    issued: TokenIssued,
    advertise: tuple[str, ...],
) -> None:
    port = urlsplit(ready.api).port
    address = f"{advertise[0] if advertise else '127.0.0.1'}:{port}"
    narrate(
        "your key and the control plane are on one machine: who takes it takes the fleet; for more than a trial, keep"
    )
    narrate("the key elsewhere (copy the context file, give --key-file there)")
    if not advertise:
        narrate(
            "only this machine can reach it; for others:"
            " --listen 0.0.0.0:7443 --room-listen 0.0.0.0:7444 --advertise NAME"
        )
    if options.json:
        line = json_line(
            "up",
            pid=ready.pid,
            api=context.api,
            room=ready.room,
            fleet=context.fleet,
            operator=context.operator,
            state=str(state),
            context=str(file),
            join=address,
            token=issued.token,
        )
    else:
        line = (
            f"the fleet is up: {context.api}, state in {state}, context in {file}\n"
            f"\non a host, as root or not:\n\n"
            f"  agentd join {address} --pin {context.fleet}\n"
            f"  agentd agent\n"
            f"\nthe first asks for this token, good for {issued.uses} hosts and one hour:\n\n"
            f"  {issued.token}\n"
            f"\nthen here: opsconsole hosts, opsconsole exec -t all -- uptime, or just opsconsole\n"
        )
    sys.stdout.write(line)
    sys.stdout.flush()


def _foreground(child: subprocess.Popen[bytes], state: Path) -> int:
    """Waits for Ctrl-C, SIGTERM or the control plane's own end."""
    since = control_plane.log_size(state)
    narrate("Ctrl-C stops it")
    told: list[int] = []

    def stop(number: int, frame: object) -> None:
        told.append(number)
        if child.poll() is None:
            child.terminate()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    status = child.wait()
    if child.stdout is not None:
        child.stdout.close()
    if told:
        narrate("stopped")
        return 0
    last = control_plane.last_words(state, since=since).rpartition("\n")[2]
    error = codes.CONTROL_PLANE_FAILED.error(f"it ended with {status}{': ' if last else ''}{last[:LAST_LINE]}")
    narrate(f"opsconsole: {describe(error)}")
    return 1


def _reachable(api: str) -> str:
    """The API's address as this machine reaches it."""
    parts = urlsplit(api)
    host = parts.hostname or ""
    if host in _WILDCARDS:
        host = "127.0.0.1"
    return f"https://[{host}]:{parts.port}" if ":" in host else f"https://{host}:{parts.port}"
