"""Error codes of the channel: connections, identities, envelopes, rosters (SA-4???), in the order of their numbers.

What a code is: `libstaragent.errors`.
"""

from __future__ import annotations

from libstaragent.errors import Code

TOKEN_TERMS = Code(
    "SA-4070",
    "token_terms",
    "a token cannot have these terms",
    "The detail names the one that is out of bounds.",
)
KEY_MISSING = Code(
    "SA-4180",
    "key_missing",
    "there is no such key or token file",
    "Check the name and the path; `opsconsole up` makes the first operator's key, `opsconsole token` prints a token.",
)
REPLACED = Code(
    "SA-4201",
    "replaced",
    "a newer connection of the same agent took over",
    "Nothing to do after a reconnect; if it goes on, two hosts run with one identity: enrol one of them again.",
    owner="host owner",
)
MEMBERSHIP_DUPLICATE = Code(
    "SA-4220",
    "membership_duplicate",
    "one host stands twice in the list of targets",
    "Resolve the targets again; if it stays, two hosts share an id.",
)
ROSTER_OLD = Code(
    "SA-4240",
    "roster_old",
    "a newer roster is known already",
    "Fetch the newest roster and sign the next revision on top of it.",
    scope="fleet",
)
KEY_EXISTS = Code(
    "SA-4280",
    "key_exists",
    "there is a key already and it is not overwritten",
    "Move the old key away first, or choose another name.",
)
HOST_QUARANTINED = Code(
    "SA-4285",
    "host_quarantined",
    "two machines have this host's identity; it gets no job until one of them is chosen",
    "See both with `opsconsole hosts --json`, then `opsconsole hosts resolve NAME --keep NONCE`; the other joins anew.",
    owner="host owner",
)
IDENTITY_MISMATCH = Code(
    "SA-4301",
    "identity_mismatch",
    "the agent says it is another than its certificate says",
    "Enrol the host again with `agentd join`.",
    owner="host owner",
)
WRONG_ROOM = Code(
    "SA-4302",
    "wrong_room",
    "the agent's certificate is for another room",
    "Point the agent at its own room, or enrol it here with `agentd join`.",
    owner="host owner",
)
ENVELOPE_CLOCK_SKEW = Code(
    "SA-4320",
    "clock_skew",
    "the host's clock and the operator's are more than 30 s apart",
    "Mend the clock that is wrong; until then reach the host with an envelope bound to its boot nonce.",
    owner="host owner",
)
ENVELOPE_NOT_YET = Code(
    "SA-4321",
    "envelope_not_yet",
    "the envelope may not start yet",
    "Wait for its not-before; compare the clocks of operator and host if that has passed.",
    retryable=True,
)
ENVELOPE_WRONG_BOOT = Code(
    "SA-4322",
    "envelope_wrong_boot",
    "the envelope is bound to another boot of an agent",
    "Read the host's present boot nonce and sign again.",
)
ENVELOPE_NOT_MEMBER = Code(
    "SA-4323",
    "envelope_not_member",
    "the envelope was not signed for this host",
    "Sign again with the present list of hosts; if central sent it to a wrong host, look at central.",
)
ENVELOPE_EXPRESSION = Code(
    "SA-4324",
    "envelope_expression",
    "the host does not match the signed target expression by what it knows of itself",
    "Compare the host's name, room and facts with the expression.",
)
ENVELOPE_OTHER_FLEET = Code(
    "SA-4325",
    "envelope_other_fleet",
    "the envelope is for another fleet",
    "Check which fleet this console is logged in to.",
)
SIGNER_UNKNOWN = Code(
    "SA-4326",
    "signer_unknown",
    "the signer is no operator of this fleet",
    "Ask an admin to put the key into the roster; check that name and key belong together.",
)
SIGNER_ROLE = Code(
    "SA-4327",
    "signer_role",
    "the operator's roles do not allow this kind of act",
    "Ask an admin for the role, or let one who has it sign.",
)
ENVELOPE_NOT_FOR_HOSTS = Code(
    "SA-4328",
    "envelope_not_for_hosts",
    "an act towards central was sent to a host",
    "Look at central: it should have done this itself.",
    owner="platform",
)
ROSTER_SIGNER = Code(
    "SA-4340",
    "roster_signer",
    "the roster's signer may not sign it",
    "Let the root, or an admin of the revision before, sign it.",
    scope="fleet",
)
ROSTER_EXPIRED = Code(
    "SA-4341",
    "roster_expired",
    "the roster's validity has ended",
    "Sign it anew with the root's key: `opsconsole policy renew --root-key-file FILE`. If that was done, look why it "
    "did not arrive.",
    scope="fleet",
)
ROSTER_BEHIND = Code(
    "SA-4342",
    "roster_behind",
    "the envelope was signed under a newer roster than this one",
    "Carry the newer roster here first, then send the envelope again.",
    retryable=True,
)
PEER_IDENTITY = Code(
    "SA-4360",
    "peer_identity",
    "the peer's certificate names no agent",
    "Join the host again; only certificates that central made for an agent are taken.",
)
CA_NOT_IN_ROSTER = Code(
    "SA-4361",
    "ca_not_in_roster",
    "the certificate authority is not one that the roster names",
    "Compare the pin; if it is right, ask an admin whether the fleet's CA was changed.",
    scope="fleet",
)
TOKEN_UNKNOWN = Code(
    "SA-4370",
    "token_unknown",
    "the token is wrong or was never issued",
    "Paste it whole; if it still fails, issue a new one.",
)
TOKEN_USED_UP = Code(
    "SA-4371",
    "token_used_up",
    "the token has no uses left",
    "Issue a new one with enough uses.",
)
TOKEN_SCOPE = Code(
    "SA-4372",
    "token_scope",
    "the token is not for this host",
    "The detail says what differs: room, name or network. Issue one for this host.",
)
LOGIN_REFUSED = Code(
    "SA-4373",
    "login_refused",
    "the login's challenge was not answered by an operator of this fleet",
    "Name and key must be the roster's: an admin adds what `opsconsole operator key NAME` prints. Else ask anew.",
)
BEARER_UNKNOWN = Code(
    "SA-4374",
    "bearer_unknown",
    "the bearer token is wrong, or its operator is no longer in the roster",
    "Run `opsconsole login` again.",
)
KEY_EXPOSED = Code(
    "SA-4380",
    "key_exposed",
    "the file of a key or token can be read or changed by others, or belongs to another user",
    "Run `chmod 600` on it as its owner, and consider whether the secret has been seen.",
)
IDENTITY_SUPERSEDED = Code(
    "SA-4385",
    "identity_superseded",
    "this identity is another machine's since an operator chose it",
    "Join this machine anew, under a name of its own: `agentd join … --anew`.",
    owner="host owner",
)
HOST_REPLACED = Code(
    "SA-4386",
    "host_replaced",
    "the host joined anew under this name, and this is its old identity",
    "Nothing to do on the host that joined; if this is another machine, join it under a name of its own.",
    owner="host owner",
)
PEER_SILENT = Code(
    "SA-4401",
    "peer_silent",
    "the other side said nothing for three heartbeats",
    "The connection was closed; the agent reconnects by itself.",
    owner="platform",
    retryable=True,
)
ENVELOPE_EXPIRED = Code(
    "SA-4420",
    "envelope_expired",
    "the envelope's time has passed",
    "Sign the act again.",
)
TOKEN_EXPIRED = Code(
    "SA-4470",
    "token_expired",
    "the token's time has passed",
    "Issue a new one.",
)
LOGIN_EXPIRED = Code(
    "SA-4471",
    "login_expired",
    "the login's time has passed",
    "Run `opsconsole login` again.",
)
FRAME_TOO_LARGE = Code(
    "SA-4501",
    "frame_too_large",
    "a frame is larger than the protocol allows",
    "The other side is not an opsconsole of this version, or is hostile; the connection was closed.",
    owner="platform",
)
STREAM_OVERRUN = Code(
    "SA-4502",
    "stream_overrun",
    "the other side sent more than it was granted",
    "The connection was closed; the agent reconnects by itself.",
    owner="platform",
)
PEER_SLOW = Code(
    "SA-4503",
    "peer_slow",
    "the other side does not read what is sent to it",
    "The connection was closed; what was not acknowledged is sent again on the next one.",
    owner="platform",
    retryable=True,
)
VERSION_MISMATCH = Code(
    "SA-4601",
    "version_mismatch",
    "the two sides speak no common version of the protocol",
    "Upgrade the older side; both versions stand in the detail.",
    owner="platform",
)
FRAME_MALFORMED = Code(
    "SA-4602",
    "frame_malformed",
    "bytes arrived that are not a frame of this protocol",
    "The connection was closed; check what else connects to this port.",
    owner="platform",
)
MESSAGE_MALFORMED = Code(
    "SA-4603",
    "message_malformed",
    "a message cannot be read",
    "The connection was closed; the other side is not an opsconsole of this version, or is hostile.",
    owner="platform",
)
MESSAGE_UNEXPECTED = Code(
    "SA-4604",
    "message_unexpected",
    "a message came that has no place at this point of the conversation",
    "The connection was closed; the other side is not an opsconsole of this version, or is hostile.",
    owner="platform",
)
SIGNED_TOO_LARGE = Code(
    "SA-4620",
    "signed_too_large",
    "the signed bytes are larger than one frame takes",
    "Move data into a file and distribute it.",
)
SIGNED_MALFORMED = Code(
    "SA-4621",
    "signed_malformed",
    "the signed bytes cannot be read",
    "Compare the versions of console, central and agent.",
)
ENVELOPE_FIELD = Code(
    "SA-4622",
    "envelope_field",
    "a field of the envelope is out of its bounds",
    "The detail names the field; see the limits in docs/protocol.md.",
)
ROSTER_FIELD = Code(
    "SA-4640",
    "roster_field",
    "a field of the roster is out of its bounds",
    "The detail names the field.",
    scope="fleet",
)
CSR_REFUSED = Code(
    "SA-4660",
    "csr_refused",
    "the certificate request cannot be signed",
    "Let `agentd join` make it: a P-256 key and a request signed by it.",
)
IDENTITY_UNREADABLE = Code(
    "SA-4661",
    "identity_unreadable",
    "a key or certificate file cannot be read",
    "It must be the PEM file that was written here; make a new one if it is damaged.",
)
KEY_MALFORMED = Code(
    "SA-4680",
    "key_malformed",
    "this is not an operator's key",
    "The key file must be one that opsconsole wrote.",
)
CONNECTION_LOST = Code(
    "SA-4701",
    "connection_lost",
    "the connection between agent and room ended without a word",
    "The agent reconnects by itself; if it goes on, look at the network between them.",
    owner="platform",
    retryable=True,
)
ROOM_UNREACHED = Code(
    "SA-4702",
    "room_unreached",
    "the agent cannot reach its room",
    "The agent tries again by itself; if it goes on, check that the control plane runs and the network between them.",
    owner="host owner",
    retryable=True,
)
KEY_FILE_FAILED = Code(
    "SA-4780",
    "key_file_failed",
    "the key file cannot be read or written",
    "The errno says why.",
)
KEYRING_ABSENT = Code(
    "SA-4781",
    "keyring_absent",
    "there is no safe keyring on this system",
    "Give a file with `--key-file PATH`; it is written with mode 0600.",
)
KEYRING_FAILED = Code(
    "SA-4782",
    "keyring_failed",
    "the keyring refused",
    "Unlock it and try again, or give a file with `--key-file PATH`.",
    retryable=True,
)
CERTIFICATE_REFUSED = Code(
    "SA-4801",
    "certificate_refused",
    "agent and room do not take each other's certificates: they are not of one fleet",
    "Compare the agent's room address with the fleet that it joined; if both are right, somebody is in between.",
    owner="host owner",
)
SIGNATURE_INVALID = Code(
    "SA-4820",
    "signature_invalid",
    "the signature does not hold",
    "Nothing was done. Something between signer and reader changed the bytes: find out what.",
)
SIGNED_NOT_CANONICAL = Code(
    "SA-4821",
    "signed_not_canonical",
    "the signed bytes are not in canonical form",
    "Sign with `opsconsole sign` or the library.",
)
ROSTER_OTHER_FLEET = Code(
    "SA-4840",
    "roster_other_fleet",
    "the roster's root is not the pinned one",
    "Compare the fingerprint with the one that `opsconsole up` printed; if they differ, this is another control plane.",
    scope="fleet",
)
ROSTER_CHAIN = Code(
    "SA-4841",
    "roster_chain",
    "the roster does not follow the one that is known",
    "Fetch the revisions in between; two different revisions of one number mean that a key was misused.",
    scope="fleet",
)
