"""The context file: written, read back, and refused with the key that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from libstaragent import codes
from libstaragent.client.context import CONTEXT_VARIABLE, Context, context_path, load_context, save_context
from libstaragent.errors import StarAgentError

CONTEXT = Context(
    api="https://central:7443", fleet="a" * 64, ca="-----BEGIN\nx\n", operator="ada", key_file="/k é\"'\\"
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_context(CONTEXT, tmp_path / "new" / "context.toml")
    assert load_context(tmp_path / "new" / "context.toml") == CONTEXT
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "context.toml"]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('api = "http://central:7443"', "api"),
        ('api = "https://"', "api"),
        ('api = "https://central:99999999"', "api"),
        ('fleet = "abc"', "fleet"),
        ('operator = "a b"', "operator"),
        ("operator = 3", "operator"),
        ('operater = "ada"', "operater"),
        ("operator = ", "Invalid value"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, line: str, named: str) -> None:
    file = tmp_path / "context.toml"
    save_context(CONTEXT, file)
    key = line.split(" ")[0]
    kept = [text for text in file.read_text().splitlines() if not text.startswith(f"{key} ")]
    file.write_text("\n".join([*kept, line]))
    with pytest.raises(StarAgentError) as refused:
        load_context(file)
    assert refused.value.code is codes.CONTEXT_INVALID
    assert str(file) in refused.value.detail and named in refused.value.detail


def test_no_file_is_no_context(tmp_path: Path) -> None:
    with pytest.raises(StarAgentError) as refused:
        load_context(tmp_path / "none.toml")
    assert refused.value.code is codes.CONTEXT_MISSING


def test_a_folder_is_refused_with_its_errno(tmp_path: Path) -> None:
    with pytest.raises(StarAgentError) as refused:
        load_context(tmp_path)
    assert (refused.value.code, refused.value.errno) == (codes.FILE_REFUSED, 21)


def test_the_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CONTEXT_VARIABLE, str(tmp_path / "environment"))
    assert context_path() == tmp_path / "environment"
    assert context_path(tmp_path / "option") == tmp_path / "option"
    monkeypatch.delenv(CONTEXT_VARIABLE)
    assert context_path().name == "context.toml"
