"""`python -m agentd`: looks at the first word and imports only what that role needs; the agent must stay small."""

from __future__ import annotations

__all__ = ("main",)

import sys


def main() -> int:
    """Run the subcommand that argv names; its exit status."""
    command, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if command in ("agent", "join", "renew"):
        from agentd.agent import cli

        return {"agent": cli.run_agent, "join": cli.run_join, "renew": cli.run_renew}[command](rest)
    from agentd.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
