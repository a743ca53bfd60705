"""What the first version has left is brought to the newest form, and all of it can still be used.

`first_version.zip` was written by the first version itself (commit 30479d9, migration 0001): `rows.json` holds its
tables, `storage/` its files. There is a job that is over, with its archive; one that a killed worker had begun; a
dataset that was rejected, and one that nobody has checked yet.
"""

import base64
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import torch
from alembic import command
from sqlalchemy import Connection, text
from starlette.testclient import TestClient

from api.main import create_app
from migrations import check, config, upgrade
from shared import items, jobs, keeping, priors
from shared.db import Sessions, make_sessions
from shared.keeping import Kind
from shared.models import Job
from shared.settings import Settings
from shared.spec import ENGINE_VERSION
from shared.storage import Folder, sha256
from worker.archive import build_next
from worker.expand import expand_next
from worker.ingest import check_next
from worker.overlap import overlapping
from worker.priors.cache import PriorCache
from worker.priors.diffusers import BUILTIN, load
from worker.studio import Batches, Studio

LEFT = Path(__file__).with_name("first_version.zip")


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of either kind without a table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'regrow.db'}"
        return
    server: str = request.getfixturevalue("postgres_server")
    name = f"first_{time.monotonic_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.rpartition("/")[0] + "/" + name
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def left(empty_url: str, storage: Folder) -> Iterator[Sessions]:
    """The first version's database and files, as it left them."""
    sessions = make_sessions(empty_url)
    with sessions.engine.begin() as connection:
        command.upgrade(config(connection), "0001")
    with zipfile.ZipFile(LEFT) as archive, sessions.engine.begin() as connection:
        for table, rows in json.loads(archive.read("rows.json")).items():
            insert(connection, table, rows)
        for name in archive.namelist():
            if name.startswith("storage/"):
                storage.write(name.removeprefix("storage/"), archive.read(name))
    yield sessions
    sessions.dispose()


