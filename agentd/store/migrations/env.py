"""Alembic's entry: run the steps on the connection that `agentd.store.migrate` hands over, within its transaction."""

from __future__ import annotations

from alembic import context

from agentd.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
