"""The API on a fresh database and a folder of its own; hints end in a list."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from service import MAX_UPLOAD, Service
from starlette.testclient import TestClient

from api.main import create_app
from shared.db import Sessions
from shared.models import Prior
from shared.queue import Task
from shared.settings import Settings
from shared.storage import Folder


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, unless the test is marked `on_both_databases`: most of what is tested here asks no database."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'regrow.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def service(sessions: Sessions, storage: Folder, tmp_path: Path) -> Iterator[Service]:
    with sessions.write() as session:
        session.add(Prior(name="builtin", sha256="a" * 64, native_size=128, multiple=16, size=7, card="# Built-in"))
    hints: list[Task] = []
    settings = Settings(data=tmp_path, max_upload_bytes=MAX_UPLOAD, max_items=500, _env_file=None)
    app = create_app(settings, sessions, storage, hints.append, lambda: None)
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield Service(client, sessions, storage, hints)
