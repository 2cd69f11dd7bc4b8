"""What `scripts/docs` makes of a document. That all are current is `scripts/check docs`."""

from __future__ import annotations

import importlib.util
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


def test_check_ends_with_zero_only_when_nothing_is_stale(
    documents: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    assert documents.main(["--check"], tmp_path) == 1
    assert "docs/errors.md is stale" in capsys.readouterr().out
    assert documents.main([], tmp_path) == 0
    assert documents.main(["--check"], tmp_path) == 0
    (tmp_path / "docs" / "errors.md").write_text("edited by hand", encoding="utf-8")
    assert documents.main(["--check"], tmp_path) == 1
