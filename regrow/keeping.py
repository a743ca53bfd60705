"""What `regrow storage`, `prune` and `backup` do, on the machine that has the data."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

import migrations
from regrow import preconditions
from regrow.preconditions import Refused
from shared import archives, backups, keeping, trash, uploads
from shared.bucket import make_storage
from shared.db import Sessions, make_sessions
from shared.errors import RegrowError
from shared.settings import Settings
from shared.storage import Storage

Which = Literal["archives", "uploads", "strays"]


@dataclass(frozen=True, slots=True)
class House:
    """An installation's rows and files."""

    settings: Settings
    sessions: Sessions
    storage: Storage


@contextmanager
def opened(data: Path | None) -> Iterator[House]:
    """The installation that the settings name. Nothing is made that is not there.

    Raises:
        Refused: its database or its storage folder is not there, away, or of another version.
    """
    settings = preconditions.read_settings(data)
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise Refused(f"There is no database at {url.database}. Name the data folder with --data or REGROW_DATA.")
    sessions = None
    try:
        sessions = make_sessions(settings.database)
        migrations.check(sessions.engine)
        yield House(settings, sessions, make_storage(settings, may_make=False))
    except RegrowError as error:
        raise Refused(error.detail) from None
    except OperationalError as error:
        raise Refused(f"The database {url.render_as_string(hide_password=True)} cannot be used: {error.orig}") from None
    finally:
        if sessions:
            sessions.dispose()


def storage(house: House) -> dict[str, Any]:
    """What takes up space: files and bytes of each kind that is stored, and of what lies beside the storage."""
    _check_there(house)
    found = keeping.census(house.sessions, house.storage)
    kinds = {str(kind): {"files": found.files[kind], "bytes": found.bytes[kind]} for kind in keeping.Kind}
    url = make_url(house.settings.database)
    return {
        "data": str(house.settings.data),
        "storage": kinds,
        "database": _beside(Path(url.database or "")) if url.get_backend_name() == "sqlite" else None,
        "backups": _sum(house.settings.data.glob("*.before-migration-from-*")),
        "logs": _sum((house.settings.data / "logs").glob("*")),
        "broker": _sum((house.settings.data / "broker").rglob("*")),
        "free": house.storage.free(),
    }


def look(house: House, which: Which, seconds: float) -> list[dict[str, Any]]:
    """What pruning would remove: each with a name, its bytes and, but for strays, its age in seconds."""
    if which == "strays":
        _check_there(house)
        found = keeping.census(house.sessions, house.storage, seconds).strays
        return [{"name": key, "bytes": size} for key, size in sorted(found.items())]
    with house.sessions.read() as session:
        if which == "archives":
            old = archives.old(session, seconds)
            return [{"name": each.job_id, "bytes": each.size, "age": round(each.age)} for each in old]
        idle = uploads.idle(session, seconds, house.settings.upload_expires_seconds)
        return [{"name": each.id, "bytes": each.size, "age": round(each.age)} for each in idle]


def prune(house: House, which: Which, seconds: float, seen: list[dict[str, Any]]) -> None:
    """Remove what is older, or of strays what was `seen`; the files go when the trash is emptied."""
    with house.sessions.write() as session:
        if which == "archives":
            archives.prune(session, seconds)
        elif which == "uploads":
            uploads.prune(session, seconds, house.settings.upload_expires_seconds)
        else:
            keeping.throw(session, [each["name"] for each in seen])


def empty_trash(house: House) -> int:
    """Remove the files of what was deleted, as the sweep does; returns how many must wait, because a dataset is being
    checked."""
    _check_there(house)
    while True:
        with house.sessions.write() as session:
            if not trash.empty(session, house.storage):
                return trash.waiting(session)


def backup(data: Path | None, to: Path) -> dict[str, Any]:
    """Copy the database to a file; says what is to be copied beside it."""
    with opened(data) as house:
        backups.make(house.settings.database, to)
        return {"backup": str(to.absolute()), "bytes": to.stat().st_size, "storage": str(house.storage)}


def _check_there(house: House) -> None:
    if not house.storage.there():
        raise Refused(f"The storage {house.storage} is not there. Is its share mounted, or the bucket's name right?")


def _beside(path: Path) -> Mapping[str, int]:
    """An SQLite database with the files that belong to it."""
    return _sum(path.with_name(path.name + ending) for ending in ("", "-wal", "-shm"))


def _sum(paths: Iterator[Path]) -> dict[str, int]:
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    return {"files": len(sizes), "bytes": sum(sizes)}
