"""`agentd`: which role is this? Imports nothing before it knows, because an agent's keeper is forked from here and must
stay small; what the control plane's commands take is in `agentd.cli`.
"""

from __future__ import annotations

__all__ = ("main",)

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    command, rest = (words[0], words[1:]) if words else ("", [])
    if command == "agent":
        from agentd.agent.cli import run_agent

        return run_agent(rest)
    if command == "join":
        from agentd.enrol.cli import run_join

        return run_join(rest)
    if command == "renew":
        from agentd.enrol.cli import run_renew

        return run_renew(rest)
    from agentd.cli import run

    return run(words)


if __name__ == "__main__":
    sys.exit(main())
