"""The control plane's state directory: made before the first start, opened at each.

    ca.pem  ca.key       the fleet's CA
    api.pem  room.pem    key and certificate of the two listeners, each in one file so that they change together
    audit.key            signs what stands for pruned entries of the audit
    names.json           under which names they are reached
    rosters/N.signed     revisions that an operator has signed, to be taken at the next start
    store.db  lock       the store; who runs on this directory

The order of a fleet's birth: `prepare` makes the CA and says its digest, an operator signs the first roster with it,
and the control plane starts with that roster. The keys of root and operators are never here.

Not here: what runs (`all`). Rules: every file of mode 0600 in a directory of mode 0700; a second `prepare` changes only
what has to be: listener certificates for other names, or past two thirds of their life.
"""

from __future__ import annotations

__all__ = (
    "Listeners",
    "State",
    "prepare",
    "read_rosters",
    "take_rosters",
    "waiting_rosters",
)

import fcntl
import hashlib
import os
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from agentd.central.audit import roster_entry
from agentd.central.trust import RosterBook, pack_signed, unpack_signed
from agentd.store.audit import FLEET_KEY
from agentd.store.ops import InsertAudit, InsertRoster, SetMeta
from agentd.store.store import Store
from libstaragent import codes
from libstaragent.security.identity import Credential, certificate_span, create_ca, create_server
from libstaragent.security.private_file import read_private, write_private
from libstaragent.security.roster import Roster, RosterChain, open_roster
from libstaragent.security.rotation import RENEW_AT
from libstaragent.security.signed import MAX_JSON, Signed
from libstaragent.security.signing import SEED_BYTES
from libstaragent.security.tls import trusted_ca

# Where everybody can reach a control plane that was told no name.
LOCAL_NAMES = ("127.0.0.1", "::1", "localhost")
# A chain that was never pruned: some hundred revisions.
MAX_ROSTER_FILE = 64 * MAX_JSON

_rosters = msgspec.json.Decoder(Signed | tuple[Signed, ...])


