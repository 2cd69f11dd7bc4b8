"""The house's own rules, as far as a machine can read them: `scripts/check house`.

Not a linter of Python (ruff is) and not a test of behaviour. It looks at the files that git knows or would add:

- a lock file names versions and hashes, and no address of where they come from;
- no file names a place of the machine it was written on;
- a module says in its first lines why it is over 400 lines long, and none is over 600.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Modules are about 150 lines, never over 400 without a reason in the first lines. At 600 no reason helps.
LINES_WITHOUT_REASON = 400
LINES_AT_MOST = 600
# The reason stands where a reader of the file begins.
REASON_WITHIN_LINES = 25
REASON = re.compile(r"\blines?\b.*\bbecause\b|\blong because\b|\bone file because\b", re.IGNORECASE)

LOCK_FILES = ("requirements.lock", "requirements-agent.lock")

# A dotted folder inside somebody's home is always particular to a machine; `~/.config/…` is how to write it.
HOME_FOLDER = re.compile(r"/(?:root|home/\w+|Users/\w+)/\.\w+")


def files() -> list[Path]:
    """Every file that git tracks or would add, that is there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in sorted(set(listed.split("\0"))) if name and (path := Path(name)).is_file()]


def places_of_this_machine() -> list[str]:
    """What would betray where this ran: the checkout, its Python's folder and the home."""
    candidates = {str(Path.cwd()), str(Path(sys.executable).parent), str(Path.home())}
    # "/root" or "/src" alone occurs in honest text.
    return sorted(place for place in candidates if place.count("/") >= 2)


def lock_names_no_address(path: Path, text: str) -> Iterator[str]:
    if path.name not in LOCK_FILES:
        return
    for number, line in enumerate(text.splitlines(), 1):
        if "://" in line or line.startswith("-"):
            yield f"{path}:{number}: a lock file holds names, versions and hashes only: {line.strip()}"


def no_place_of_a_machine(path: Path, text: str, places: list[str]) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if HOME_FOLDER.search(line) or any(place in line for place in places):
            yield f"{path}:{number}: names a place of one machine: {line.strip()}"


def module_is_short(path: Path, text: str) -> Iterator[str]:
    if path.suffix != ".py" or "tests" in path.parts:
        return
    lines = text.splitlines()
    if len(lines) > LINES_AT_MOST:
        yield f"{path}: {len(lines)} lines; at most {LINES_AT_MOST}: split it"
    elif len(lines) > LINES_WITHOUT_REASON and not REASON.search(" ".join(lines[:REASON_WITHIN_LINES])):
        yield (
            f"{path}: {len(lines)} lines; over {LINES_WITHOUT_REASON} its first {REASON_WITHIN_LINES} lines say why"
            " ('… long because …'), or better: split it"
        )


def main() -> int:
    places = places_of_this_machine()
    complaints: list[str] = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        complaints += lock_names_no_address(path, text)
        complaints += no_place_of_a_machine(path, text, places)
        complaints += module_is_short(path, text)
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
