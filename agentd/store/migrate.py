"""Bringing the database to this version's tables, and refusing one that is newer than we are.

Not here: the steps themselves, which are alembic's and lie in `migrations/versions`. Rules: the steps run in one
transaction of the connection that writes, so two processes that open a new store do not meet in the middle; alembic,
slow to import, is loaded only when there is something to do; a downgrade is a restore from a backup, never SQL.
"""

from __future__ import annotations

__all__ = ("HEAD", "migrate")

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from libstaragent import codes

# Every revision there has been, oldest first. A test holds it against the files.
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
HEAD = REVISIONS[-1]

_STEPS = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Bring the tables to HEAD, within the transaction of `connection`.

    :raises ProtocolError: STORE_NEWER, a later version of opsconsole has migrated it already.
    """
    current = None
    if inspect(connection).has_table("alembic_version"):
        current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if current == HEAD:
        return
    if current is not None and current not in REVISIONS:
        raise codes.STORE_NEWER.error(f"it is at {current}, this version knows up to {HEAD}")

    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_STEPS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
