"""Alembic's entry: it is run by the functions of `migrations`, which hand over the connection."""

from alembic import context

from shared import models


def run() -> None:
    connection = context.config.attributes["connection"]
    # SQLite changes a table by copying it, which Alembic calls a batch.
    context.configure(
        connection=connection, target_metadata=models.Dataset.metadata, render_as_batch=True, compare_type=True
    )
    with context.begin_transaction():
        context.run_migrations()


run()
