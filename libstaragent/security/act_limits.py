"""The bounds of every field of an envelope, checked alike when it is signed and when it is opened.

Not here: who may do it. Rules: pure; each limit is a named constant with its reason; the first field that breaks one is
named in the error. What passes here is safe to store, to show (after the sanitiser) and to hand to the executor.
"""

from __future__ import annotations

__all__ = (
    "BOOT_NONCE_BYTES",
    "MAX_AHEAD_MS",
    "MAX_LISTED_TARGETS",
    "MAX_OUTPUT",
    "MAX_STDIN",
    "MAX_WINDOW_MS",
    "check_envelope",
    "check_member",
)

from libstaragent import codes
from libstaragent.jobs.spool import OUTPUT_MAX
from libstaragent.model import ids
from libstaragent.security.acts import (
    At,
    Cancel,
    Cron,
    Envelope,
    Every,
    Exec,
    Fetch,
    IssueToken,
    Member,
    Pause,
    PauseSchedule,
    Plan,
    Put,
    ReadHeads,
    ReadSpool,
    ResolveClone,
    Resume,
    Schedule,
    TargetList,
    TargetRoot,
    Targets,
    Unschedule,
    is_host_act,
)

# The agent keeps ids until expires + 24 h to refuse a second run; the window bounds that memory.
MAX_WINDOW_MS = 24 * 3_600_000
# An act signed for later is power lying about: a month covers maintenance windows.
MAX_AHEAD_MS = 31 * 24 * 3_600_000
# Linux takes 128 KiB for one argument (MAX_ARG_STRLEN), and 128 for all of them leave room for stdin in one frame.
MAX_ARGV_BYTES = 128 * 1024
MAX_ENV_BYTES = 32 * 1024
# More input than this is a file and belongs to the distribution.
MAX_STDIN = 64 * 1024
# A path or a name of a user: PATH_MAX and LOGIN_NAME_MAX on Linux.
MAX_PATH_BYTES = 4096
MAX_LOGIN_BYTES = 256
# A command that must run longer than a week is a plugin.
MAX_TIMEOUT_MS = 7 * 24 * 3_600_000
MAX_KILL_GRACE_MS = 5 * 60_000
# What is kept of the output, head and tail together: as much as agent and keeper keep, so nothing that was signed is
# cut without a word.
MAX_OUTPUT = OUTPUT_MAX
# What a host keeps of one command's output beyond what travels: a log of some hundred thousand lines.
MAX_SPOOL = 64 * 1024 * 1024
MAX_REDUCER_BYTES = 64
# What one file may be that travels over the agents' connections, and waits at central meanwhile; larger ones are
# distributed.
MAX_FILE = 64 * 1024 * 1024
# A schedule must not outlive the roster under which it was signed (400 days) by much.
MAX_SCHEDULE_LIFE_MS = 400 * 24 * 3_600_000
# A shorter period is a daemon: a plugin.
MIN_EVERY_MS = 1000
MAX_CRON_BYTES = 256
# More stops than this are no waves.
MAX_WAVES = 32
# A rest that is longer than the envelope may live never ends.
MAX_WAIT_MS = MAX_WINDOW_MS
# A longer list costs more in each envelope than a root and a path (448 B at 10,000 hosts).
MAX_LISTED_TARGETS = 16
MAX_ROOT_TARGETS = 1_000_000
MAX_EXPRESSION_BYTES = 4096
ROOT_BYTES = 32
BOOT_NONCE_BYTES = 16
# What a HELLO may carry.
MAX_NONCE_BYTES = 64
MAX_TOKEN_USES = 10_000
MAX_TOKEN_TTL_MS = 24 * 3_600_000
MAX_PATTERN_BYTES = 256
MAX_NETWORKS = 16
MAX_LABELS = 32
MAX_LABEL_BYTES = 256
# 2^53 - 1: the largest integer that every JSON reader keeps exact.
MAX_INTEGER = (1 << 53) - 1


