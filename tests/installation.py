"""One installation of Regrow: what the API would do is done here by the same functions."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from fleet import Fleet
from live import until
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from shared import items, jobs, priors, workers
from shared.db import Sessions, make_sessions
from shared.models import Archive, Dataset, Item
from shared.queue import Task, make_app, make_enqueue
from shared.spec import ExpansionSpec
from shared.states import ArchiveState, DatasetState, ItemState
from shared.storage import Folder, upload_key


class Site:
    """A database, a folder, a broker, and the processes that work on them."""

    def __init__(self, data: Path, database_url: str, broker_url: str, **env: str) -> None:
        self.sessions: Sessions = make_sessions(database_url)
        self.storage = Folder(data / "storage")
        self.app = make_app(broker_url)
        self.enqueue = make_enqueue(self.app)
        self.fleet = Fleet(data, database_url, broker_url, **env)

    def end(self) -> None:
        self.fleet.end()
        self.sessions.dispose()

    def register(self, name: str, folder: Path) -> None:
        with self.sessions.write() as session:
            priors.register(session, name, folder)

    def upload(self, archive: Path) -> str:
        with self.sessions.write() as session:
            dataset = Dataset(owner="local", name="phantoms")
            session.add(dataset)
            session.flush()
            self.storage.write(upload_key(dataset.id), archive.read_bytes())
        self.enqueue(Task.INGEST)
        until(lambda: self.dataset(dataset.id).state != DatasetState.CHECKING, 180, "the dataset is checked")
        assert self.dataset(dataset.id).state == DatasetState.READY
        return dataset.id

    def dataset(self, dataset_id: str) -> Dataset:
        with self.sessions.read() as session:
            return session.get_one(Dataset, dataset_id)

    def start(self, dataset_id: str, **spec: Any) -> str:
        wanted = ExpansionSpec.model_validate({"dataset_id": dataset_id, "reuse": False, **spec})
        with self.sessions.write() as session:
            job = jobs.create(session, "local", wanted, priors.find(session, "local", wanted.prior), 1000)
        self.enqueue(Task.EXPAND)
        return job.id

    def items(self, job_id: str) -> list[Item]:
        """In order, each with its image and job."""
        with self.sessions.read() as session:
            whole = joinedload(Item.image), joinedload(Item.job)
            return list(session.scalars(select(Item).where(Item.job_id == job_id).order_by(Item.id).options(*whole)))

    def at_work(self, job_id: str) -> set[str]:
        """The workers that have an item of the job."""
        return {item.worker or "" for item in self.items(job_id) if item.state == ItemState.RUNNING}

    def gpu_workers(self) -> int:
        with self.sessions.read() as session:
            return sum(worker.queues == "gpu" for worker in workers.alive(session))

    def done(self, job_id: str) -> int:
        with self.sessions.read() as session:
            return items.counts(session, job_id).get(ItemState.DONE, 0)

    def archive(self, job_id: str) -> zipfile.ZipFile:
        """The zip of the job, which is waited for."""

        def built() -> bool:
            with self.sessions.read() as session:
                row = session.get(Archive, job_id)
                return row is not None and row.state != ArchiveState.BUILDING

        until(built, 300, f"the archive is built; its items are {self.counts(job_id)}")
        with self.sessions.read() as session:
            row = session.get_one(Archive, job_id)
        assert row.state == ArchiveState.READY, row.error
        return zipfile.ZipFile(BytesIO(self.storage.read(row.key or "")))

    def counts(self, job_id: str) -> dict[str, int]:
        with self.sessions.read() as session:
            return {str(state): count for state, count in items.counts(session, job_id).items()}

    def hashes(self, job_id: str) -> dict[tuple[str, int], str | None]:
        return {(item.image.path, item.variant): item.result_sha256 for item in self.items(job_id)}
