"""Error codes of the agent (SA-5???), in the order of their numbers.

What a code is: `libstaragent.errors`.
"""

from __future__ import annotations

from libstaragent.errors import Code

NOT_JOINED = Code(
    "SA-5101",
    "not_joined",
    "this host has not joined a fleet",
    "Run `agentd join ADDRESS --pin FINGERPRINT` first; `opsconsole up` and `opsconsole token` print the line.",
    owner="host owner",
)
SCHEDULE_NOT_KEPT = Code(
    "SA-5170",
    "schedule_not_kept",
    "the host has no such schedule (any more)",
    "Nothing to do if it was to be removed; `opsconsole schedule show NAME` says which hosts have it.",
)
RESULT_KEY_MISSING = Code(
    "SA-5185",
    "result_key_missing",
    "a signed result was asked for, and the host has no key to sign it with; nothing ran",
    "The host joined with a version before result keys: join it anew, or ask without --signed.",
    owner="host owner",
)
RESULT_GONE = Code(
    "SA-5201",
    "result_gone",
    "this job was on the host before, and its result was acknowledged then; it is not run again",
    "Look for the result with `opsconsole jobs show`; to run the command again, sign it again.",
)
ALREADY_JOINED = Code(
    "SA-5202",
    "already_joined",
    "this host has joined a fleet before",
    "Nothing to do: start `agentd agent`. To join anew, stop the agent and give --anew.",
    owner="host owner",
)
SCHEDULE_OVERLAP = Code(
    "SA-5270",
    "schedule_overlap",
    "the firing before was still running, so this one was passed over; nothing ran",
    "Let it be due less often, or give the command a shorter --timeout.",
)
SCHEDULE_DOUBTFUL = Code(
    "SA-5271",
    "schedule_doubtful",
    "the host's journal was damaged, and whether this schedule was paused or removed may be lost with it; nothing ran",
    "If it is still wanted: `opsconsole schedule resume NAME`; if not: `opsconsole schedule remove NAME`.",
)
JOIN_REFUSED = Code(
    "SA-5301",
    "join_refused",
    "the control plane refused this host",
    "The detail has its reason and its code.",
    owner="host owner",
)
NEVER_STARTED = Code(
    "SA-5401",
    "never_started",
    "the agent was stopped after it took the job and before it started it; nothing ran",
    "Run the command again.",
    retryable=True,
)
SCHEDULE_MISSED = Code(
    "SA-5470",
    "schedule_missed",
    "the host was down, or its agent, when the command was due, and for more than an hour after; nothing ran",
    "Run the command by hand if it is still wanted.",
)
AGENT_BUSY = Code(
    "SA-5501",
    "agent_busy",
    "the host has as many open commands as it takes",
    "Wait for some to finish, or cancel them.",
    owner="operator",
    retryable=True,
)
SCHEDULES_FULL = Code(
    "SA-5570",
    "schedules_full",
    "the host keeps as many schedules as it takes",
    "Remove some with `opsconsole schedule remove`.",
)
REFUSALS_FULL = Code(
    "SA-5580",
    "refusals_full",
    "this host refused so many orders lately that it does not remember this one; it did not run",
    "Somebody sends without end what may not be done here: `opsconsole audit list --denied` shows who. What the audit "
    "does not show came from the control plane itself: look at that machine.",
)
ACT_UNSUPPORTED = Code(
    "SA-5601",
    "act_unsupported",
    "this agent does not know what the job asks for",
    "Upgrade the agent.",
    owner="host owner",
)
CENTRAL_UNREADABLE = Code(
    "SA-5602",
    "central_unreadable",
    "what answers at that address is not the control plane of a fleet",
    "Check the address; nothing was changed on this host, and no token was sent.",
    owner="host owner",
)
JOURNAL_FAILED = Code(
    "SA-5701",
    "journal_failed",
    "the agent could not write its journal, so it did not start the command",
    "Free space on the host (the errno says what is short), then run the command again.",
    owner="host owner",
    retryable=True,
)
CENTRAL_UNREACHED = Code(
    "SA-5703",
    "central_unreached",
    "the control plane could not be reached",
    "Check the address, the network and that the control plane runs; nothing was changed on this host.",
    owner="host owner",
    retryable=True,
)
STATE_DAMAGED = Code(
    "SA-5801",
    "state_damaged",
    "the agent's own state on disk cannot be read",
    "Look at the file named in the detail; if it is lost, join again with a new --state directory.",
    owner="host owner",
)
IDS_LOST = Code(
    "SA-5802",
    "ids_lost",
    "the host's list of jobs was damaged, and this job may have been on it; it is not run (again)",
    "Find out on the host whether it ran; then sign the command again, half a minute after the damage was found at "
    "the earliest. The agent's log says when that was.",
    owner="operator",
)
AUDIT_WENT_BACK = Code(
    "SA-5875",
    "audit_went_back",
    "the control plane tells an older or another state of the audit than this host has seen before",
    "Its store was restored from a backup, or somebody altered it: run `opsconsole audit verify`. "
    "This host keeps what it saw.",
    scope="fleet",
)
SPOOL_GONE = Code(
    "SA-5165",
    "spool_gone",
    "the host keeps nothing of this job's output any more",
    "It printed nothing, or its time or room on the host was over: what came with the result is in `jobs output`.",
)
DRAFT_FAILED = Code(
    "SA-5765",
    "draft_failed",
    "the host could not write down the file that came for it",
    "errno says why; free disk space in the agent's state directory and put it again. Nothing was placed.",
    owner="host owner",
    retryable=True,
)
FILE_DIGEST = Code(
    "SA-5865",
    "file_digest",
    "what came is not the file that was signed",
    "Somebody or something changed it on its way: look at the control plane. Nothing was placed.",
    owner="platform",
)
