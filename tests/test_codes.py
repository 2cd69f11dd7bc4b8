"""Each code of the catalogue is raised somewhere and provoked somewhere.

A textual check, so that it costs nothing: a test that provokes a code names it (by its name in `libstaragent.codes`,
its symbol or its number) in a line that asserts, or in the table or call that such a line reads.
"""

from __future__ import annotations

import re
from pathlib import Path

from libstaragent import codes

HERE = Path(__file__).parent
PRODUCT = [
    path
    for package in ("libstaragent", "agentd", "opsconsole")
    for path in (HERE.parent / package).rglob("*.py")
    if path.parent.name != "codes"
]


def words_of(paths: list[Path]) -> set[str]:
    """What may be the name, symbol or number of a code."""
    return {
        word
        for path in paths
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith(("#", "import ", "from "))
        for word in re.findall(r"SA-[0-9A-C][0-9]{3}|[A-Za-z_][A-Za-z0-9_]*", line)
    }


def missing_in(paths: list[Path]) -> list[str]:
    words = words_of(paths)
    return [
        f"{number} {code.symbol}"
        for number, code in codes.catalogue().items()
        if not {number, name_of(code), code.symbol} & words
    ]


def name_of(code: object) -> str:
    """The name under which `libstaragent.codes` has it."""
    (name,) = {
        name
        for module in (HERE.parent / "libstaragent" / "codes").glob("*.py")
        for name in re.findall(r"^([A-Z][A-Z0-9_]+) = Code\(", module.read_text(encoding="utf-8"), re.MULTILINE)
        if getattr(codes, name) is code
    }
    return name


def test_every_code_is_raised_by_something() -> None:
    assert missing_in(PRODUCT) == []


def test_every_code_is_provoked_by_a_test() -> None:
    tests = [path for path in HERE.rglob("*.py") if path != Path(__file__)]
    assert missing_in(tests) == []
