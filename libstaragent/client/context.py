"""Context: which fleet is meant, who acts on it, and where that operator's key is.

Not here: the key itself (`security.secrets`), and the login that lasts hours (`session`).

Rules: a context holds no secret; it is TOML, and a wrong or unknown key is named with the file; an address is https,
because a bearer token must never travel in clear. Found in this order: the path given, the environment variable
OPSCONSOLE_CONTEXT, ``context.toml`` in the user's configuration folder.
"""

from __future__ import annotations

__all__ = ("CONTEXT_VARIABLE", "Context", "context_path", "load_context", "save_context")

import errno
import json
import os
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from libstaragent import codes
from libstaragent.model import ids
from libstaragent.security.secrets import KeyFile, Keyring, KeyStore

CONTEXT_VARIABLE = "OPSCONSOLE_CONTEXT"
# A CA and five short texts; more is another file.
MAX_CONTEXT_BYTES = 64 * 1024


# More hosts than an envelope lists by name are more than one reads over before pressing return.
CONFIRM_ABOVE = 16


class Context(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a fleet is.

    Attributes:
        api: the address of central's API, ``https://HOST:PORT``.
        fleet: the fleet's fingerprint, SHA-256 of its root's public key in hex.
        ca: the fleet's CA, PEM; no other is believed.
        operator: the name in the roster under which this person signs.
        key_file: where the operator's seed is; empty for the OS keyring.
        confirm_above: on more hosts than this a command line asks for their exact number.
    """

    api: str
    fleet: str
    ca: str
    operator: str
    key_file: str = ""
    confirm_above: int = CONFIRM_ABOVE

    def key_store(self) -> KeyStore:
        """Where the operator's key is kept."""
        return KeyFile(Path(self.key_file)) if self.key_file else Keyring(self.fleet, self.operator)


def context_path(given: Path | None = None) -> Path:
    """The file that says where the fleet is."""
    if given is not None:
        return Path(given)  # a str too, from those who have no type checker
    if os.environ.get(CONTEXT_VARIABLE):
        return Path(os.environ[CONTEXT_VARIABLE])
    import platformdirs  # late: a path that was given needs none

    return platformdirs.user_config_path("opsconsole", appauthor=False) / "context.toml"


def load_context(path: Path | None = None) -> Context:
    """The context in `path`, or in the file that `context_path` finds.

    :raises NotFound: there is none.
    :raises UsageError: it is not a context; the detail names the file and the key.
    :raises DependencyFailed: the OS would not let it be read.
    """
    file = context_path(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_CONTEXT_BYTES + 1)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise codes.CONTEXT_MISSING.error(f"there is no {file}") from None
        raise codes.FILE_REFUSED.error(f"{file}: {error.strerror}", errno=error.errno) from error
    if len(data) > MAX_CONTEXT_BYTES:
        raise codes.CONTEXT_INVALID.error(f"{file} is larger than 64 KiB")
    try:
        context = msgspec.convert(tomllib.loads(data.decode()), Context)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise codes.CONTEXT_INVALID.error(f"{file}: {error}") from error
    _check(context, file)
    return context


def save_context(context: Context, path: Path) -> None:
    """Writes `context`, whole or not at all, over what was there.

    :raises DependencyFailed: the OS refused.
    """
    values = {name: getattr(context, name) for name in context.__struct_fields__}
    # A TOML basic string is a JSON string that leaves all but controls, quote and backslash as they are.
    text = "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text("# Which fleet opsconsole talks to. No secret is in this file.\n" + text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise codes.FILE_REFUSED.error(f"{path}: {error.strerror}", errno=error.errno) from error


def _check(context: Context, file: Path) -> None:
    try:
        address = urlsplit(context.api)
        whole = address.scheme == "https" and bool(address.hostname) and address.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise codes.CONTEXT_INVALID.error(f"{file}: api is not an address such as https://central:7070")
    if not ids.is_fingerprint(context.fleet):
        raise codes.CONTEXT_INVALID.error(f"{file}: fleet is not a fingerprint, 64 hex digits")
    if context.confirm_above < 0:
        raise codes.CONTEXT_INVALID.error(f"{file}: confirm_above is negative")
    if not ids.is_user_name(context.operator):
        raise codes.CONTEXT_INVALID.error(f"{file}: operator is not a name")
