"""Salt's side of bench/peers, run by the Python that Salt is installed in: imports nothing of ours.

    peer_salt.py CONFIG_FOLDER MINIONS     then, on stdin, one case a line: {"targets": …, "command": …, "times": …}

Prints {"ready": true} when all minions answer, and for each case its times in seconds, one for each command, and how
many hosts answered. It holds one client for all cases, as an API server would.
"""

from __future__ import annotations

import json
import sys
import time

import salt.client
import salt.config
import salt.exceptions

READY_WITHIN_SECONDS = 120
ANSWER_WITHIN_SECONDS = 60


def main(folder: str, minions: int) -> None:
    """Serves cases until stdin ends."""
    options = salt.config.client_config(folder + "/master")
    until = time.monotonic() + READY_WITHIN_SECONDS
    while answering(options) < minions:
        if time.monotonic() > until:
            raise SystemExit("the minions do not answer")
        time.sleep(0.5)
    client = salt.client.LocalClient(mopts=options)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        took, answered, printed = [], 0, 0
        for _ in range(case["times"]):
            began = time.monotonic()
            answers = client.cmd(
                case["targets"],
                "cmd.run",
                [case["command"]],
                tgt_type="list",
                kwarg={"python_shell": True},
                timeout=ANSWER_WITHIN_SECONDS,
            )
            took.append(time.monotonic() - began)
            answered += len(answers)
            printed += sum(len(str(text)) for text in answers.values())
        print(json.dumps({"took": took, "answered": answered, "printed": printed}), flush=True)


def answering(options) -> int:
    """Minions that answer now; none while the master is starting, whose key a client reads when it is made."""
    try:
        return len(salt.client.LocalClient(mopts=options).cmd("*", "test.ping", timeout=2))
    except (salt.exceptions.SaltClientError, salt.exceptions.AuthenticationError):
        return 0


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