def check_envelope(envelope: Envelope) -> None:
    """Nothing, if each field is within its bounds.

    :raises ProtocolError: a field is not; the detail names it.
    """
    _need(ids.is_ulid(envelope.id), "id is not a ULID")
    _need(ids.is_fingerprint(envelope.fleet), "fleet is not a fingerprint")
    _need(ids.is_user_name(envelope.operator), "operator is not a name")
    _need(1 <= envelope.roster <= MAX_INTEGER, "roster is not a revision")
    _need(0 <= envelope.issued <= MAX_INTEGER, "issued is not a time")
    _need(envelope.issued <= envelope.not_before <= envelope.issued + MAX_AHEAD_MS, "not_before is not after issued")
    _need(0 < envelope.expires - envelope.not_before <= MAX_WINDOW_MS, "expires is not within 24 hours of not_before")
    if envelope.boot_nonce is not None:
        _need(len(envelope.boot_nonce) == BOOT_NONCE_BYTES, "boot_nonce is not 16 bytes")
    act = envelope.act
    match act:
        case Exec():
            _check_exec(act)
        case Put() | Fetch():
            _check_file(act)
        case Schedule():
            _check_schedule(act, envelope.issued)
        case Unschedule() | PauseSchedule():
            _need(ids.is_ulid(act.schedule), "schedule is not a ULID")
        case ReadSpool() | Cancel() | Pause() | Resume():
            _need(ids.is_ulid(act.job), "job is not a ULID")
        case ReadHeads():
            pass
        case ResolveClone():
            _need(ids.is_agent_id(act.host), "host is not an agent's id")
            _need(act.keep is None or 0 < len(act.keep) <= MAX_NONCE_BYTES, "keep is not a nonce")
            _need(envelope.targets is None, "targets do not belong to a resolution")
        case IssueToken():
            _check_issue_token(act)
            _need(envelope.targets is None, "targets do not belong to a token")
    if is_host_act(act) or isinstance(act, ReadSpool):
        _need(envelope.targets is not None, "targets are missing")
    if envelope.targets is not None:
        _check_targets(envelope.targets)
    if envelope.plan is not None:
        _need(is_host_act(act), "plan belongs to a job")
        _check_plan(envelope.plan, envelope.targets)


def _check_exec(act: Exec) -> None:
    _need(len(act.argv) > 0 and act.argv[0] != "", "argv is empty")
    _need(sum(_text(part, "argv") + 1 for part in act.argv) <= MAX_ARGV_BYTES, "argv is longer than 128 KiB")
    if act.shell:
        _need(len(act.argv) == 3 and act.argv[:2] == ("/bin/sh", "-c"), "argv of a shell is /bin/sh -c TEXT")
    if act.user is not None:
        _need(0 < _text(act.user, "user") <= MAX_LOGIN_BYTES, "user is not a login name")
    if act.cwd is not None:
        _need(_text(act.cwd, "cwd") <= MAX_PATH_BYTES and act.cwd.startswith("/"), "cwd is not an absolute path")
    size = 0
    for name, value in act.env.items():
        _need(name != "" and "=" not in name, "env has an impossible name")
        size += _text(name, "env") + _text(value, "env") + 2
    _need(size <= MAX_ENV_BYTES, "env is larger than 32 KiB")
    _need(act.umask is None or 0 <= act.umask <= 0o777, "umask is not within 0 and 0777")
    _need(len(act.stdin) <= MAX_STDIN, "stdin is larger than 64 KiB")
    _need(1 <= act.timeout_ms <= MAX_TIMEOUT_MS, "the timeout (timeout_ms) is not within 1 ms and 7 days")
    _need(0 <= act.output_head <= MAX_OUTPUT, "output_head is larger than 192 KiB")
    _need(0 <= act.output_tail <= MAX_OUTPUT - act.output_head, "output_head and output_tail are more than 192 KiB")
    _need(0 <= act.output_spool <= MAX_SPOOL, "output_spool is larger than 64 MiB")
    _need(_text(act.reduce, "reduce") <= MAX_REDUCER_BYTES, "reduce is longer than 64 bytes")
    _need(0 <= act.kill_grace_ms <= MAX_KILL_GRACE_MS, "kill_grace_ms is longer than 5 minutes")


def _check_file(act: Put | Fetch) -> None:
    _need(_text(act.path, "path") <= MAX_PATH_BYTES and act.path.startswith("/"), "path is not an absolute path")
    _need(not act.path.endswith("/"), "path is a directory")
    if isinstance(act, Put):
        _need(0 <= act.size <= MAX_FILE, "size is larger than 64 MiB")
        _need(len(act.sha256) == ROOT_BYTES, "sha256 is not 32 bytes")
        _need(act.mode is None or 0 <= act.mode <= 0o7777, "mode is not within 0 and 07777")
        for name, value in (("owner", act.owner), ("group", act.group)):
            _need(value is None or 0 < _text(value, name) <= MAX_LOGIN_BYTES, f"{name} is not a name")
    else:
        _need(0 <= act.max_bytes <= MAX_FILE, "max_bytes is larger than 64 MiB")
    if act.user is not None:
        _need(0 < _text(act.user, "user") <= MAX_LOGIN_BYTES, "user is not a login name")
    _need(1 <= act.timeout_ms <= MAX_TIMEOUT_MS, "the timeout (timeout_ms) is not within 1 ms and 7 days")
    _need(0 <= act.kill_grace_ms <= MAX_KILL_GRACE_MS, "kill_grace_ms is longer than 5 minutes")


