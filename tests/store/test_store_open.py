"""Opening: migrations, what is refused, and who may read the file."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Table, create_engine
from sqlalchemy.dialects import postgresql

import agentd.store.migrate
from agentd.store import Store, ops
from agentd.store.migrate import HEAD, REVISIONS
from agentd.store.schema import metadata
from agentd.store.statements import LADDER, BulkInsert
from libstaragent import codes
from libstaragent.errors import StarAgentError


def test_the_migrations_make_just_the_tables_of_the_schema(store: Store, path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        made = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'table'").all()
    engine.dispose()
    without = {name for name, sql in made if "WITHOUT ROWID" in sql}
    assert without == {
        name for name, table in metadata.tables.items() if table.dialect_options["sqlite"]["with_rowid"] is False
    }


def test_the_list_of_revisions_is_that_of_the_files() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(agentd.store.migrate.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "newline")
    steps = ScriptDirectory.from_config(config)
    assert tuple(step.revision for step in reversed(list(steps.walk_revisions()))) == REVISIONS
    assert steps.get_current_head() == HEAD


def test_the_largest_statement_fits_what_sqlite_takes() -> None:
    widest = max(len(table.columns) for table in metadata.tables.values())
    connection = sqlite3.connect(":memory:")
    assert widest * LADDER[0] <= connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    connection.close()


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_bulk_inserts_are_said_to_postgresql_with_a_place_for_each_value(table: Table) -> None:
    bulk = BulkInsert(postgresql.dialect(paramstyle="format"), table)
    for size, statement in bulk._whole_shapes.items():
        assert statement.startswith(f"INSERT INTO {table.name} (")
        assert statement.count("%s") == size * len(table.columns)
        assert statement.endswith(") ON CONFLICT DO NOTHING")


def test_a_new_store_is_its_owners_alone_and_durable(store: Store, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    store.submit([ops.SetMeta("a", b"1")]).result(20)
    for beside in path.parent.iterdir():
        assert beside.stat().st_mode & 0o077 == 0, beside
    with store.read._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_processes_that_open_a_new_store_at_once_all_find_it_made(path: Path) -> None:
    script = (
        "import sys; from agentd.store import Store; from agentd.store.ops import SetMeta\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "with Store.open(sys.argv[1]) as store: store.submit([SetMeta(sys.argv[2], b'1')]).result(20)\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), f"child{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for number in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=30)
    assert [child.returncode for child in children] == [0] * 4
    with Store.open(path) as store:
        assert [store.read.meta(f"child{number}") for number in range(4)] == [b"1"] * 4


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    Store.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StarAgentError) as raised:
        Store.open(path)
    assert raised.value.code is codes.STORE_NEWER
    assert "9999" in raised.value.detail
    assert path.read_bytes() == before


def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"this is no database\n" * 1000)
    with pytest.raises(StarAgentError) as raised:
        Store.open(path)
    assert raised.value.code is codes.STORE_DAMAGED
    assert path.read_bytes() == b"this is no database\n" * 1000


def test_a_damaged_page_is_told_when_it_is_read(path: Path, job, target) -> None:
    with Store.open(path) as store:
        store.submit([job("J1"), *(target("J1", f"A{number:04d}") for number in range(2000))]).result(20)
    image = bytearray(path.read_bytes())
    assert b"A1000" in image
    page = image.index(b"A1000") // 8192 * 8192
    image[page : page + 8192] = b"\x5a" * 8192
    path.write_bytes(image)
    with Store.open(path) as store:
        with pytest.raises(StarAgentError) as raised:
            store.read.targets("J1", limit=2000)
        assert raised.value.code is codes.STORE_DAMAGED


def test_a_folder_that_is_not_there_is_told_with_its_errno(tmp_path: Path) -> None:
    with pytest.raises(StarAgentError) as raised:
        Store.open(tmp_path / "missing" / "store.db")
    assert raised.value.code is codes.STORE_FAILED
    assert raised.value.errno == errno.ENOENT
