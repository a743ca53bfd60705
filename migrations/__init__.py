"""The database's history. `upgrade` brings a database, new or old, to the newest form; `check` sees that it has it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from shared.errors import NotConfigured


def upgrade(engine: Engine) -> None:
    """Run what is missing, in one transaction."""
    with engine.begin() as connection:
        command.upgrade(config(connection), "head")


def check(engine: Engine) -> None:
    """See that the database has the form that this code knows.

    Raises:
        NotConfigured: it has an older or a newer one, or none.
    """
    with engine.connect() as connection:
        found, newest = _revisions(connection)
    if found != newest:
        state = "empty" if found is None else f"of an earlier Regrow (revision {found}, this one needs {newest})"
        raise NotConfigured(f"The database is {state}. `python -m migrations` or `regrow serve` brings it up to date.")


def config(connection: Connection) -> Config:
    """Alembic's configuration, for a connection that is open already."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    made.attributes["connection"] = connection
    return made


def _revisions(connection: Connection) -> tuple[str | None, str]:
    """That of the database, None if it is empty, and the newest one known. Raises NotConfigured for an unknown one."""
    scripts = ScriptDirectory.from_config(config(connection))
    found, newest = MigrationContext.configure(connection).get_current_revision(), scripts.get_current_head() or ""
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise NotConfigured(
            f"The database is of a newer Regrow: it has revision {found}, and this one knows those up to {newest}. "
            "Install the newer one again, or restore a backup from before the upgrade (docs/operations.md)."
        )
    return found, newest
