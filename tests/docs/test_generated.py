"""`scripts/docs --check` knows a stale document from a current one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def documents() -> ModuleType:
    """scripts/documents.py, which is no module of the project's."""
    spec = importlib.util.spec_from_file_location("documents", CHECKOUT / "scripts" / "documents.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_made_document_is_current() -> None:
    command = [sys.executable, str(CHECKOUT / "scripts" / "documents.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_changed_table_is_seen_and_the_text_around_it_is_kept(documents: ModuleType) -> None:
    text = "before\n<!-- made: keeper -->\nold\n<!-- end -->\nafter\n"
    written = documents.current("docs/any.md", text)
    assert written != text
    assert written.startswith("before\n<!-- made: keeper -->\n| state | event | then |\n|---|---|---|\n")
    assert written.endswith("<!-- end -->\nafter\n")
    assert documents.current("docs/any.md", written) == written


def test_a_marker_that_names_nothing_is_an_error(documents: ModuleType) -> None:
    with pytest.raises(KeyError):
        documents.current("docs/any.md", "<!-- made: nothing -->\n<!-- end -->\n")


def test_every_part_is_used_by_a_document(documents: ModuleType) -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in CHECKOUT.glob("docs/*.md"))
    assert [name for name in documents.PARTS if f"<!-- made: {name} -->" not in text] == []
