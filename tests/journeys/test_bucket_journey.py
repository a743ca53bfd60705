"""Workers on machines of their own, which share a database, a Redis and a bucket, and no folder."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cutter import Cutter, cutter
from fleet import Fleet
from live import free_port, until
from servers import S3, s3_environment
from sqlalchemy import select

from regrow import Client, pieces
from regrow.errors import ClientError
from samples.phantoms import write_dataset
from shared import workers
from shared.bucket import Bucket
from shared.db import Sessions
from shared.models import Item
from shared.queue import Queue
from shared.states import ItemState, Wait

pytestmark = pytest.mark.slow

MACHINES = ("api", "one", "two", "sweep")
QUICK = {"variants": 2, "sampler": {"steps": 8, "finish": 1}, "canvas": {"long_side": 64}}


@dataclass
class Lab:
    """An API and two workers, each on what could be a machine of its own below `home`."""

    home: Path
    sessions: Sessions
    line: Cutter
    """To the bucket, of all of them."""
    bucket: Bucket
    url: str

    def items(self) -> list[Item]:
        with self.sessions.read() as session:
            return list(session.scalars(select(Item)))

    def done(self) -> int:
        return sum(item.state == ItemState.DONE for item in self.items())

    def waits(self) -> dict[Queue, Wait]:
        with self.sessions.read() as session:
            return workers.missing(session)


@pytest.fixture
def lab(tmp_path: Path, sessions: Sessions, database_url: str, redis_url: str, s3: S3, s3_url: str) -> Iterator[Lab]:
    port = free_port()
    with cutter(s3.port) as line:
        bucket = {"REGROW_STORAGE": s3_url, "REGROW_STORAGE_HTTP": "true", **s3_environment(line.url)}
        fleet = Fleet(tmp_path, database_url, redis_url, **bucket)
        for name in MACHINES:
            (tmp_path / name).mkdir()
        try:
            fleet.env["REGROW_DATA"] = str(tmp_path / "api")
            fleet.api(port)
            fleet.env["REGROW_DATA"] = str(tmp_path / "sweep")
            fleet.sweep()
            for name in ("one", "two"):
                fleet.worker("gpu,cpu", name, REGROW_DATA=str(tmp_path / name))
            spool = tmp_path / "ours"
            yield Lab(tmp_path, sessions, line, Bucket(s3_url, spool, allow_http=True), f"http://127.0.0.1:{port}")
        finally:
            fleet.end()


def ready(client: Client) -> bool:
    try:
        return client.ready()["ready"]
    except ClientError:
        return False


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_two_workers_without_a_common_folder_do_a_job_though_the_bucket_goes_away_in_between(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "in.zip", images=5, seed=5, size=(90, 110))
    # Also the upload is to come in pieces, as a large one does.
    monkeypatch.setattr(pieces, "LARGE", 1000)
    with Client(lab.url) as client:
        until(lambda: ready(client), 300, "the service is ready")
        dataset = client.wait_dataset(client.upload(tmp_path / "in.zip")["id"])
        assert dataset["state"] == "ready", dataset["problems"]
        job = client.create_job({"dataset_id": dataset["id"], **QUICK})
        until(lambda: lab.done() >= 2, 300, "some items are done")
        lab.line.away = True
        away = {Queue.GPU: Wait.STORAGE_AWAY, Queue.CPU: Wait.STORAGE_AWAY}
        until(lambda: lab.waits() == away, 120, "all workers say that the storage is away")
        assert lab.done() < 8
        assert not client.ready()["ready"]
        lab.line.away = False
        job = client.wait_job(job["id"])
        client.download(job["id"], tmp_path / "out.zip")
        assert job["state"] == "succeeded"
        found = lab.items()
        assert {(item.state, item.attempts, item.lapses) for item in found} == {(ItemState.DONE, 0, 0)}
        assert len({item.worker for item in found}) == 2
        with zipfile.ZipFile(tmp_path / "in.zip") as source, zipfile.ZipFile(tmp_path / "out.zip") as result:
            assert result.testzip() is None
            images = [name for name in result.namelist() if name.startswith("images/")]
            assert len(images) == 5 + 8
            assert all(result.read(name) == source.read(name) for name in images if "_rg" not in name)
        left = [path for name in MACHINES for path in (lab.home / name).rglob("*") if path.is_file()]
        assert left == [], "a stored file lies in a folder that only one machine has"

        client.delete_job(job["id"])
        client.delete_dataset(dataset["id"])
        kept = ("sources", "jobs", "archives", "uploads")
        until(lambda: not any(lab.bucket.keys(f"{folder}/") for folder in kept), 60, "the bucket is empty again")
