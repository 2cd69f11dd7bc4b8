"""Error codes of central (SA-2???), in the order of their numbers.

What a code is: `libstaragent.errors`.
"""

from __future__ import annotations

from libstaragent.errors import Code

REQUEST_MALFORMED = Code(
    "SA-2001",
    "request_malformed",
    "the request cannot be read",
    "The detail names the field; /v1/openapi.json describes every request.",
)
METHOD_UNKNOWN = Code(
    "SA-2002",
    "method_unknown",
    "this path of the API does not take this method",
    "/v1/openapi.json lists what each path takes.",
)
RETENTION_INVALID = Code(
    "SA-2075",
    "retention_invalid",
    "the file that says how much is kept cannot be used",
    "Mend the key that is named in STATE/retention.toml; docs/operations.md has them all. Nothing was deleted.",
    owner="platform",
    scope="fleet",
)
JOB_UNKNOWN = Code(
    "SA-2101",
    "job_unknown",
    "there is no job with this id",
    "List what there is with `opsconsole jobs list`; old jobs may have been pruned.",
)
PATH_UNKNOWN = Code(
    "SA-2110",
    "path_unknown",
    "the API has no such path",
    "/v1/openapi.json lists all paths.",
)
OUTPUT_PRUNED = Code(
    "SA-2175",
    "output_pruned",
    "the output is not kept any longer",
    "Its length and hash stand with the target. Keep outputs longer with STATE/retention.toml on the control plane.",
)
STATE_MISSING = Code(
    "SA-2111",
    "state_missing",
    "the control plane's state is not prepared",
    "Run `agentd init --state DIR`, sign the first roster, start with `--roster FILE`; or let `opsconsole up` do it.",
    owner="platform",
    scope="fleet",
)
HOLDER_UNKNOWN = Code(
    "SA-2185",
    "holder_unknown",
    "none of the machines that have this host's identity has that nonce",
    "The detail names those that there are; `opsconsole hosts --json` says more of each.",
)
SCHEDULE_UNKNOWN = Code(
    "SA-2170",
    "schedule_unknown",
    "there is no such schedule, or it was removed from all of its hosts",
    "`opsconsole schedule list` names those that there are.",
)
JOB_REPEATED = Code(
    "SA-2201",
    "job_repeated",
    "another envelope with this job id was accepted before",
    "Sign the request again: every job needs an id of its own.",
)
TARGETS_CHANGED = Code(
    "SA-2202",
    "targets_changed",
    "the hosts sent along are not those that were signed",
    "Resolve the targets and sign again; nothing was sent to anyone.",
)
NOT_REDUCED = Code(
    "SA-2260",
    "not_reduced",
    "the job was run without a reducer",
    "Run it with --reduce NAME, or look at its outputs: `opsconsole jobs output JOB --fold`.",
)
STATE_IN_USE = Code(
    "SA-2210",
    "state_in_use",
    "another control plane runs on this state directory",
    "Stop the other one first, or give this one a --state of its own.",
    owner="platform",
    scope="fleet",
)
TARGET_OPEN = Code(
    "SA-2211",
    "target_open",
    "the target has not ended, so its output is not complete",
    "Follow it live, or ask again when it has ended.",
    retryable=True,
)
SCHEDULE_NAME_TAKEN = Code(
    "SA-2270",
    "schedule_name_taken",
    "a schedule with this name is still on hosts",
    "Remove it first with `opsconsole schedule remove NAME`, or take another name.",
)
HOST_NAME_TAKEN = Code(
    "SA-2241",
    "host_name_taken",
    "another host is enrolled under this name",
    "Choose another name for it with --name; `opsconsole hosts` shows which are taken.",
    owner="platform",
)
NOTHING_HELD = Code(
    "SA-2255",
    "nothing_held",
    "no host of this job waits for its turn: it has ended, or all of them have been begun on",
    "There is nothing to pause or to resume; `opsconsole jobs cancel JOB` stops what runs.",
)
STOPPED_BY_FAILURES = Code(
    "SA-2256",
    "stopped_by_failures",
    "too many hosts before this one failed, so it was never begun on",
    "Look at those that failed with `opsconsole jobs show JOB`; run it again on the others when that is mended.",
)
CANCELLED_BEFORE_TURN = Code(
    "SA-2257",
    "cancelled_before_turn",
    "the job was cancelled before this host's turn came",
    "Nothing ran there.",
)
NOT_QUARANTINED = Code(
    "SA-2285",
    "not_quarantined",
    "the host is not in quarantine",
    "There is nothing to resolve; look at its state with `opsconsole hosts`.",
)
BEARER_MISSING = Code(
    "SA-2310",
    "bearer_missing",
    "reading needs a login",
    "Run `opsconsole login`, and send `Authorization: Bearer TOKEN`.",
)
REQUEST_SLOW = Code(
    "SA-2410",
    "request_slow",
    "the request did not arrive in time",
    "Send it again; if it stays, look at the network between here and central.",
    retryable=True,
)
TURN_NEVER_CAME = Code(
    "SA-2455",
    "turn_never_came",
    "the job expired before this host's turn came",
    "Nothing ran there. Run it again with a longer --life, a wider --window or shorter waits.",
)
BODY_TOO_LARGE = Code(
    "SA-2510",
    "body_too_large",
    "the request's body is larger than this path takes",
    "The detail says how much it takes.",
)
HEADERS_TOO_LARGE = Code(
    "SA-2511",
    "headers_too_large",
    "the request's head is larger than 32 KiB",
    "Send fewer and shorter headers, and a shorter query.",
)
TOO_MANY_REQUESTS = Code(
    "SA-2512",
    "too_many_requests",
    "central has as many open requests as it takes",
    "Try again in a moment; wait for jobs by events instead of by `wait=`.",
    retryable=True,
)
TOO_MANY_READERS = Code(
    "SA-2513",
    "too_many_readers",
    "central has as many readers of events as it takes",
    "Close consoles that nobody looks at.",
    retryable=True,
)
BODIES_FULL = Code(
    "SA-2514",
    "bodies_full",
    "central is reading as many bytes of requests as it may hold in memory",
    "Try again in a moment, with a bearer token: room is kept for those who are known.",
    retryable=True,
)
STORE_BUSY = Code(
    "SA-2540",
    "store_busy",
    "the control plane has more to write than it may hold in memory",
    "Try again in a moment; if it stays so, look at the disk under the store.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
STORE_NEWER = Code(
    "SA-2640",
    "store_newer",
    "the store was written by a newer version of opsconsole",
    "Start the version that wrote it, or a later one; nothing was changed.",
    owner="platform",
    scope="fleet",
)
LISTEN_FAILED = Code(
    "SA-2710",
    "listen_failed",
    "the control plane cannot listen on this address",
    "Choose a free port, or port 0 for any; the errno says what the OS answered.",
    owner="platform",
    scope="fleet",
)
STATE_UNREADABLE = Code(
    "SA-2711",
    "state_unreadable",
    "a file of the control plane's state cannot be read or written",
    "The errno says why; the state directory must belong to the user that runs agentd.",
    owner="platform",
    scope="fleet",
)
STORE_FAILED = Code(
    "SA-2740",
    "store_failed",
    "the store's database could not be opened, read or written",
    "Look at errno: free space, permissions, the disk below. Nothing was half written; it recovers by itself.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
STORE_CLOSED = Code(
    "SA-2741",
    "store_closed",
    "the control plane is shutting down and takes nothing more",
    "Try again once it is back.",
    owner="platform",
    scope="fleet",
    retryable=True,
)
STORE_DAMAGED = Code(
    "SA-2840",
    "store_damaged",
    "the store's file is damaged or is not a store",
    "Restore it from a backup; keep the damaged file, and look at the disk it lies on.",
    owner="platform",
    scope="fleet",
)
CENTRAL_BUG = Code(
    "SA-2910",
    "central_bug",
    "central met an error that it did not foresee",
    "Report it with the id in the detail; central's log has the rest under this id.",
    owner="platform",
    scope="fleet",
)
STORE_REFUSED = Code(
    "SA-2940",
    "store_refused",
    "the store refused what it was given",
    "This is a fault of opsconsole: please report it with the detail.",
    owner="platform",
)
BLOB_GONE = Code(
    "SA-2165",
    "blob_gone",
    "the file to place is not at central",
    "Put it again: it is uploaded anew.",
)
BLOB_UNEXPECTED = Code(
    "SA-2166",
    "blob_unexpected",
    "no signed put has named this file",
    "Send the put to /v1/blobs first; `opsconsole put` does.",
)
BLOB_OFFSET = Code(
    "SA-2265",
    "blob_offset",
    "the bytes do not belong where the file stands",
    "Ask /v1/blobs how much of it is there, and go on from there.",
    retryable=True,
)
READ_CUT = Code(
    "SA-2465",
    "read_cut",
    "what the host keeps could not be read to its end",
    "Read on from where it stopped; `opsconsole` does so by itself.",
    retryable=True,
)
BLOBS_FULL = Code(
    "SA-2565",
    "blobs_full",
    "too many files wait at central to be placed",
    "Wait until older ones are placed or have expired, or use fewer or smaller ones.",
    owner="platform",
    retryable=True,
)
READS_FULL = Code(
    "SA-2566",
    "reads_full",
    "too many people read what hosts keep",
    "Try again in a while.",
    owner="platform",
    retryable=True,
)
BLOB_DIGEST = Code(
    "SA-2865",
    "blob_digest",
    "what was uploaded is not the file that was signed",
    "Put it again; if the file changes while it is read, put a copy.",
)
