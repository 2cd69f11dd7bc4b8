"""A seed is kept safely or not at all, in a file or in the keyring."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.chainer
import keyring.backends.fail
import keyring.backends.null
import pytest

from libstaragent import codes
from libstaragent.errors import Conflict, Denied, DependencyFailed, NotFound, ProtocolError
from libstaragent.security.private_file import write_private
from libstaragent.security.secrets import KeyFile, Keyring, KeyStore

SEED = bytes(range(32))
FLEET = "ab" * 32


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A backend that keeps entries in memory; safe by its own word."""

    priority = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password


class ClearKeyring(MemoryKeyring):
    """What keyrings.alt's plain-text file says of itself."""

    priority = 0.5  # type: ignore[assignment]


class LockedKeyring(MemoryKeyring):
    """A keyring whose user pressed Cancel."""

    def get_password(self, service: str, username: str) -> str | None:
        raise RuntimeError("dismissed")


class HalfOpenKeyring(MemoryKeyring):
    """A keyring that reads and does not write."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise RuntimeError("read only")


@pytest.fixture(autouse=True)
def restore_keyring() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


@pytest.fixture(params=["file", "keyring"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    if request.param == "file":
        return KeyFile(tmp_path / "key")
    keyring.set_keyring(MemoryKeyring())
    return Keyring(FLEET, "lin")


def test_a_saved_seed_is_loaded(store: KeyStore) -> None:
    store.save(SEED)
    assert store.load() == SEED


def test_a_seed_is_never_overwritten(store: KeyStore) -> None:
    store.save(SEED)
    with pytest.raises(Conflict) as caught:
        store.save(bytes(32))
    assert caught.value.code is codes.KEY_EXISTS
    assert store.load() == SEED


def test_a_missing_seed_says_so(store: KeyStore) -> None:
    with pytest.raises(NotFound) as caught:
        store.load()
    assert caught.value.code is codes.KEY_MISSING


def test_a_seed_of_wrong_length_is_a_misuse(store: KeyStore) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        store.save(b"short")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"-----BEGIN PRIVATE KEY-----\n",
        b"opsconsole-ed25519-seed-1 AA==",
        b"opsconsole-ed25519-seed-1 !",
    ],
)
def test_a_file_that_holds_something_else_is_malformed(tmp_path: Path, text: bytes) -> None:
    write_private(tmp_path / "key", text)
    with pytest.raises(ProtocolError) as caught:
        KeyFile(tmp_path / "key").load()
    assert caught.value.code is codes.KEY_MALFORMED


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    KeyFile(tmp_path / "key").save(SEED)
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(Denied) as caught:
        KeyFile(tmp_path / "key").load()
    assert caught.value.code is codes.KEY_EXPOSED


def test_the_key_file_does_not_hold_the_bare_seed_and_is_narrow(tmp_path: Path) -> None:
    KeyFile(tmp_path / "key").save(SEED)
    assert (tmp_path / "key").read_bytes().startswith(b"opsconsole-ed25519-seed-1 ")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("backend", [keyring.backends.fail.Keyring, keyring.backends.null.Keyring, ClearKeyring])
def test_without_a_safe_keyring_nothing_is_kept(backend: type[keyring.backend.KeyringBackend]) -> None:
    keyring.set_keyring(backend())
    for act in (Keyring(FLEET, "lin").load, lambda: Keyring(FLEET, "lin").save(SEED)):
        with pytest.raises(DependencyFailed) as caught:
            act()
        assert caught.value.code is codes.KEYRING_ABSENT
        assert "--key-file" in caught.value.code.remedy


def test_of_several_keyrings_the_safe_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    safe, clear = MemoryKeyring(), ClearKeyring()

    class Chain(keyring.backends.chainer.ChainerBackend):
        backends = (clear, safe)  # type: ignore[assignment]

    keyring.set_keyring(Chain())
    Keyring(FLEET, "lin").save(SEED)
    assert len(safe.entries) == 1
    assert clear.entries == {}


@pytest.mark.parametrize("backend", [LockedKeyring, HalfOpenKeyring])
def test_a_keyring_that_refuses_is_a_coded_error(backend: type[keyring.backend.KeyringBackend]) -> None:
    keyring.set_keyring(backend())
    with pytest.raises(DependencyFailed) as caught:
        Keyring(FLEET, "lin").save(SEED)
    assert caught.value.code is codes.KEYRING_FAILED


def test_in_a_process_without_keyring_the_error_names_the_way_out(tmp_path: Path) -> None:
    program = (
        "from libstaragent.errors import StarAgentError\n"
        "from libstaragent.security.secrets import Keyring\n"
        "try:\n    Keyring('ab' * 32, 'lin').save(bytes(32))\n"
        "except StarAgentError as error:\n    print(error, '|', error.code.remedy)\n"
    )
    environment = {**os.environ, "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.startswith("SA-4781")
    assert "--key-file" in done.stdout
    assert os.listdir(tmp_path) == []