class State(msgspec.Struct, frozen=True):
    """A prepared directory. `names` are those that were asked for, the local ones left out."""

    directory: Path
    ca: Credential
    names: tuple[str, ...]

    @property
    def ca_sha256(self) -> bytes:
        """What the roster names the CA by."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca.certificate.decode())).digest()

    @property
    def database(self) -> Path:
        """Where the store is."""
        return self.directory / "store.db"

    @property
    def audit_seed(self) -> bytes:
        """The key that signs checkpoints of the audit."""
        return read_private(self.directory / "audit.key")

    @classmethod
    def open(cls, directory: Path) -> State:
        """What `prepare` made.

        :raises NotFound: STATE_MISSING.
        """
        if not (directory / "names.json").exists():
            raise codes.STATE_MISSING.error(str(directory))
        ca = Credential(read_private(directory / "ca.key"), read_private(directory / "ca.pem"))
        try:
            names = msgspec.json.decode(read_private(directory / "names.json"), type=tuple[str, ...])
        except msgspec.MsgspecError as error:
            raise codes.STATE_UNREADABLE.error(f"{directory / 'names.json'}: {error}") from error
        return cls(directory, ca, names)

    def lock(self) -> int:
        """Be the only one on this directory; the descriptor holds the lock until it is closed.

        :raises Conflict: STATE_IN_USE.
        """
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise codes.STATE_IN_USE.error(str(self.directory), errno=error.errno) from error
        return descriptor


class Listeners:
    """The certificates of the two listeners, and their renewal."""

    def __init__(self, state: State) -> None:
        self._state = state

    def path(self, listener: str) -> Path:
        """Key and certificate of ``api`` or ``room``."""
        return self._state.directory / f"{listener}.pem"

    def renew(self, listener: str, now_ms: int, *, anyway: bool = False) -> bool:
        """Make it new if it is missing, past two thirds of its life, or `anyway`; whether it was made."""
        path = self.path(listener)
        if path.exists() and not anyway:
            begin, end = certificate_span(_certificate_of(read_private(path)))
            if now_ms < begin + (end - begin) * RENEW_AT:
                return False
        made = create_server(self._state.ca, names=_all_names(self._state.names), now_ms=now_ms)
        write_private(path, made.key + made.certificate, overwrite=True)
        return True


def prepare(directory: Path, *, advertise: Iterable[str] = (), fleet: str = "", now_ms: int) -> State:
    """Make the directory ready, or look after it if it is.

    :param advertise: names and addresses under which hosts and operators reach this machine.
    :param fleet: the fleet's fingerprint, for the CA's own name; it proves nothing.
    :raises StarAgentError: a file cannot be read or written.
    """
    names = tuple(dict.fromkeys(name for name in advertise if name and name not in LOCAL_NAMES))
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "rosters").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise codes.STATE_UNREADABLE.error(f"{directory}: {error.strerror}", errno=error.errno) from error
    if not (directory / "ca.pem").exists():
        ca = create_ca(fleet=fleet, now_ms=now_ms)
        # The certificate last: it is what says that the CA is there.
        write_private(directory / "ca.key", ca.key, overwrite=True)
        write_private(directory / "ca.pem", ca.certificate)
    if not (directory / "audit.key").exists():
        write_private(directory / "audit.key", os.urandom(SEED_BYTES))
    before: tuple[str, ...] | None = None
    if (directory / "names.json").exists():
        before = State.open(directory).names
        names = names or before
    if names != before:
        write_private(directory / "names.json", msgspec.json.encode(names), overwrite=True)
    state = State.open(directory)
    listeners = Listeners(state)
    for listener in ("api", "room"):
        listeners.renew(listener, now_ms, anyway=before is not None and names != before)
    Store.open(state.database).close()
    return state


def read_rosters(files: Iterable[Path]) -> list[Signed]:
    """The revisions in these files, each the JSON of one `Signed` or of a list of them.

    :raises DependencyFailed: STATE_UNREADABLE.
    """
    found: list[Signed] = []
    for path in files:
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_ROSTER_FILE + 1)
        except OSError as error:
            raise codes.STATE_UNREADABLE.error(f"{path}: {error.strerror}", errno=error.errno) from error
        if len(data) > MAX_ROSTER_FILE:
            raise codes.SIGNED_TOO_LARGE.error(str(path))
        try:
            value = _rosters.decode(data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise codes.SIGNED_MALFORMED.error(f"{path}: {error}") from error
        found.extend((value,) if isinstance(value, Signed) else value)
    return found


def waiting_rosters(directory: Path) -> list[Path]:
    """The files in ``rosters``, by revision."""
    found = [path for path in (directory / "rosters").glob("*.signed") if path.stem.isdigit()]
    return sorted(found, key=lambda path: int(path.stem))


def take_rosters(state: State, store: Store, given: Sequence[Signed], *, now_ms: int) -> RosterBook:
    """The fleet's roster chain: what the store has, and of `given` what follows it.

    The first start pins the root that the first revision names: the operator who starts it has put it there.

    :raises StarAgentError: there is none, it does not follow, or it does not name this CA.
    """
    stored = [unpack_signed(data) for _, data in store.read.rosters()]
    pin = store.read.meta(FLEET_KEY)
    offered = [(open_roster(signed), signed) for signed in given]
    if stored and pin is not None:
        chain = RosterChain.restored(pin.decode(), stored[-1])
    elif offered:
        chain = RosterChain(offered[0][0].fleet)
    else:
        raise codes.STATE_MISSING.error(f"no roster in {state.directory / 'rosters'} and none given")
    held = 0 if chain.newest is None else chain.newest.revision
    if any(roster.fleet != chain.fleet for roster, _ in offered):
        raise codes.ROSTER_OTHER_FLEET.error()
    fresh: list[tuple[Roster, Signed]] = [(roster, signed) for roster, signed in offered if roster.revision > held]
    if fresh:
        chain.accept_all([signed for _, signed in fresh], now_ms)
    assert chain.newest is not None
    trusted_ca(state.ca.certificate.decode(), chain.newest)
    if fresh:
        rows = [InsertRoster(roster.revision, pack_signed(signed)) for roster, signed in fresh]
        audited = [InsertAudit(roster_entry(roster, signed, source="state"), now_ms) for roster, signed in fresh]
        store.submit([SetMeta(FLEET_KEY, chain.fleet.encode()), *rows, *audited]).result()
    return RosterBook([*stored, *(signed for _, signed in fresh)], now_ms=now_ms)


def _all_names(names: Sequence[str]) -> tuple[str, ...]:
    return (*LOCAL_NAMES, *names)


def _certificate_of(pem: bytes) -> bytes:
    return pem[pem.index(b"-----BEGIN CERTIFICATE-----") :]
