"""Is it there, and can it work?"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from api.main import create_app, from_settings
from shared import queue, workers
from shared.db import Sessions, make_sessions
from shared.errors import NotConfigured
from shared.models import Worker
from shared.settings import Settings
from shared.storage import Folder

Answer = tuple[int, dict[str, str]]


def readiness(sessions: Sessions, storage: Folder, broker_url: str) -> Answer:
    """Of a service made of these parts."""
    sender = queue.make_app(broker_url)
    settings = Settings(_env_file=None)
    app = create_app(settings, sessions, storage, queue.make_enqueue(sender), partial(queue.ping, sender))
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        answer = client.get("/readyz")
    sender.close()
    assert answer.json()["ready"] == (answer.status_code == 200)
    return answer.status_code, answer.json()["parts"]


def working(sessions: Sessions, *queues: str) -> None:
    with sessions.write() as session:
        for name in queues:
            workers.seen(session, f"{name}@here", name, "cpu")


def test_it_is_ready_when_every_part_answers(sessions: Sessions, storage: Folder, redis_url: str) -> None:
    working(sessions, "cpu", "gpu")
    parts = dict.fromkeys(("database", "migrations", "broker", "storage", "workers"), "ok")
    assert readiness(sessions, storage, redis_url) == (200, parts)
    assert not list(storage.root.rglob("*readyz*"))


def test_a_queue_nobody_works_on_is_named(sessions: Sessions, storage: Folder, redis_url: str) -> None:
    working(sessions, "cpu", "gpu")
    with sessions.write() as session:
        session.get_one(Worker, "gpu@here").seen_at -= workers.ALIVE_FOR + 1
    status, parts = readiness(sessions, storage, redis_url)
    assert (status, parts["broker"]) == (503, "ok")
    assert parts["workers"] == "no worker seen on queue gpu in the last 30 s"


def test_a_broker_that_is_away_is_named(sessions: Sessions, storage: Folder) -> None:
    working(sessions, "cpu,gpu")
    status, parts = readiness(sessions, storage, "redis://127.0.0.1:1/0")
    assert status == 503
    assert parts.pop("broker").startswith("no answer")
    assert set(parts.values()) == {"ok"}


def test_a_database_without_tables_is_named(tmp_path: Path, storage: Folder, redis_url: str) -> None:
    empty = make_sessions(f"sqlite:///{tmp_path / 'empty.db'}")
    status, parts = readiness(empty, storage, redis_url)
    empty.dispose()
    assert status == 503
    assert parts["database"] == "ok"
    assert parts["migrations"].startswith("The database is empty. `python -m migrations`")
    assert parts["workers"] == "not known without the database"
    assert str(tmp_path) not in str(parts)


@pytest.mark.parametrize(
    ("revision", "said"), [("0001", "of an earlier Regrow (revision 0001"), ("9999", "of a newer Regrow")]
)
def test_a_database_of_another_version_is_named(
    sessions: Sessions, storage: Folder, redis_url: str, revision: str, said: str
) -> None:
    with sessions.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    status, parts = readiness(sessions, storage, redis_url)
    assert status == 503
    assert said in parts["migrations"]
    assert (parts["database"], parts["broker"]) == ("ok", "ok")


def test_a_database_that_is_away_is_named(tmp_path: Path, storage: Folder, redis_url: str) -> None:
    away = make_sessions("postgresql://regrow:hunter22@127.0.0.1:1/regrow")
    status, parts = readiness(away, storage, redis_url)
    away.dispose()
    assert status == 503
    assert parts["database"].startswith("no answer")
    assert parts["migrations"] == parts["workers"] == "not known without the database"
    assert "hunter22" not in str(parts)


def test_a_storage_that_cannot_be_written_is_named(sessions: Sessions, tmp_path: Path, redis_url: str) -> None:
    working(sessions, "cpu", "gpu")
    (tmp_path / "file").write_bytes(b"")
    status, parts = readiness(sessions, Folder(tmp_path / "file"), redis_url)
    assert status == 503
    assert parts["storage"].startswith("cannot be written (")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """Nothing but a data folder is set; other tests log as they did."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGROW_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("REGROW_BROKER_URL", raising=False)
    yield monkeypatch
    root.handlers[:], root.level = handlers, level


def test_without_a_broker_it_does_not_start_and_says_what_to_set(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotConfigured, match="REGROW_BROKER_URL"):
        from_settings()


def test_it_starts_as_the_environment_says(
    environment: pytest.MonkeyPatch, new_sqlite: Callable[[Path], str], redis_url: str
) -> None:
    environment.setenv("REGROW_BROKER_URL", redis_url)
    new_sqlite(Settings(_env_file=None).data / "regrow.db")
    app = from_settings()
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/readyz").json()["parts"]["broker"] == "ok"
    app.state.parts.sessions.dispose()
