"""The API on a fresh database and a folder of its own; hints end in a list."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from application import make_application
from fastapi import FastAPI
from live import serving
from service import MAX_UPLOAD, Service
from starlette.testclient import TestClient

from shared.db import Sessions
from shared.models import Prior
from shared.queue import Task
from shared.settings import Settings
from shared.storage import Folder


@pytest.fixture
def database_url(request: pytest.FixtureRequest, new_sqlite: Callable[[Path], str], tmp_path: Path) -> str:
    """SQLite, unless the test is marked `on_both_databases`: most of what is tested here asks no database."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return new_sqlite(tmp_path / "regrow.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def hints() -> list[Task]:
    """What was put on the queue."""
    return []


@pytest.fixture
def make_app(sessions: Sessions, storage: Folder, tmp_path: Path, hints: list[Task]) -> Callable[[float], FastAPI]:
    """Makes the application, whose answers for a job are given again for so many seconds."""
    with sessions.write() as session:
        session.add(Prior(name="builtin", sha256="a" * 64, native_size=128, multiple=16, size=7, card="# Built-in"))
    settings = Settings(data=tmp_path, max_upload_bytes=MAX_UPLOAD, max_items=500, _env_file=None)
    return lambda fresh: make_application(settings, sessions, storage, hints.append, lambda: None, fresh=fresh)


@pytest.fixture
def service(
    make_app: Callable[[float], FastAPI], sessions: Sessions, storage: Folder, hints: list[Task]
) -> Iterator[Service]:
    # Tests do a worker's work behind the API's back, and want to see it at once.
    with TestClient(make_app(0.0), base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield Service(client, sessions, storage, hints)


@pytest.fixture
def live(
    make_app: Callable[[float], FastAPI], sessions: Sessions, storage: Folder, hints: list[Task]
) -> Iterator[Service]:
    """The same on a real port, for answers that have no end."""
    app = make_app(0.0)
    with serving(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        yield Service(client, sessions, storage, hints, app.state.parts.feeds)