def insert(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        values = {name: base64.b64decode(v["base64"]) if isinstance(v, dict) else v for name, v in row.items()}
        columns, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({marks})"), values)  # noqa: S608
    if connection.dialect.name == "postgresql" and rows and isinstance(rows[0].get("id"), int):
        # Numbers that were given go past the counter, which had counted them.
        connection.execute(text(f"SELECT setval('{table}_id_seq', {max(row['id'] for row in rows)})"))


@pytest.fixture
def studio(left: Sessions, storage: Folder, tmp_path: Path) -> Studio:
    """A worker of today's on it, once it was upgraded."""
    upgrade(left.engine)
    torch.set_num_threads(1)
    with left.write() as session:
        builtin = priors.register(session, priors.BUILTIN, BUILTIN)
    return Studio(
        settings=Settings(data=tmp_path, threads=1, _env_file=None),
        sessions=left,
        storage=storage,
        name="test",
        device=torch.device("cpu"),
        batches=Batches(1),
        priors=PriorCache(load),
        prior_folders={"builtin": (BUILTIN, builtin.sha256)},
        made_by={"engine": ENGINE_VERSION, "device": "cpu"},
        stop=lambda: False,
    )


@pytest.fixture
def get(studio: Studio) -> Iterator[Callable[..., Any]]:
    """Asks today's API; all it says is to be well."""
    app = create_app(studio.settings, studio.sessions, studio.storage, lambda _task: None, lambda: None, fresh=0.0)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:

        def ask(path: str) -> Any:
            answer = client.get(f"/v1/{path}")
            assert answer.status_code == 200, (path, answer.text)
            return answer.json() if answer.headers["content-type"] == "application/json" else answer.content

        yield ask


def by_name(listed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in listed["items"]}


def counts(job: dict[str, Any]) -> dict[str, int]:
    return {state: count for state, count in job["counts"].items() if count}


def test_it_has_the_newest_form_afterwards(left: Sessions) -> None:
    copy = upgrade(left.engine)
    assert (copy is not None) == (left.engine.dialect.name == "sqlite")
    check(left.engine)
    with left.engine.begin() as connection:
        command.check(config(connection))


def test_what_was_done_can_still_be_looked_at_and_downloaded(studio: Studio, get: Callable[..., Any]) -> None:
    sets, made = by_name(get("datasets")), by_name(get("jobs"))
    assert {name: each["state"] for name, each in sets.items()} == {
        "phantoms": "ready",
        "bad": "rejected",
        "waits": "checking",
    }
    assert "not a readable JPEG" in sets["bad"]["problems"][0]["what"]
    dataset, done = sets["phantoms"]["id"], made["done"]
    assert (done["state"], counts(done), done["archive"]["state"]) == ("succeeded", {"done": 3}, "ready")
    images = get(f"datasets/{dataset}/images")["items"]
    assert len(images) == 4
    for image in images:
        at = f"datasets/{dataset}/images/{image['id']}"
        assert sha256(get(f"{at}/file")) == image["sha256"]
        assert get(f"{at}/preview?boxes=1").startswith(b"\xff\xd8"), "it had no preview, and is drawn"
    for item in get(f"jobs/{done['id']}/items")["items"]:
        for what in ("image", "mask"):
            assert get(f"jobs/{done['id']}/items/{item['id']}/{what}")
    archive = get(f"jobs/{done['id']}/archive")
    assert sha256(archive) == done["archive"]["sha256"]
    assert keeping.census(studio.sessions, studio.storage).files[Kind.STRAYS] == 0


def test_what_was_under_way_goes_on_once_its_owner_has_decided(
    studio: Studio, get: Callable[..., Any], storage: Folder
) -> None:
    half = by_name(get("jobs"))["half"]
    assert counts(half) == {"done": 1, "running": 1, "pending": 1}
    with studio.sessions.write() as session:
        assert items.sweep(session) == 1, "its worker is long dead"
    assert run(studio) == 0, "work of another engine or prior is not mixed in silently"
    assert get(f"jobs/{half['id']}")["waits_for"] in ("engine_changed", "prior_changed")
    with studio.sessions.write() as session:
        jobs.upgrade(session, session.get_one(Job, half["id"]), priors.find(session, "local", "builtin"), "keep")
    assert run(studio) == 2
    with studio.sessions.write() as session:
        assert jobs.conclude(session) == [half["id"]]
    assert build_next(studio.settings, studio.sessions, storage)
    with zipfile.ZipFile(io.BytesIO(get(f"jobs/{half['id']}/archive"))) as archive:
        rows = [json.loads(line) for line in archive.read("manifest.jsonl").splitlines()]
        assert all(sha256(archive.read(row["file"])) == row["sha256"] for row in rows)
    made_by = [(row["settings"]["engine"], row["settings"]["prior_sha256"]) for row in rows]
    before = (half["resolved"]["engine"], half["resolved"]["prior_sha256"])
    assert made_by.count(before) == 1, "it tells by which engine and prior each was made"
    assert len(set(made_by)) == 2


def test_what_waited_is_checked_and_an_old_dataset_can_be_expanded(
    studio: Studio, get: Callable[..., Any], storage: Folder
) -> None:
    assert check_next(studio.settings, studio.sessions, storage)
    sets = by_name(get("datasets"))
    assert sets["waits"]["counts"] == sets["phantoms"]["counts"], "both were read from the same zip"
    spec = {"sampler": {"steps": 3}, "canvas": {"long_side": 32}, "variants": 1, "reuse": False}
    with studio.sessions.write() as session:
        wanted = jobs.ExpansionSpec.model_validate({"dataset_id": sets["phantoms"]["id"], **spec})
        job = jobs.create(session, "local", wanted, priors.find(session, "local", "builtin"), 1000).id
    assert run(studio) == 3
    assert counts(get(f"jobs/{job}")) == {"done": 3}


def run(studio: Studio) -> int:
    """Sample whatever today's worker may take; returns how many items that was."""
    taken = 0
    with overlapping(lambda: None) as overlap:
        while some := expand_next(studio, overlap, lambda: None):
            taken += some
    return taken
