"""Several workers on one job, on PostgreSQL and Redis, and what is left of a job whose workers all die at once."""

import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from fleet import Fleet
from live import until
from sqlalchemy import func, select

from samples.phantoms import write_dataset
from shared import items, jobs, priors, workers
from shared.db import Sessions, make_sessions
from shared.models import Archive, Dataset, Item, Job
from shared.queue import Task, make_app, make_enqueue
from shared.spec import ExpansionSpec
from shared.states import ArchiveState, DatasetState, ItemState
from shared.storage import Folder, upload_key
from worker.priors.diffusers import BUILTIN

pytestmark = pytest.mark.slow


class Site:
    """One installation: what the API would do is done here by the same functions."""

    def __init__(self, data: Path, database_url: str, broker_url: str) -> None:
        self.sessions: Sessions = make_sessions(database_url)
        self.storage = Folder(data / "storage")
        self.enqueue = make_enqueue(make_app(broker_url))
        self.fleet = Fleet(data, database_url, broker_url)
        with self.sessions.write() as session:
            priors.register(session, "builtin", BUILTIN)

    def upload(self, archive: Path) -> str:
        with self.sessions.write() as session:
            dataset = Dataset(owner="local", name="phantoms")
            session.add(dataset)
            session.flush()
            self.storage.write(upload_key(dataset.id), archive.read_bytes())
        self.enqueue(Task.INGEST)
        until(lambda: self.state(dataset.id) != DatasetState.CHECKING, 120, "the dataset is checked")
        assert self.state(dataset.id) == DatasetState.READY
        return dataset.id

    def state(self, dataset_id: str) -> DatasetState:
        with self.sessions.read() as session:
            return session.get_one(Dataset, dataset_id).state

    def start(self, dataset_id: str, *, variants: int, steps: int) -> str:
        spec = {
            "dataset_id": dataset_id,
            "variants": variants,
            "sampler": {"steps": steps},
            "canvas": {"long_side": 64},
            "reuse": False,
        }
        with self.sessions.write() as session:
            wanted, prior = ExpansionSpec.model_validate(spec), priors.find(session, "builtin")
            job = jobs.create(session, "local", wanted, prior, 1000)
        self.enqueue(Task.EXPAND)
        return job.id

    def items(self, job_id: str) -> list[Item]:
        with self.sessions.read() as session:
            rows = session.scalars(select(Item).where(Item.job_id == job_id)).all()
            for row in rows:
                _ = row.image.path
            return list(rows)

    def at_work(self, job_id: str) -> set[str | None]:
        return {item.worker for item in self.items(job_id) if item.state == ItemState.RUNNING and item.lease_until}

    def gpu_workers(self) -> int:
        with self.sessions.read() as session:
            return sum(worker.queues == "gpu" for worker in workers.alive(session))

    def done(self, job_id: str) -> int:
        with self.sessions.read() as session:
            return items.counts(session, job_id).get(ItemState.DONE, 0)

    def archive(self, job_id: str) -> zipfile.ZipFile:
        def ready() -> bool:
            with self.sessions.read() as session:
                row = session.get(Archive, job_id)
                return row is not None and row.state == ArchiveState.READY

        until(ready, 120, "the archive is ready")
        with self.sessions.read() as session:
            return zipfile.ZipFile(BytesIO(self.storage.read(session.get_one(Archive, job_id).key or "")))

    def hashes(self, job_id: str) -> dict[tuple[str, int], str | None]:
        return {(item.image.path, item.variant): item.result_sha256 for item in self.items(job_id)}


@pytest.fixture
def site(tmp_path: Path, postgres_url: str, redis_url: str) -> Iterator[Site]:
    made = Site(tmp_path, postgres_url, redis_url)
    yield made
    made.fleet.end()
    made.sessions.dispose()


@pytest.fixture
def dataset(site: Site, tmp_path: Path) -> str:
    write_dataset(tmp_path / "phantoms.zip", images=8, seed=2, size=(90, 110))
    site.fleet.worker("cpu", "cpu")
    return site.upload(tmp_path / "phantoms.zip")


def test_two_workers_share_a_job_and_a_massacre_loses_nothing(site: Site, dataset: str) -> None:
    fleet = [site.fleet.worker("gpu", name) for name in ("one", "two")]
    site.fleet.sweep()
    until(lambda: site.gpu_workers() == 2, 180, "both workers are up")
    shared_job = site.start(dataset, variants=3, steps=15)
    until(lambda: site.done(shared_job) == 18, 300, "every item is done")
    made = site.items(shared_job)
    assert len({item.worker for item in made}) == 2
    assert all((item.attempts, item.lapses) == (0, 0) for item in made)

    # The same request again, so that what comes out can be compared; now everybody dies in the middle.
    killed_job = site.start(dataset, variants=3, steps=15)
    until(lambda: site.done(killed_job) >= 3, 180, "some items are done")
    for worker in fleet:
        site.fleet.kill(worker)
    before = site.items(killed_job)
    assert {item.state for item in before} >= {ItemState.DONE, ItemState.PENDING}
    # The dead hold what they had until their leases lapse; only the living can be told to end.
    dead = {item.worker for item in made}
    third, _ = site.fleet.worker("gpu", "three"), site.fleet.worker("gpu", "four")
    until(lambda: len(site.at_work(killed_job) - dead) == 2, 180, "two new workers are at it")
    site.fleet.ask_to_end(third)
    assert len(site.at_work(killed_job) - dead) <= 1, "what a worker held that was told to end is still held"
    until(lambda: site.done(killed_job) == 18, 300, "every item is done after all")
    after = {item.id: item for item in site.items(killed_job)}
    for item in before:
        if item.state == ItemState.DONE:
            assert after[item.id].result_key == item.result_key, "a finished item was made again"
    assert all(item.attempts == 0 for item in after.values())

    assert site.hashes(killed_job) == site.hashes(shared_job)
    with site.archive(shared_job) as undisturbed, site.archive(killed_job) as killed:
        names = undisturbed.namelist()
        assert killed.namelist() == names
        assert len(names) == len(set(names))
        for name in names:
            if name != "manifest.jsonl":
                assert killed.read(name) == undisturbed.read(name), name
        assert sum(name.startswith("images/") for name in names) == 8 + 18
        assert len(killed.read("manifest.jsonl").splitlines()) == 18
    with site.sessions.read() as session:
        assert session.scalar(select(func.count()).select_from(Job).where(Job.finished_at.is_(None))) == 0
