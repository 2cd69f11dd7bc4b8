"""Every link between documents leads somewhere: to a file of the checkout, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(str(path.relative_to(CHECKOUT)) for path in (*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")))

_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    document = CHECKOUT / name
    for target, anchor in _LINK.findall(_CODE.sub("", document.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        there = (document.parent / target).resolve() if target else document
        assert there.exists(), f"{name}: {target}"
        assert not anchor or anchor in _anchors(there.read_text(encoding="utf-8")), f"{name}: {target}#{anchor}"
