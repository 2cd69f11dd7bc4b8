"""`opsconsole help TOPIC`: what one reads once, as plain text; `help COMMAND`: what `COMMAND --help` says."""

from __future__ import annotations

__all__ = ("TOPICS", "run")

import argparse
import sys
from argparse import Namespace

from opsconsole.cli.failure import usage

TOPICS = {
    "targets": """Targets: which hosts are meant. Quote them: the shell knows [ ] * & ! too.

  web01                 one host by its name; it must exist
  web[01-20]            twenty hosts; web[01-20/2] every second; web[01-03,07]
  web*                  names that match
  web01,db*             a comma (or |) is "or"
  @front                a group of the roster
  os=linux              a fact or a label; values may hold wildcards; room=, state=, name=, id=
  10.0.0.0/8            hosts with an address in a network
  all                   every host
  @front & !web07       "and", "not"; parentheses group:  os=linux & (room=hz | 10.0.0.0/8)

`opsconsole hosts EXPR` shows who is meant. The hosts are frozen when the act is signed.
""",
    "exit": """Exit statuses of exec and of jobs show:

    0  every target is ok; jobs show: or none has failed yet
    1  some failed: exit_nonzero, signalled, timeout, oom, limit, spawn_failed, unsupported
    2  some were unreachable, lost, interrupted or too late; or central cannot be reached
    3  an unknown host or group, or no target: nothing was sent
    4  denied
    5  cancelled
    6  stopped by --max-failures: the rest was never begun on
   64  the command line cannot be understood
  130  left by Ctrl-C    141  the reader of our output has gone

In a tie the first of 64, 4, 3, 6, 5, 2, 1 counts.
""",
    "output": """Output of exec and of jobs output:

  A line a line of a host, `web01 | text`; the command's stdout to stdout, its stderr to stderr. Escape sequences and
  control characters are never obeyed. What was not kept is named: `[4096 bytes omitted]`.

  --raw     the bytes of one host as they were
  --json    one JSON object a line: events job, target, output, gap, group, reduced, result

  At the end of exec, and of an old job with jobs output JOB:

  --fold          identical outputs once, with the hosts that printed them; the largest group first
  --fold=similar  also those that differ only in numbers, words with digits, and the host's own name
  --diff          the largest group, and how each other differs from it

  exec --reduce NAME lets the rooms send only what they make of stdout; the outputs themselves do not travel:

  count       how many lines           uniq-count  each line and how often, most first
  sum         the sum of the numbers   top-n:N     the N most frequent lines
  sort-merge  all lines, sorted

  --reduce 'sort | uniq -c' runs a command here, with the stdout of all hosts as its input. A single word is a
  reducer's name and nothing else; --reduce-command CMD is always a command. Only hosts whose command ended with an exit
  status and whose output was kept whole count; what does not is said on stderr, and the exit status is then at least 1.

  Colours only on a terminal, and not with NO_COLOR.
""",
}


def _help_of(command: str) -> int:
    """What `COMMAND --help` prints, for those who ask the other way round."""
    from opsconsole.cli.parser import build_parser

    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction) and command in action.choices:
            action.choices[command].print_help(sys.stdout)
            return 0
    raise usage(f"there is no topic or command {command!r}; topics are: {', '.join(TOPICS)}")


def run(options: Namespace) -> int:
    """Prints the topic, or which there are."""
    if options.topic is None:
        from opsconsole.cli.parser import build_parser

        build_parser().print_help(sys.stdout)
        sys.stdout.write(f"\ntopics: {', '.join(TOPICS)} (opsconsole help TOPIC)\n")
        return 0
    if options.topic not in TOPICS:
        return _help_of(options.topic)
    sys.stdout.write(TOPICS[options.topic])
    return 0
