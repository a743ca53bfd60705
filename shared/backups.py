"""Copies of the database, made while it is in use: whole, of one moment, and readable before they have their name."""

import os
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, make_url

from shared.errors import NotConfigured

KEPT = 3
"""So many of the copies that were made before a migration stay."""


def make(database: str, to: Path) -> None:
    """Copy the database at the URL `database` to the file `to`, which is an SQLite database, or what pg_restore takes.

    Raises:
        NotConfigured: `to` is there already or cannot be written, the database is not there, or pg_dump is missing or
            refuses.
    """
    url = make_url(database)
    if to.exists():
        raise NotConfigured(f"{to} is there already, and a backup replaces nothing. Name another file.")
    with _becoming(to) as part:
        if url.get_backend_name() == "sqlite":
            _copy(Path(url.database or ""), part)
        else:
            _dump(url, part)


def before_migration(database: str, revision: str) -> Path | None:
    """Copy an SQLite database of that revision to a file beside it, and let all but the newest `KEPT` such copies go.

    Returns None where it is not SQLite, or not in a file.
    """
    url = make_url(database)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    path = Path(url.database)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    copy = path.with_name(f"{path.name}.{moment}.before-migration-from-{revision}")
    make(database, copy)
    # The moment comes first in their names.
    for old in sorted(path.parent.glob(f"{path.name}.*.before-migration-from-*"))[:-KEPT]:
        old.unlink()
    return copy


@contextmanager
def _becoming(path: Path) -> Iterator[Path]:
    """A file that gets its name when the block ends, and is thrown away if it raises."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        # Nobody else may read it.
        part.touch(0o600)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise NotConfigured(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        part.unlink(missing_ok=True)


def _copy(source: Path, to: Path) -> None:
    if not source.is_file():
        raise NotConfigured(f"There is no database at {source}.")
    try:
        with closing(sqlite3.connect(source, timeout=30)) as live, closing(sqlite3.connect(to)) as copy:
            # In one step, which is one read transaction: those who write meanwhile do not wait, and are not in it.
            live.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            (found,) = copy.execute("PRAGMA quick_check").fetchone()
    except sqlite3.Error as error:
        raise NotConfigured(f"{source} cannot be copied: {error}.") from None
    if found != "ok":
        raise NotConfigured(f"{source} is damaged: {found}. Nothing was kept of the copy.")


def _dump(url: URL, to: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise NotConfigured(
            "pg_dump is not on the PATH. Install PostgreSQL's client programs, as new as the server, or run it "
            f"where the server is: pg_dump --format=custom --file={to.name} {url.database}"
        )
    plain = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    # In the environment: everybody on this machine can read a command line.
    secret = {"PGPASSWORD": str(url.password)} if url.password else {}
    command = [program, "--format=custom", "--no-owner", f"--file={to}", f"--dbname={plain}"]
    done = subprocess.run(command, env=os.environ | secret, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotConfigured(f"pg_dump refuses: {done.stderr.strip()}")
