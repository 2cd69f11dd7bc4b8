"""Every command and program in the documents does what the document says, on a real fleet.

The fleet is the one that README.md starts, with three more hosts, as the guides suppose. Not here: that generated
documents are current (`test_generated`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import Command, blocks_of, commands_of, says
from tests.docs.reader import Reader

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    str(path.relative_to(CHECKOUT))
    for path in (*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"))
    if any(block.language in ("console", "python") for block in blocks_of(path.read_text(encoding="utf-8")))
)
MORE_HOSTS = ("web02", "web03", "db01")
# Blocks of `sh` hold commands that are tested elsewhere: scripts/demo by tests/cli, scripts/test is what runs this.
RUN_ELSEWHERE = ("scripts/demo", "scripts/test")
_STARTING = ("opsconsole up", "agentd join", "agentd agent")


def _is_starting(command: Command) -> bool:
    return command.text.startswith(_STARTING)


def _follow(reader: Reader, command: Command) -> None:
    """Type a command and compare with what the document says of it."""
    if "curl " in command.text and shutil.which("curl") is None:
        pytest.skip("no curl on this machine: what comes after it in this document is not tried")
    status, output = reader.types(command.text)
    assert status == command.status, f"$ {command.text}\n{output}"
    for shown in command.output:
        assert not shown.strip() or says(output, reader.knows(output, shown)), f"$ {command.text}\n{output}\n≠ {shown}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader of README.md who has started the fleet and joined a host as it says, and three more."""
    reader = Reader(tmp_path_factory.mktemp("reader"))
    try:
        readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
        for block in blocks_of(readme):
            for command in commands_of(block) if block.language == "console" else ():
                if _is_starting(command):
                    _follow(reader, command)
        for name in MORE_HOSTS:
            assert reader.types(f"agentd join 127.0.0.1:7443 --pin FINGERPRINT --name {name}")[0] == 0
            reader.types("agentd agent")
        yield reader
    finally:
        reader.close()


# Some thirty commands a document, each a process that signs and waits for hosts; a loaded machine needs a minute.
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_document_says_happens(reader: Reader, name: str) -> None:
    ran = 0
    for block in blocks_of((CHECKOUT / name).read_text(encoding="utf-8")):
        if block.language == "console":
            for command in commands_of(block):
                if not _is_starting(command):
                    _follow(reader, command)
                    ran += 1
        elif block.language == "python":
            done = reader.runs(block.text)
            assert done.returncode == 0, f"{name}:{block.line}\n{done.stdout}{done.stderr}"
            ran += 1
    assert ran


@pytest.mark.parametrize("name", sorted({"README.md", *DOCUMENTS}))
def test_no_document_has_a_shell_block_that_nothing_runs(name: str) -> None:
    for block in blocks_of((CHECKOUT / name).read_text(encoding="utf-8")):
        if block.language in ("sh", "bash", "shell"):
            assert all(line.startswith(RUN_ELSEWHERE) for line in block.text.splitlines()), block
