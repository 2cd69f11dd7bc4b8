"""ClusterShell's side of bench/peers: its library over OpenSSH's client, one connection a command, as `clush` does it.

    peer_clush.py SSH_CONFIG          then, on stdin, one case a line: {"targets": …, "command": …, "times": …}

Prints for each case its times in seconds, one for each command, and how many hosts answered.
"""

from __future__ import annotations

import json
import sys
import time

from ClusterShell.Task import task_self


def main(config: str) -> None:
    """Serves cases until stdin ends."""
    task = task_self()
    task.set_info("ssh_options", f"-F {config}")
    task.set_info("fanout", 64)
    for line in sys.stdin:
        case = json.loads(line)
        nodes = ",".join(case["targets"])
        took, answered, printed = [], 0, 0
        for _ in range(case["times"]):
            began = time.monotonic()
            task.run(case["command"], nodes=nodes, timeout=60)
            took.append(time.monotonic() - began)
            answered += sum(len(list(names)) for status, names in task.iter_retcodes() if status == 0)
            printed += sum(len(bytes(buffer)) * len(list(names)) for buffer, names in task.iter_buffers())
        sys.stdout.write(json.dumps({"took": took, "answered": answered, "printed": printed}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
