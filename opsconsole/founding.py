"""The birth of a fleet: root key, first operator, first roster. Done once; a second time finds what is there.

    root seed ──▶ fleet fingerprint          kept in the keyring as "fleet root", or in --root-key-file
    operator's seed                          kept in the keyring under the operator's name, or in --key-file
    CA digest ──▶ roster revision 1, signed by the root ──▶ STATE/rosters/1.signed

Not here: the CA and the processes (`control_plane`). Rules: a key is on safe ground before anything that needs it is
written, so that a founding that was cut off is finished by the next; the control plane never gets a key.
"""

from __future__ import annotations

__all__ = ("Founding", "fleet_in", "found_fleet", "roster_file", "sign_first_roster")

import os
import time
from pathlib import Path

import msgspec

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.model.ids import is_user_name
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.private_file import read_private, write_private
from libstaragent.security.roster import Operator, Roster, open_roster, sign_roster
from libstaragent.security.secrets import KeyFile, Keyring
from libstaragent.security.signed import signed_from_json, signed_to_json
from libstaragent.security.signing import SEED_BYTES, fingerprint, public_key

# A year, and the weeks in which somebody notices; `roster.MAX_VALIDITY_MS` is 400 days.
ROSTER_LIFE_MS = 395 * 24 * 3_600_000
ROOT_ENTRY = "fleet root"


class Founding(msgspec.Struct, frozen=True):
    """What is to be signed into the first roster: the two keys, and the first operator's name."""

    fleet: str
    operator: str
    root_seed: bytes
    operator_key: bytes


def roster_file(state: Path) -> Path:
    """Where the first revision waits for the control plane."""
    return state / "rosters" / "1.signed"


def fleet_in(state: Path) -> str | None:
    """The fingerprint of the fleet in a state directory; None before it was founded.

    :raises IntegrityError: the roster there is damaged.
    """
    try:
        return open_roster(signed_from_json(read_private(roster_file(state)))).fleet
    except StarAgentError as error:
        if error.code is codes.KEY_MISSING:
            return None
        raise


def found_fleet(*, operator: str, key_file: Path | None, root_key_file: Path | None) -> Founding:
    """Makes and keeps both keys; those in files that are there already are used.

    :raises UsageError: the operator's name is none.
    :raises DependencyFailed: there is no safe keyring and no file was named.
    """
    if not is_user_name(operator):
        raise codes.COMMAND_LINE.error(f"--operator {operator!r} is not a name")
    root_seed = _file_seed(root_key_file) if root_key_file is not None else os.urandom(SEED_BYTES)
    fleet = fingerprint(public_key(root_seed))
    if root_key_file is None:
        try:
            Keyring(fleet, ROOT_ENTRY).save(root_seed)
        except StarAgentError as error:
            if error.code is not codes.KEYRING_ABSENT:
                raise
            raise codes.KEYRING_ABSENT.error(
                f"for the root's key give --root-key-file PATH as well; {error.detail}"
            ) from error
    if key_file is not None:
        operator_seed = _file_seed(key_file)
    else:
        operator_seed = os.urandom(SEED_BYTES)
        Keyring(fleet, operator).save(operator_seed)
    return Founding(fleet, operator, root_seed, public_key(operator_seed))


def sign_first_roster(founding: Founding, *, state: Path, ca_sha256: bytes) -> None:
    """Writes revision 1: the CA, the first operator with every role, and the rule that lets it act.

    :raises StarAgentError: the file cannot be written.
    """
    now_ms = time.time_ns() // 1_000_000
    roster = Roster(
        root=public_key(founding.root_seed),
        revision=1,
        previous=b"",
        issued=now_ms,
        valid_until=now_ms + ROSTER_LIFE_MS,
        ca=(ca_sha256,),
        operators=(Operator(founding.operator, founding.operator_key, ("admin", "operator", "read")),),
        rules=(FOUNDERS,),
    )
    write_private(roster_file(state), signed_to_json(sign_roster(roster, founding.root_seed)))


def _file_seed(path: Path) -> bytes:
    """The seed in `path`, made if there is none."""
    store = KeyFile(path)
    try:
        return store.load()
    except StarAgentError as error:
        if error.code is not codes.KEY_MISSING:
            raise
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise codes.KEY_FILE_FAILED.error(f"{path.parent}: {error.strerror}", errno=error.errno) from error
    store.save(os.urandom(SEED_BYTES))
    return store.load()
