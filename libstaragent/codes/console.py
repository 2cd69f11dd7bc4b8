"""Error codes of the console and the library (SA-1???), in the order of their numbers.

What a code is: `libstaragent.errors`.
"""

from __future__ import annotations

from libstaragent.errors import Code

TARGET_SYNTAX = Code(
    "SA-1001",
    "target_syntax",
    "the target expression cannot be read",
    "See `opsconsole help targets`; the caret shows where reading stopped.",
)
GROUP_CIRCLE = Code(
    "SA-1002",
    "group_circle",
    "target groups name each other in a circle, or too deeply",
    "A group of the roster names itself by way of others; whoever signs the roster has to mend it.",
)
KEYMAP_INVALID = Code(
    "SA-1020",
    "keymap_invalid",
    "the keymap file cannot be used",
    "Mend the lines named; docs/keys.md lists every action and its keys.",
)
THEME_INVALID = Code(
    "SA-1021",
    "theme_invalid",
    "the theme file cannot be used",
    "Mend the key named; the themes in themes/ show what a theme has.",
)
FILTER_SYNTAX = Code(
    "SA-1022",
    "filter_syntax",
    "the filter cannot be read",
    "It is a regular expression: put a backslash before ( [ * + ? to mean the character itself, or use /-f for fuzzy.",
)
COMMAND_SYNTAX = Code(
    "SA-1023",
    "command_syntax",
    "the console does not know this command",
    "Press ? for what can be done here; tab completes after a colon.",
)
RUN_SYNTAX = Code(
    "SA-1024",
    "run_syntax",
    "what to run cannot be read",
    "Name targets and a command, and close every quote; F2 in the run bar hands the line to a shell.",
)
CONTEXT_INVALID = Code(
    "SA-1030",
    "context_invalid",
    "the context file does not say where a fleet is",
    "Mend the key that is named, or write it again with `opsconsole up`.",
)
COMMAND_LINE = Code(
    "SA-1031",
    "command_line",
    "the command line asks for what cannot be done",
    "See `opsconsole help`, or --help after the command's name.",
)
REDUCER_UNKNOWN = Code(
    "SA-1060",
    "reducer_unknown",
    "there is no reducer of this name",
    "Reducers are count, sum, uniq-count, sort-merge and top-n:N; a command of one word goes with --reduce-command.",
)
ONE_BOOT_ONLY = Code(
    "SA-1085",
    "one_boot_only",
    "an envelope can be bound to the boot of one connected host only",
    "Name one host with -t that `opsconsole hosts` shows as up.",
)
SCHEDULE_WHEN = Code(
    "SA-1070",
    "schedule_when",
    "when the schedule is due cannot be read, or its time zone is not known on this machine",
    "Five fields as in crontab(5), numbers only, and an IANA zone such as Europe/Berlin; a host that does not know a "
    "zone needs its time zone data (package tzdata).",
)
HOST_UNKNOWN = Code(
    "SA-1101",
    "host_unknown",
    "a named host is not enrolled in this fleet, or is no target of the job",
    "Check the spelling with `opsconsole hosts`; nothing was sent to anyone.",
)
NO_TARGET = Code(
    "SA-1102",
    "no_target",
    "the target expression matches no host",
    "Widen the expression; nothing was sent to anyone.",
)
GROUP_UNKNOWN = Code(
    "SA-1103",
    "group_unknown",
    "the target expression names a group that the roster does not have",
    "Check the spelling of the @group; nothing was sent to anyone.",
)
CODE_UNKNOWN = Code(
    "SA-1104",
    "code_unknown",
    "there is no error code like this",
    "Codes look like SA-1101; `opsconsole explain --all` lists them.",
)
THEME_UNKNOWN = Code(
    "SA-1121",
    "theme_unknown",
    "there is no theme of this name",
    "Use one of the names listed.",
)
CONTEXT_MISSING = Code(
    "SA-1130",
    "context_missing",
    "it is not known which fleet is meant",
    "Make one with `opsconsole up`, or name a context with --context FILE.",
)
OUTPUT_MISSING = Code(
    "SA-1131",
    "output_missing",
    "no output is kept for this host in this job",
    "See with `opsconsole jobs show` how its target ended: what never ran has no output.",
)
FLEET_CONFLICT = Code(
    "SA-1230",
    "fleet_conflict",
    "the context names another fleet than the state directory holds",
    "Give each fleet a context of its own with --context FILE, or name the state directory that belongs to this one.",
    scope="fleet",
)
CLOCKS_APART = Code(
    "SA-1285",
    "clocks_apart",
    "this machine's clock and central's are more than 30 s apart; nothing was signed",
    "Mend the clock that is wrong: no host would take what is signed with this one.",
    scope="fleet",
)
ROSTER_RACED = Code(
    "SA-1280",
    "roster_raced",
    "another admin changed the roster in the meantime; nothing of this change was taken",
    "Look at what is there now (`opsconsole policy show`, `operator list`), then do it again.",
    retryable=True,
)
READ_ONLY = Code(
    "SA-1320",
    "read_only",
    "this console is read-only",
    "Start it without --read-only to act on hosts.",
)
CENTRAL_SILENT = Code(
    "SA-1401",
    "central_silent",
    "central did not answer in time",
    "Try again; if a job was being submitted, look with `opsconsole jobs list` whether it arrived.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
CENTRAL_ANSWER = Code(
    "SA-1601",
    "central_answer",
    "central answered with something that is not of this API",
    "Check the address in the context, and compare the versions of console and central.",
    owner="platform",
    scope="fleet",
)
COUNT_WRONG = Code(
    "SA-1055",
    "count_wrong",
    "the targets mean another number of hosts than was confirmed",
    "Nothing was sent. Look at them with --preview, then confirm the number that there is.",
)
COUNT_UNCONFIRMED = Code(
    "SA-1056",
    "count_unconfirmed",
    "so many hosts must be confirmed by their number",
    "Nothing was sent. Look at them with --preview, then give their number with --yes=COUNT.",
)
PLAN_INVALID = Code(
    "SA-1057",
    "plan_invalid",
    "waves, window or failures make no plan",
    "Waves rise: --waves 1,10%,100%. A window is a number of hosts, failures a number or a percentage.",
)
CENTRAL_UNREACHABLE = Code(
    "SA-1701",
    "central_unreachable",
    "central cannot be reached",
    "Check that the control plane runs (`opsconsole up`) and that its address is right.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
CENTRAL_FAILED = Code(
    "SA-1702",
    "central_failed",
    "central failed to answer",
    "Look into the log of the control plane.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
CONTROL_PLANE_FAILED = Code(
    "SA-1703",
    "control_plane_failed",
    "the control plane could not be started, or ended by itself",
    "Its own words stand in the detail; its log is in the state directory.",
    scope="fleet",
)
FILE_REFUSED = Code(
    "SA-1704",
    "file_refused",
    "a file cannot be read or written",
    "The errno says why.",
)
DEMO_FAILED = Code(
    "SA-1790",
    "demo_failed",
    "a part of the demo could not be started",
    "The detail has the last words of that part; nothing was left behind.",
    owner="platform",
)
CENTRAL_CERTIFICATE = Code(
    "SA-1801",
    "central_certificate",
    "whoever answers is not this fleet's central: its certificate does not hold",
    "Nothing was sent. Compare address and CA in the context; if both are right, somebody is in between.",
    scope="fleet",
)
TARGETS_UNEXPECTED = Code(
    "SA-1802",
    "targets_unexpected",
    "central names hosts that the target expression does not mean",
    "Nothing was signed. Look at the control plane before you act on hosts.",
    scope="fleet",
)
AUDIT_CHANGED = Code(
    "SA-1875",
    "audit_changed",
    "an entry of the audit is not what was written",
    "Somebody altered the store's rows. Keep the database as it is, and compare with a backup from before.",
    scope="fleet",
)
AUDIT_REMOVED = Code(
    "SA-1876",
    "audit_removed",
    "entries of the audit are missing, and no checkpoint stands for them",
    "Somebody took rows out of the store. Keep the database as it is, and compare with a backup from before.",
    scope="fleet",
)
AUDIT_CUT = Code(
    "SA-1877",
    "audit_cut",
    "the end of the audit is missing: somebody has seen later entries",
    "Either the store was restored from a backup, or somebody cut it. Ask who did what since the last entry.",
    scope="fleet",
)
AUDIT_REWRITTEN = Code(
    "SA-1878",
    "audit_rewritten",
    "the audit was made anew: somebody has seen other entries than it has now",
    "Somebody with the whole store made another history. Trust no entry from the first one named on.",
    scope="fleet",
)
AUDIT_CHECKPOINT = Code(
    "SA-1879",
    "audit_checkpoint",
    "a checkpoint of the audit does not hold",
    "What it stands for cannot be known to have been pruned by retention. Compare with a backup from before.",
)
RESULT_FORGED = Code(
    "SA-1885",
    "result_forged",
    "a result is not what its host signed",
    "Believe neither it nor the control plane that told it: look at the host itself, and at who has central's store.",
    scope="fleet",
)
RESULT_UNSIGNED = Code(
    "SA-1886",
    "result_unsigned",
    "a result that was to be signed is not",
    "The host cannot have said it so: look at the host itself, and at the control plane.",
    scope="fleet",
)
HOST_KEY_CHANGED = Code(
    "SA-1887",
    "host_key_changed",
    "central tells another key for this agent's results than was seen before",
    "An agent's key never changes. Look at the control plane; remove the line from the .known_hosts file beside the "
    "context only if you know why.",
    scope="fleet",
)
KNOWN_HOSTS_DAMAGED = Code(
    "SA-1888",
    "known_hosts_damaged",
    "the file of the hosts' keys cannot be read",
    "Restore it from a backup; if you move it away, the keys that central tells now are believed as if seen first.",
    scope="fleet",
)
CONSOLE_FAULT = Code(
    "SA-1920",
    "console_fault",
    "the console met an error that it did not foresee",
    "It goes on; please report the detail, it is a bug.",
    owner="platform",
)
FILE_FOR_DISTRIBUTION = Code(
    "SA-1565",
    "file_for_distribution",
    "the file is larger than the channel takes (64 MiB)",
    "Larger files are for the distribution; until then split it, or let hosts get it from a server of yours.",
)
FETCH_DIGEST = Code(
    "SA-1865",
    "fetch_digest",
    "what came is not the file that the host read",
    "Fetch it again; if that does not help, somebody changes it on its way: look at the control plane.",
)
