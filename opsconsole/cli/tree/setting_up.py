"""Commands that start a fleet."""

from __future__ import annotations

__all__ = ("add_setting_up",)

from opsconsole.cli.tree.shared import Commands, command, fleet_options, json_option, positive


def add_setting_up(commands: Commands) -> None:
    up = command(commands, "up", "opsconsole.cli.up", "start a fleet's control plane on this machine")
    up.add_argument("--state", metavar="DIR", help="where it keeps its state (the user's data folder)")
    up.add_argument(
        "--listen", metavar="HOST:PORT", default="127.0.0.1:7443", help="the API's address (127.0.0.1:7443)"
    )
    up.add_argument(
        "--room-listen", metavar="HOST:PORT", default="127.0.0.1:7444", help="the agents' address (127.0.0.1:7444)"
    )
    up.add_argument("--advertise", metavar="NAME,…", default="", help="names under which hosts reach this machine")
    up.add_argument("--operator", metavar="NAME", default="", help="the first operator's name (your login)")
    up.add_argument("--root-key-file", metavar="FILE", help="the fleet's root key, mode 0600, instead of the keyring")
    up.add_argument("--detach", action="store_true", help="leave it running and return")
    json_option(up)
    fleet_options(up)

    demo = command(commands, "demo", "opsconsole.cli.demo", "try it: a fleet of 8 agents on this machine, for a while")
    demo.add_argument("--script", action="store_true", help="as plain lines, without the console")
    demo.add_argument("--hosts", type=positive, default=8, metavar="N", help="how many agents (8)")
    json_option(demo)
