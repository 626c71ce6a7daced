"""Alembic's entry: runs the migrations on the connection that `schema.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from archipel.control.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
