"""The catalogue of error codes: data, in the order of their numbers; long because it is the one place for all of them.

`by_code` finds an entry from what a user typed; `opsconsole explain SA-4301` prints it and docs/errors.md is
generated from here. A code is provoked by a test through CLI, API or wire before it may stand here. How a code is
built: `libstaragent.errors`.
"""

from __future__ import annotations

from libstaragent.errors import Code

__all__ = ("ALL", "by_code")

ALL: dict[str, Code] = {}


def _code(
    code: str,
    symbol: str,
    sentence: str,
    remedy: str,
    *,
    owner: str = "operator",
    scope: str = "target",
    retryable: bool = False,
) -> Code:
    entry = Code(code, symbol, sentence, remedy, owner=owner, scope=scope, retryable=retryable)
    if code in ALL or any(other.symbol == symbol for other in ALL.values()):
        raise AssertionError(f"{code} {symbol} stands in the catalogue twice")
    ALL[code] = entry
    return entry


def by_code(text: str) -> Code | None:
    """The entry for ``SA-4301``, ``4301`` or ``token_unknown``, in any case; None where there is none."""
    wanted = text.strip().upper()
    if not wanted.startswith("SA-"):
        wanted = "SA-" + wanted
    found = ALL.get(wanted)
    if found is not None:
        return found
    symbol = text.strip().lower()
    return next((entry for entry in ALL.values() if entry.symbol == symbol), None)


# 1: console and library
# -------------------------------------------------------------------------------------------------