def _check_schedule(act: Schedule, issued: int) -> None:
    _need(ids.is_room_name(act.name), f"the schedule's name is not {ids.SHORT_NAME_TERMS}")
    _need(
        issued < act.until_ms <= issued + MAX_SCHEDULE_LIFE_MS,
        "the end of a schedule (until_ms) is not within 400 days from now",
    )
    when = act.when
    if isinstance(when, At):
        _need(0 <= when.at_ms <= MAX_INTEGER, "at_ms is not a time")
    elif isinstance(when, Every):
        _need(
            MIN_EVERY_MS <= when.every_ms <= MAX_SCHEDULE_LIFE_MS,
            "the period (every_ms) is not within 1 s and 400 days",
        )
        _need(0 <= when.start_ms <= MAX_INTEGER, "start_ms is not a time")
    elif isinstance(when, Cron):
        _need(0 < _text(when.fields, "fields") <= MAX_CRON_BYTES, "fields are empty or too long")
        _need(ids.is_time_zone(when.zone), "zone is not a time zone")
    _check_exec(act.run)


def _check_plan(plan: Plan, targets: Targets | None) -> None:
    count = targets.count if isinstance(targets, TargetRoot) else len(targets.members) if targets else 0
    _need(len(plan.waves) <= MAX_WAVES, "waves are more than 32")
    _need(all(a < b for a, b in zip((0, *plan.waves), plan.waves, strict=False)), "waves do not rise")
    _need(not plan.waves or plan.waves[-1] == count, "the last wave is not all hosts")
    _need(plan.window is None or plan.window >= 1, "window is not a positive number")
    _need(plan.max_failures is None or plan.max_failures >= 0, "max_failures is negative")
    _need(0 <= plan.wait_ms <= MAX_WAIT_MS, "wait_ms is longer than 24 hours")
    _need(0 <= plan.turn_ms <= MAX_WINDOW_MS, "turn_ms is longer than 24 hours")


def _check_issue_token(act: IssueToken) -> None:
    _need(ids.is_room_name(act.room), f"the room's name is not {ids.SHORT_NAME_TERMS}")
    _need(1 <= act.uses <= MAX_TOKEN_USES, "uses is not within 1 and 10,000")
    _need(1 <= act.ttl_ms <= MAX_TOKEN_TTL_MS, "ttl_ms is longer than 24 hours")
    _need(0 < _text(act.name_pattern, "name_pattern") <= MAX_PATTERN_BYTES, "name_pattern is not a pattern")
    if act.replaces:
        _need(act.uses == 1 and ids.is_host_name(act.name_pattern), "replaces is for one use and one name")
    _need(len(act.networks) <= MAX_NETWORKS, "networks are more than 16")
    _need(all(0 < _text(network, "networks") <= 64 for network in act.networks), "networks holds no CIDR")
    _need(len(act.labels) <= MAX_LABELS, "labels are more than 32")
    for name, value in act.labels.items():
        _need(0 < _text(name, "labels") <= MAX_LABEL_BYTES, "labels has an impossible name")
        _need(_text(value, "labels") <= MAX_LABEL_BYTES, "labels has a value that is too long")


def _check_targets(targets: Targets) -> None:
    _need(0 < _text(targets.expression, "expression") <= MAX_EXPRESSION_BYTES, "expression is empty or too long")
    if isinstance(targets, TargetRoot):
        _need(1 <= targets.count <= MAX_ROOT_TARGETS, "count is not within 1 and 1,000,000")
        _need(len(targets.root) == ROOT_BYTES, "root is not 32 bytes")
        return
    _check_list(targets)


def _check_list(targets: TargetList) -> None:
    _need(1 <= len(targets.members) <= MAX_LISTED_TARGETS, "members are not 1 to 16")
    for member in targets.members:
        check_member(member)
    _need(len({member.agent for member in targets.members}) == len(targets.members), "members has one host twice")


def check_member(member: Member) -> None:
    """Nothing, if `member` can be a host.

    :raises ProtocolError: it cannot.
    """
    _need(ids.is_agent_id(member.agent), "agent is not an agent's id")
    _need(ids.is_host_name(member.name), "name is not a host's name")
    _need(ids.is_room_name(member.room), "room is not a room's name")


def _text(text: str, field: str) -> int:
    """The length of `text` in UTF-8; no text that goes to the OS may hold NUL or be impossible to write down."""
    _need("\0" not in text, f"{field} holds NUL")
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise codes.ENVELOPE_FIELD.error(f"{field} is not Unicode text") from None


def _need(holds: bool, detail: str) -> None:
    if not holds:
        raise codes.ENVELOPE_FIELD.error(detail)
