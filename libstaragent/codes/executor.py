"""Error codes of the executor: the keeper and what it starts (SA-6???), in the order of their numbers.

What a code is: `libstaragent.errors`.
"""

from __future__ import annotations

from libstaragent.errors import Code

COMMAND_SPEC = Code(
    "SA-6001",
    "command_spec",
    "the keeper cannot read what to run",
    "The detail names the field; nothing ran.",
    owner="platform",
)
COMMAND_MISSING = Code(
    "SA-6101",
    "command_missing",
    "the command does not exist on the host",
    "Check the spelling, or give the full path: PATH is minimal there. For pipes and builtins use `exec --shell`.",
)
RUN_AS_UNKNOWN = Code(
    "SA-6102",
    "run_as_unknown",
    "the user to run as does not exist on the host",
    "Name a user that the host knows, or create it there.",
)
WORKING_DIRECTORY = Code(
    "SA-6103",
    "working_directory",
    "the working directory cannot be entered",
    "Check that it exists on the host and that the user may enter it.",
)
JOB_NOT_KEPT = Code(
    "SA-6104",
    "job_not_kept",
    "the host's keeper has no such job",
    "It was never started there, or its result has been collected already: see `opsconsole jobs show`.",
)
KEEPER_RUNNING = Code(
    "SA-6201",
    "keeper_running",
    "an agent is already running on this state directory",
    "Stop the other agent first, or give this one its own state directory.",
    owner="host owner",
)
COMMAND_NOT_EXECUTABLE = Code(
    "SA-6301",
    "command_not_executable",
    "the command exists but may not be executed",
    "Check its mode and its file system's mount options, for the user that it runs as.",
)
RUN_AS_DENIED = Code(
    "SA-6302",
    "run_as_denied",
    "the agent may not become the user to run as",
    "Run the agent as root to switch users, or run as the agent's own user.",
    owner="host owner",
)
COMMAND_TIMEOUT = Code(
    "SA-6401",
    "command_timeout",
    "the command was killed because its time was up",
    "Raise --timeout, or run it with --async; what it printed until then is kept.",
)
SPOOL_REFUSED = Code(
    "SA-6501",
    "spool_refused",
    "there is no room to keep the command's result, so it was not started",
    "Free disk space in the agent's state directory; errno says what the OS answered.",
    owner="host owner",
    retryable=True,
)
KEEPER_BUSY = Code(
    "SA-6502",
    "keeper_busy",
    "the host already runs or keeps as many commands as it may",
    "Wait until some have finished and their results have been collected.",
    retryable=True,
)
COMMAND_OOM = Code(
    "SA-6503",
    "command_oom",
    "the kernel killed the command because memory ran out",
    "Give it more memory, or make it use less.",
)
MEMORY_LIMIT = Code(
    "SA-6504",
    "memory_limit",
    "the host cannot hold a command to a memory limit, so it was not started",
    "Run the agent where it may make memory control groups, or run the command without the limit.",
    owner="host owner",
)
KEEPER_FRAME = Code(
    "SA-6601",
    "keeper_frame",
    "the keeper received bytes that its protocol does not allow",
    "The connection was closed; agent and keeper are of different versions if it happens again.",
    owner="platform",
)
SPAWN_FAILED = Code(
    "SA-6701",
    "spawn_failed",
    "the operating system would not start the command",
    "The detail names the step and errno the reason.",
    owner="host owner",
)
COMMAND_INTERRUPTED = Code(
    "SA-6702",
    "command_interrupted",
    "the agent's keeper stopped before the command had ended",
    "`ran` says whether it may have had an effect: look before running it again.",
    owner="host owner",
)
SPOOL_WRITE = Code(
    "SA-6703",
    "spool_write",
    "the command's record could not be written to disk",
    "Look at the health of the disk that holds the agent's state directory.",
    owner="host owner",
)
SPOOL_DAMAGED = Code(
    "SA-6801",
    "spool_damaged",
    "the command's record on the host is damaged",
    "Whether it ran cannot be known: look before running it again, and check the disk.",
    owner="host owner",
)
KEEPER_BUG = Code(
    "SA-6901",
    "keeper_bug",
    "the keeper was asked for a move that its table does not have",
    "Report it with the text after the colon.",
    owner="platform",
)
FILE_NOT_REGULAR = Code(
    "SA-6065",
    "file_not_regular",
    "what stands at the path is no regular file",
    "Name a file: folders, devices and pipes are neither fetched nor replaced.",
)
FILE_ELSEWHERE = Code(
    "SA-6066",
    "file_elsewhere",
    "a symbolic link leads the path somewhere else",
    "Use the path that the detail names, if you mean it and a rule allows it: links are not followed.",
)
FILE_OWNER_UNKNOWN = Code(
    "SA-6165",
    "file_owner_unknown",
    "the host does not know the owner or group that the file is to get",
    "Name one that exists on the host; nothing was placed.",
)
FILE_TOO_LARGE = Code(
    "SA-6565",
    "file_too_large",
    "the file is larger than was asked for",
    "Raise --max-bytes (64 MiB at most).",
)
FILE_FAILED = Code(
    "SA-6765",
    "file_failed",
    "the host's system would not read or place the file",
    "errno says why. Whatever stood at the path of a put is still there, whole.",
    owner="host owner",
)
FILE_CHANGED = Code(
    "SA-6865",
    "file_changed",
    "the file was changed while it was read",
    "What was read is no state that the file ever had, so it was thrown away. Fetch it again when nobody writes to it, "
    "or fetch a copy.",
    owner="operator",
    retryable=True,
)