TARGET_SYNTAX = _code(
    "SA-1001",
    "target_syntax",
    "the target expression cannot be read",
    "See `opsconsole help targets`; the caret shows where reading stopped.",
)
GROUP_CIRCLE = _code(
    "SA-1002",
    "group_circle",
    "target groups name each other in a circle, or too deeply",
    "Mend the groups in the roster: `opsconsole roster show` lists them.",
)
KEYMAP_INVALID = _code(
    "SA-1020",
    "keymap_invalid",
    "the keymap file cannot be used",
    "Mend the lines named; docs/keys.md lists every action and its keys.",
)
THEME_INVALID = _code(
    "SA-1021",
    "theme_invalid",
    "the theme file cannot be used",
    "Mend the key named; the themes in themes/ show what a theme has.",
)
FILTER_SYNTAX = _code(
    "SA-1022",
    "filter_syntax",
    "the filter cannot be read",
    "It is a regular expression: put a backslash before ( [ * + ? to mean the character itself, or use /-f for fuzzy.",
)
COMMAND_SYNTAX = _code(
    "SA-1023",
    "command_syntax",
    "the console does not know this command",
    "Press ? for what can be done here; tab completes after a colon.",
)
RUN_SYNTAX = _code(
    "SA-1024",
    "run_syntax",
    "what to run cannot be read",
    "Name targets and a command, and close every quote; F2 in the run bar hands the line to a shell.",
)
CONTEXT_INVALID = _code(
    "SA-1030",
    "context_invalid",
    "the context file does not say where a fleet is",
    "Mend the key that is named, or write it again with `opsconsole up`.",
)
COMMAND_LINE = _code(
    "SA-1031",
    "command_line",
    "the command line asks for what cannot be done",
    "See `opsconsole help`, or --help after the command's name.",
)
HOST_UNKNOWN = _code(
    "SA-1101",
    "host_unknown",
    "a named host is not enrolled in this fleet",
    "Check the spelling with `opsconsole hosts`; nothing was sent to anyone.",
)
NO_TARGET = _code(
    "SA-1102",
    "no_target",
    "the target expression matches no host",
    "Widen the expression; nothing was sent to anyone.",
)
GROUP_UNKNOWN = _code(
    "SA-1103",
    "group_unknown",
    "the target expression names a group that the roster does not have",
    "Check the spelling with `opsconsole roster show`; nothing was sent to anyone.",
)
CODE_UNKNOWN = _code(
    "SA-1104",
    "code_unknown",
    "there is no error code like this",
    "Codes look like SA-1101; `opsconsole explain --all` lists them.",
)
THEME_UNKNOWN = _code(
    "SA-1121",
    "theme_unknown",
    "there is no theme of this name",
    "Use one of the names listed.",
)
CONTEXT_MISSING = _code(
    "SA-1130",
    "context_missing",
    "it is not known which fleet is meant",
    "Make one with `opsconsole up`, or name a context with --context FILE.",
)
OUTPUT_MISSING = _code(
    "SA-1131",
    "output_missing",
    "no output is kept for this host in this job",
    "See with `opsconsole jobs show` how its target ended: what never ran has no output.",
)
FLEET_CONFLICT = _code(
    "SA-1230",
    "fleet_conflict",
    "the context names another fleet than the state directory holds",
    "Give each fleet a context of its own with --context FILE, or name the state directory that belongs to this one.",
    scope="fleet",
)
READ_ONLY = _code(
    "SA-1320",
    "read_only",
    "this console is read-only",
    "Start it without --read-only to act on hosts.",
)
CENTRAL_SILENT = _code(
    "SA-1401",
    "central_silent",
    "central did not answer in time",
    "Try again; if a job was being submitted, look with `opsconsole jobs list` whether it arrived.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
CENTRAL_ANSWER = _code(
    "SA-1601",
    "central_answer",
    "central answered with something that is not of this API",
    "Check the address in the context, and compare the versions of console and central.",
    owner="platform",
    scope="fleet",
)
CENTRAL_UNREACHABLE = _code(
    "SA-1701",
    "central_unreachable",
    "central cannot be reached",
    "Check that the control plane runs (`opsconsole up`) and that its address is right.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
CENTRAL_FAILED = _code(
    "SA-1702",
    "central_failed",
    "central failed to answer",
    "Look into the log of the control plane.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
CONTROL_PLANE_FAILED = _code(
    "SA-1703",
    "control_plane_failed",
    "the control plane could not be started",
    "Its own words stand in the detail; its log is in the state directory.",
    scope="fleet",
)
FILE_REFUSED = _code(
    "SA-1704",
    "file_refused",
    "a file cannot be read or written",
    "The errno says why.",
)
CENTRAL_CERTIFICATE = _code(
    "SA-1801",
    "central_certificate",
    "whoever answers is not this fleet's central: its certificate does not hold",
    "Nothing was sent. Compare address and CA in the context; if both are right, somebody is in between.",
    scope="fleet",
)
TARGETS_UNEXPECTED = _code(
    "SA-1802",
    "targets_unexpected",
    "central names hosts that the target expression does not mean",
    "Nothing was signed. Look at the control plane before you act on hosts.",
    scope="fleet",
)
CONSOLE_FAULT = _code(
    "SA-1920",
    "console_fault",
    "the console met an error that it did not foresee",
    "It goes on; please report the detail, it is a bug.",
    owner="platform",
)

# 4: channel and identity ----------------------------------------------------------------------------------------------

TOKEN_TERMS = _code(
    "SA-4070",
    "token_terms",
    "a token cannot have these terms",
    "The detail names the one that is out of bounds.",
)
KEY_MISSING = _code(
    "SA-4180",
    "key_missing",
    "there is no such key",
    "Check the name and the path; `opsconsole up` makes the first operator's key.",
)
MEMBERSHIP_DUPLICATE = _code(
    "SA-4220",
    "membership_duplicate",
    "one host stands twice in the list of targets",
    "Resolve the targets again; if it stays, two hosts share an id.",
)
ROSTER_OLD = _code(
    "SA-4240",
    "roster_old",
    "a newer roster is known already",
    "Fetch the newest roster and sign the next revision on top of it.",
    scope="fleet",
)
KEY_EXISTS = _code(
    "SA-4280",
    "key_exists",
    "there is a key already and it is not overwritten",
    "Move the old key away first, or choose another name.",
)
ENVELOPE_CLOCK_SKEW = _code(
    "SA-4320",
    "clock_skew",
    "the host's clock and the operator's are more than 30 s apart",
    "Mend the clock that is wrong; until then reach the host with an envelope bound to its boot nonce.",
    owner="host owner",
)
ENVELOPE_NOT_YET = _code(
    "SA-4321",
    "envelope_not_yet",
    "the envelope may not start yet",
    "Wait for its not-before; compare the clocks of operator and host if that has passed.",
    retryable=True,
)
ENVELOPE_WRONG_BOOT = _code(
    "SA-4322",
    "envelope_wrong_boot",
    "the envelope is bound to another boot of an agent",
    "Read the host's present boot nonce and sign again.",
)
ENVELOPE_NOT_MEMBER = _code(
    "SA-4323",
    "envelope_not_member",
    "the envelope was not signed for this host",
    "Sign again with the present list of hosts; if central sent it to a wrong host, look at central.",
)
ENVELOPE_EXPRESSION = _code(
    "SA-4324",
    "envelope_expression",
    "the host does not match the signed target expression by what it knows of itself",
    "Compare the host's name, room and facts with the expression.",
)
ENVELOPE_OTHER_FLEET = _code(
    "SA-4325",
    "envelope_other_fleet",
    "the envelope is for another fleet",
    "Check which fleet this console is logged in to.",
)
SIGNER_UNKNOWN = _code(
    "SA-4326",
    "signer_unknown",
    "the signer is no operator of this fleet",
    "Ask an admin to put the key into the roster; check that name and key belong together.",
)
SIGNER_ROLE = _code(
    "SA-4327",
    "signer_role",
    "the operator's roles do not allow this kind of act",
    "Ask an admin for the role, or let one who has it sign.",
)
ENVELOPE_NOT_FOR_HOSTS = _code(
    "SA-4328",
    "envelope_not_for_hosts",
    "an act towards central was sent to a host",
    "Look at central: it should have done this itself.",
    owner="platform",
)
ROSTER_SIGNER = _code(
    "SA-4340",
    "roster_signer",
    "the roster's signer may not sign it",
    "Let the root, or an admin of the revision before, sign it.",
    scope="fleet",
)
ROSTER_EXPIRED = _code(
    "SA-4341",
    "roster_expired",
    "the roster's validity has ended",
    "Sign a new revision; if there is one, look why it did not arrive.",
    scope="fleet",
)
ROSTER_BEHIND = _code(
    "SA-4342",
    "roster_behind",
    "the envelope was signed under a newer roster than this one",
    "Carry the newer roster here first, then send the envelope again.",
    retryable=True,
)
PEER_IDENTITY = _code(
    "SA-4360",
    "peer_identity",
    "the peer's certificate names no agent",
    "Join the host again; only certificates that central made for an agent are taken.",
)
CA_NOT_IN_ROSTER = _code(
    "SA-4361",
    "ca_not_in_roster",
    "the certificate authority is not one that the roster names",
    "Compare the pin; if it is right, ask an admin whether the fleet's CA was changed.",
    scope="fleet",
)
TOKEN_UNKNOWN = _code(
    "SA-4370",
    "token_unknown",
    "the token is wrong or was never issued",
    "Paste it whole; if it still fails, issue a new one.",
)
TOKEN_USED_UP = _code(
    "SA-4371",
    "token_used_up",
    "the token has no uses left",
    "Issue a new one with enough uses.",
)
TOKEN_SCOPE = _code(
    "SA-4372",
    "token_scope",
    "the token is not for this host",
    "The detail says what differs: room, name or network. Issue one for this host.",
)
LOGIN_REFUSED = _code(
    "SA-4373",
    "login_refused",
    "the login's challenge was not answered by an operator of this fleet",
    "Ask for a new challenge and sign it with the key that is in the roster.",
)
BEARER_UNKNOWN = _code(
    "SA-4374",
    "bearer_unknown",
    "the bearer token is wrong, or its operator is no longer in the roster",
    "Run `opsconsole login` again.",
)
KEY_EXPOSED = _code(
    "SA-4380",
    "key_exposed",
    "the key file can be read or changed by others, or belongs to another user",
    "Run `chmod 600` on it as its owner, and consider whether the key has been seen.",
)
ENVELOPE_EXPIRED = _code(
    "SA-4420",
    "envelope_expired",
    "the envelope's time has passed",
    "Sign the act again.",
)
TOKEN_EXPIRED = _code(
    "SA-4470",
    "token_expired",
    "the token's time has passed",
    "Issue a new one.",
)
LOGIN_EXPIRED = _code(
    "SA-4471",
    "login_expired",
    "the login's time has passed",
    "Run `opsconsole login` again.",
)
SIGNED_TOO_LARGE = _code(
    "SA-4620",
    "signed_too_large",
    "the signed bytes are larger than one frame takes",
    "Move data into a file and distribute it.",
)
SIGNED_MALFORMED = _code(
    "SA-4621",
    "signed_malformed",
    "the signed bytes cannot be read",
    "Compare the versions of console, central and agent.",
)
ENVELOPE_FIELD = _code(
    "SA-4622",
    "envelope_field",
    "a field of the envelope is out of its bounds",
    "The detail names the field; see the limits in docs/protocol.md.",
)
ROSTER_FIELD = _code(
    "SA-4640",
    "roster_field",
    "a field of the roster is out of its bounds",
    "The detail names the field.",
    scope="fleet",
)
CSR_REFUSED = _code(
    "SA-4660",
    "csr_refused",
    "the certificate request cannot be signed",
    "Let `agentd join` make it: a P-256 key and a request signed by it.",
)
IDENTITY_UNREADABLE = _code(
    "SA-4661",
    "identity_unreadable",
    "a key or certificate file cannot be read",
    "It must be the PEM file that was written here; make a new one if it is damaged.",
)
KEY_MALFORMED = _code(
    "SA-4680",
    "key_malformed",
    "this is not an operator's key",
    "The key file must be one that opsconsole wrote.",
)
KEY_FILE_FAILED = _code(
    "SA-4780",
    "key_file_failed",
    "the key file cannot be read or written",
    "The errno says why.",
)
KEYRING_ABSENT = _code(
    "SA-4781",
    "keyring_absent",
    "there is no safe keyring on this system",
    "Give a file with `--key-file PATH`; it is written with mode 0600.",
)
KEYRING_FAILED = _code(
    "SA-4782",
    "keyring_failed",
    "the keyring refused",
    "Unlock it and try again, or give a file with `--key-file PATH`.",
    retryable=True,
)
SIGNATURE_INVALID = _code(
    "SA-4820",
    "signature_invalid",
    "the signature does not hold",
    "Nothing was done. Something between signer and reader changed the bytes: find out what.",
)
SIGNED_NOT_CANONICAL = _code(
    "SA-4821",
    "signed_not_canonical",
    "the signed bytes are not in canonical form",
    "Sign with `opsconsole sign` or the library.",
)
ROSTER_OTHER_FLEET = _code(
    "SA-4840",
    "roster_other_fleet",
    "the roster's root is not the pinned one",
    "Compare the fingerprint with the one that `opsconsole up` printed; if they differ, this is another control plane.",
    scope="fleet",
)
ROSTER_CHAIN = _code(
    "SA-4841",
    "roster_chain",
    "the roster does not follow the one that is known",
    "Fetch the revisions in between; two different revisions of one number mean that a key was misused.",
    scope="fleet",
)


# 6: executor ----------------------------------------------------------------------------------------------------------

COMMAND_SPEC = _code(
    "SA-6001",
    "command_spec",
    "the keeper cannot read what to run",
    "The detail names the field; nothing ran.",
    owner="platform",
)
COMMAND_MISSING = _code(
    "SA-6101",
    "command_missing",
    "the command does not exist on the host",
    "Check the spelling, or give the full path: PATH is minimal there. For pipes and builtins use `exec --shell`.",
)
RUN_AS_UNKNOWN = _code(
    "SA-6102",
    "run_as_unknown",
    "the user to run as does not exist on the host",
    "Name a user that the host knows, or create it there.",
)
WORKING_DIRECTORY = _code(
    "SA-6103",
    "working_directory",
    "the working directory cannot be entered",
    "Check that it exists on the host and that the user may enter it.",
)
JOB_NOT_KEPT = _code(
    "SA-6104",
    "job_not_kept",
    "the host's keeper has no such job",
    "It was never started there, or its result has been collected already: see `opsconsole jobs show`.",
)
KEEPER_RUNNING = _code(
    "SA-6201",
    "keeper_running",
    "an agent is already running on this state directory",
    "Stop the other agent first, or give this one its own state directory.",
    owner="host owner",
)
COMMAND_NOT_EXECUTABLE = _code(
    "SA-6301",
    "command_not_executable",
    "the command exists but may not be executed",
    "Check its mode and its file system's mount options, for the user that it runs as.",
)
RUN_AS_DENIED = _code(
    "SA-6302",
    "run_as_denied",
    "the agent may not become the user to run as",
    "Run the agent as root to switch users, or run as the agent's own user.",
    owner="host owner",
)
COMMAND_TIMEOUT = _code(
    "SA-6401",
    "command_timeout",
    "the command was killed because its time was up",
    "Raise --timeout, or run it with --async; what it printed until then is kept.",
)
SPOOL_REFUSED = _code(
    "SA-6501",
    "spool_refused",
    "there is no room to keep the command's result, so it was not started",
    "Free disk space in the agent's state directory; errno says what the OS answered.",
    owner="host owner",
    retryable=True,
)
KEEPER_BUSY = _code(
    "SA-6502",
    "keeper_busy",
    "the host already runs or keeps as many commands as it may",
    "Wait until some have finished and their results have been collected.",
    retryable=True,
)
COMMAND_OOM = _code(
    "SA-6503",
    "command_oom",
    "the kernel killed the command because memory ran out",
    "Give it more memory, or make it use less.",
)
MEMORY_LIMIT = _code(
    "SA-6504",
    "memory_limit",
    "the host cannot hold a command to a memory limit, so it was not started",
    "Run the agent where it may make memory control groups, or run the command without the limit.",
    owner="host owner",
)
KEEPER_FRAME = _code(
    "SA-6601",
    "keeper_frame",
    "the keeper received bytes that its protocol does not allow",
    "The connection was closed; agent and keeper are of different versions if it happens again.",
    owner="platform",
)
SPAWN_FAILED = _code(
    "SA-6701",
    "spawn_failed",
    "the operating system would not start the command",
    "The detail names the step and errno the reason.",
    owner="host owner",
)
COMMAND_INTERRUPTED = _code(
    "SA-6702",
    "command_interrupted",
    "the agent's keeper stopped before the command had ended",
    "`ran` says whether it may have had an effect: look before running it again.",
    owner="host owner",
)
SPOOL_WRITE = _code(
    "SA-6703",
    "spool_write",
    "the command's record could not be written to disk",
    "Look at the health of the disk that holds the agent's state directory.",
    owner="host owner",
)
SPOOL_DAMAGED = _code(
    "SA-6801",
    "spool_damaged",
    "the command's record on the host is damaged",
    "Whether it ran cannot be known: look before running it again, and check the disk.",
    owner="host owner",
)
KEEPER_BUG = _code(
    "SA-6901",
    "keeper_bug",
    "the keeper was asked for a move that its table does not have",
    "Report it with the text after the colon.",
    owner="platform",
)

DEMO_FAILED = _code(
    "SA-1790",
    "demo_failed",
    "a part of the demo could not be started",
    "The detail has the last words of that part; nothing was left behind.",
    owner="platform",
)

# 2: central
# -------------------------------------------------------------------------------------------------------------

REQUEST_MALFORMED = _code(
    "SA-2001",
    "request_malformed",
    "the request cannot be read",
    "The detail names the field; /v1/openapi.json describes every request.",
)
METHOD_UNKNOWN = _code(
    "SA-2002",
    "method_unknown",
    "this path of the API does not take this method",
    "/v1/openapi.json lists what each path takes.",
)
JOB_UNKNOWN = _code(
    "SA-2101",
    "job_unknown",
    "there is no job with this id",
    "List what there is with `opsconsole jobs list`; old jobs may have been pruned.",
)
PATH_UNKNOWN = _code(
    "SA-2110",
    "path_unknown",
    "the API has no such path",
    "/v1/openapi.json lists all paths.",
)
STATE_MISSING = _code(
    "SA-2111",
    "state_missing",
    "the control plane's state is not prepared",
    "Run `agentd init --state DIR`, sign the first roster, start with `--roster FILE`; or let `opsconsole up` do it.",
    owner="platform",
    scope="fleet",
)
JOB_REPEATED = _code(
    "SA-2201",
    "job_repeated",
    "another envelope with this job id was accepted before",
    "Sign the request again: every job needs an id of its own.",
)
TARGETS_CHANGED = _code(
    "SA-2202",
    "targets_changed",
    "the hosts sent along are not those that were signed",
    "Resolve the targets and sign again; nothing was sent to anyone.",
)
TARGET_OPEN = _code(
    "SA-2211",
    "target_open",
    "the target has not ended, so its output is not complete",
    "Follow it live, or ask again when it has ended.",
    retryable=True,
)
STATE_IN_USE = _code(
    "SA-2210",
    "state_in_use",
    "another control plane runs on this state directory",
    "Stop the other one first, or give this one a --state of its own.",
    owner="platform",
    scope="fleet",
)
HOST_NAME_TAKEN = _code(
    "SA-2241",
    "host_name_taken",
    "another host is enrolled under this name",
    "Choose another name for it, or revoke the old host first: `opsconsole hosts` shows it.",
    owner="platform",
)
BEARER_MISSING = _code(
    "SA-2310",
    "bearer_missing",
    "reading needs a login",
    "Run `opsconsole login`, and send `Authorization: Bearer TOKEN`.",
)
REQUEST_SLOW = _code(
    "SA-2410",
    "request_slow",
    "the request did not arrive in time",
    "Send it again; if it stays, look at the network between here and central.",
    retryable=True,
)
BODY_TOO_LARGE = _code(
    "SA-2510",
    "body_too_large",
    "the request's body is larger than this path takes",
    "The detail says how much it takes.",
)
HEADERS_TOO_LARGE = _code(
    "SA-2511",
    "headers_too_large",
    "the request's head is larger than 32 KiB",
    "Send fewer and shorter headers, and a shorter query.",
)
TOO_MANY_REQUESTS = _code(
    "SA-2512",
    "too_many_requests",
    "central has as many open requests as it takes",
    "Try again in a moment; wait for jobs by events instead of by `wait=`.",
    retryable=True,
)
TOO_MANY_READERS = _code(
    "SA-2513",
    "too_many_readers",
    "central has as many readers of events as it takes",
    "Close consoles that nobody looks at.",
    retryable=True,
)
STORE_BUSY = _code(
    "SA-2540",
    "store_busy",
    "the control plane has more to write than it may hold in memory",
    "Try again in a moment; if it stays so, look at the disk under the store.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
STORE_NEWER = _code(
    "SA-2640",
    "store_newer",
    "the store was written by a newer version of opsconsole",
    "Start the version that wrote it, or a later one; nothing was changed.",
    owner="platform",
    scope="fleet",
)
LISTEN_FAILED = _code(
    "SA-2710",
    "listen_failed",
    "the control plane cannot listen on this address",
    "Choose a free port, or port 0 for any; the errno says what the OS answered.",
    owner="platform",
    scope="fleet",
)
STATE_UNREADABLE = _code(
    "SA-2711",
    "state_unreadable",
    "a file of the control plane's state cannot be read or written",
    "The errno says why; the state directory must belong to the user that runs agentd.",
    owner="platform",
    scope="fleet",
)
STORE_FAILED = _code(
    "SA-2740",
    "store_failed",
    "the store's database could not be opened, read or written",
    "Look at errno: free space, permissions, the disk below. Nothing was half written; it recovers by itself.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
STORE_CLOSED = _code(
    "SA-2741",
    "store_closed",
    "the control plane is shutting down and takes nothing more",
    "Try again once it is back.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
STORE_DAMAGED = _code(
    "SA-2840",
    "store_damaged",
    "the store's file is damaged or is not a store",
    "Restore it from a backup; keep the damaged file, and look at the disk it lies on.",
    owner="platform",
    scope="fleet",
)
CENTRAL_BUG = _code(
    "SA-2910",
    "central_bug",
    "central met an error that it did not foresee",
    "Report it with the id in the detail; central's log has the rest under this id.",
    owner="platform",
    scope="fleet",
)
STORE_REFUSED = _code(
    "SA-2940",
    "store_refused",
    "the store refused what it was given",
    "This is a fault of opsconsole: please report it with the detail.",
    owner="platform",
)

# 3: room
# ----------------------------------------------------------------------------------------------------------------

HOST_UNREACHABLE = _code(
    "SA-3401",
    "host_unreachable",
    "the host was not connected before the job expired; nothing ran",
    "See why with `opsconsole hosts`; give the job a longer --ttl to wait for hosts that come back.",
    owner="host owner",
    retryable=True,
)
ROOM_STOPPING = _code(
    "SA-3501",
    "room_stopping",
    "the room is stopping; its agents come back by themselves",
    "Nothing to do when it was meant; else look at the room's log.",
    owner="platform",
    scope="room",
    retryable=True,
)
HOST_LOST = _code(
    "SA-3402",
    "host_lost",
    "the job was sent to the host, and no result came back by the deadline; it may have run",
    "The result is added when the host comes back; look at the host before you repeat the command.",
    owner="host owner",
)

# 4: channel and identity
# ------------------------------------------------------------------------------------------------

FRAME_TOO_LARGE = _code(
    "SA-4501",
    "frame_too_large",
    "a frame is larger than the protocol allows",
    "The other side is not an opsconsole of this version, or is hostile; the connection was closed.",
    owner="platform",
)
STREAM_OVERRUN = _code(
    "SA-4502",
    "stream_overrun",
    "the other side sent more than it was granted",
    "The connection was closed; the agent reconnects by itself.",
    owner="platform",
)
PEER_SLOW = _code(
    "SA-4503",
    "peer_slow",
    "the other side does not read what is sent to it",
    "The connection was closed; what was not acknowledged is sent again on the next one.",
    owner="platform",
    retryable=True,
)
VERSION_MISMATCH = _code(
    "SA-4601",
    "version_mismatch",
    "the two sides speak no common version of the protocol",
    "Upgrade the older side; both versions stand in the detail.",
    owner="platform",
)
FRAME_MALFORMED = _code(
    "SA-4602",
    "frame_malformed",
    "bytes arrived that are not a frame of this protocol",
    "The connection was closed; check what else connects to this port.",
    owner="platform",
)
MESSAGE_MALFORMED = _code(
    "SA-4603",
    "message_malformed",
    "a message cannot be read",
    "The connection was closed; the other side is not an opsconsole of this version, or is hostile.",
    owner="platform",
)
MESSAGE_UNEXPECTED = _code(
    "SA-4604",
    "message_unexpected",
    "a message came that has no place at this point of the conversation",
    "The connection was closed; the other side is not an opsconsole of this version, or is hostile.",
    owner="platform",
)
IDENTITY_MISMATCH = _code(
    "SA-4301",
    "identity_mismatch",
    "the agent says it is another than its certificate says",
    "Enrol the host again with `agentd join`.",
    owner="host owner",
)
REPLACED = _code(
    "SA-4201",
    "replaced",
    "a newer connection of the same agent took over",
    "Nothing to do after a reconnect; if it goes on, two hosts run with one identity: enrol one of them again.",
    owner="host owner",
)
WRONG_ROOM = _code(
    "SA-4302",
    "wrong_room",
    "the agent's certificate is for another room",
    "Point the agent at its own room, or enrol it here with `agentd join`.",
    owner="host owner",
)
CONNECTION_LOST = _code(
    "SA-4701",
    "connection_lost",
    "the connection between agent and room ended without a word",
    "The agent reconnects by itself; if it goes on, look at the network between them.",
    owner="platform",
    retryable=True,
)
ROOM_UNREACHED = _code(
    "SA-4702",
    "room_unreached",
    "the agent cannot reach its room",
    "The agent tries again by itself; if it goes on, check that the control plane runs and the network between them.",
    owner="host owner",
    retryable=True,
)
CERTIFICATE_REFUSED = _code(
    "SA-4801",
    "certificate_refused",
    "agent and room do not take each other's certificates: they are not of one fleet",
    "Compare the agent's room address with the fleet that it joined; if both are right, somebody is in between.",
    owner="host owner",
)
PEER_SILENT = _code(
    "SA-4401",
    "peer_silent",
    "the other side said nothing for three heartbeats",
    "The connection was closed; the agent reconnects by itself.",
    owner="platform",
    retryable=True,
)

# 5: agent
# ---------------------------------------------------------------------------------------------------------------

JOURNAL_FAILED = _code(
    "SA-5701",
    "journal_failed",
    "the agent could not write its journal, so it did not start the command",
    "Free space on the host (the errno says what is short), then run the command again.",
    owner="host owner",
    retryable=True,
)
AGENT_BUSY = _code(
    "SA-5501",
    "agent_busy",
    "the host has as many open commands as it takes",
    "Wait for some to finish, or cancel them.",
    owner="operator",
    retryable=True,
)
ACT_UNSUPPORTED = _code(
    "SA-5601",
    "act_unsupported",
    "this agent does not know what the job asks for",
    "Upgrade the agent.",
    owner="host owner",
)
KEEPER_LOST = _code(
    "SA-5702",
    "keeper_lost",
    "the process that keeps commands running was itself killed",
    "`ran` says whether the command may have run; look at the host before you repeat it.",
    owner="host owner",
)
RESULT_GONE = _code(
    "SA-5201",
    "result_gone",
    "this job was on the host before, and its result was acknowledged then; it is not run again",
    "Look for the result with `opsconsole jobs show`; to run the command again, sign it again.",
)
NOT_JOINED = _code(
    "SA-5101",
    "not_joined",
    "this host has not joined a fleet",
    "Run `agentd join ADDRESS --pin FINGERPRINT` first; `opsconsole up` and `opsconsole token` print the line.",
    owner="host owner",
)
ALREADY_JOINED = _code(
    "SA-5202",
    "already_joined",
    "this host has joined a fleet before",
    "Nothing to do: start `agentd agent`. To join anew, give another --state directory or remove this one.",
    owner="host owner",
)
STATE_DAMAGED = _code(
    "SA-5801",
    "state_damaged",
    "the agent's own state on disk cannot be read",
    "Look at the file named in the detail; if it is lost, join again with a new --state directory.",
    owner="host owner",
)
CENTRAL_UNREACHED = _code(
    "SA-5703",
    "central_unreached",
    "the control plane could not be reached",
    "Check the address, the network and that the control plane runs; nothing was changed on this host.",
    owner="host owner",
    retryable=True,
)
CENTRAL_UNREADABLE = _code(
    "SA-5602",
    "central_unreadable",
    "what answers at that address is not the control plane of a fleet",
    "Check the address; nothing was changed on this host, and no token was sent.",
    owner="host owner",
)
JOIN_REFUSED = _code(
    "SA-5301",
    "join_refused",
    "the control plane refused this host",
    "The detail has its reason and its code.",
    owner="host owner",
)
NEVER_STARTED = _code(
    "SA-5401",
    "never_started",
    "the agent was stopped after it took the job and before it started it; nothing ran",
    "Run the command again.",
    retryable=True,
)

# 6: executor ----------------------------------------------------------------------------------------------------------

# 7: plugin
# --------------------------------------------------------------------------------------------------------------

# 8: policy
# --------------------------------------------------------------------------------------------------------------

# 9: self-care
# -----------------------------------------------------------------------------------------------------------
