"""A service without a worker: the tests do a worker's work with the functions a worker uses."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as Picture
from sqlalchemy import event
from starlette.testclient import TestClient

from api.feeds import Feeds
from shared import archives, datasets, jobs
from shared import items as life
from shared.datasets import Contents, NewImage
from shared.db import Sessions
from shared.errors import Fault
from shared.items import Result, Work
from shared.models import Dataset
from shared.queue import Task
from shared.storage import Folder, archive_key, result_key, sha256, source_key

BOX = [0.0, 0.25, 0.25, 0.5, 0.5]
MISSING = "0" * 32
MAX_UPLOAD = 5000
WIDTH, HEIGHT = 256, 150

on_both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)


def png(seed: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    out = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    Picture.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@dataclass
class Service:
    client: httpx.Client | TestClient
    sessions: Sessions
    storage: Folder
    hints: list[Task]
    """What was put on the queue."""
    feeds: Feeds | None = None
    """Which jobs somebody listens to, where that is possible."""

    def checking(self, owner: str = "local") -> str:
        with self.sessions.write() as session:
            return datasets.create(session, owner, uuid.uuid4().hex, "fractures", 1234).id

    def ready(self, images: int = 3, *, valid: int = 0, owner: str = "local") -> str:
        """A dataset with so many labelled images in `train` and in `valid`."""
        splits = ["train"] * images + ["valid"] * valid
        found = [self._image(number, split) for number, split in enumerate(splits)]
        with self.sessions.write() as session:
            session.add(dataset := Dataset(owner=owner, name="fractures", upload_size=1234))
            session.flush()
            claim = datasets.claim(session, 30)
            assert claim is not None
            assert claim.id == dataset.id, "another dataset is waiting to be checked"
            header = b"names: [fracture]"
            names = tuple(dict.fromkeys(splits))
            contents = Contents("yolo", "images/{split}", header, ("fracture",), names, ("w",), 255, found)
            assert datasets.accept(session, claim, contents)
            return dataset.id

    def rejected(self) -> str:
        dataset_id = self.checking()
        with self.sessions.write() as session:
            claim = datasets.claim(session, 30)
            assert claim is not None
            assert datasets.reject(
                session, claim, "2 faults", [Fault("a.txt:3", "five numbers"), Fault("b.txt:1", "?")]
            )
        return dataset_id

    def job(self, dataset_id: str, **spec: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/jobs", json={"dataset_id": dataset_id, **spec})
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def claim(self, items: int = 1) -> list[Work]:
        with self.sessions.write() as session:
            return life.claim(session, "worker", items, 30, priors=["a" * 64])

    def do(self, items: int) -> None:
        """Make so many images."""
        for work in self.claim(items):
            data = png(work.item_id)
            key = result_key(work.job_id, work.item_id, work.token, "png")
            self.storage.write(key, data)
            with self.sessions.write() as session:
                assert life.settle(session, work, Result(key, sha256(data), 2.0, {"hidden": 0.5}, {"device": "cpu"}))
        self.conclude()

    def fail(self, items: int) -> None:
        for work in self.claim(items):
            with self.sessions.write() as session:
                assert life.fail(session, work, "bad_image", "It is cut off.", final=True)
        self.conclude()

    def conclude(self) -> None:
        with self.sessions.write() as session:
            jobs.conclude(session)

    def pack(self, data: bytes | None) -> None:
        """Build the archive that waits; without `data` it cannot be built."""
        with self.sessions.write() as session:
            claim = archives.claim(session, 30)
            assert claim is not None
            if data is None:
                assert archives.fail(session, claim, "The disk is full.")
                return
            key = archive_key(claim.id, claim.token)
            self.storage.write(key, data)
            assert archives.settle(session, claim, key=key, sha256=sha256(data), size=len(data))

    def get(self, path: str, status: int = 200, **headers: str) -> Any:
        """The JSON at `path`; a status of 400 and above must be a problem."""
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
        return answer.json()

    @contextmanager
    def queries(self) -> Iterator[list[str]]:
        """What is asked of the database meanwhile."""
        asked: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            asked.append(statement)

        event.listen(self.sessions.engine, "before_cursor_execute", note)
        yield asked
        event.remove(self.sessions.engine, "before_cursor_execute", note)

    def _image(self, number: int, split: str) -> NewImage:
        data = png(number)
        digest = sha256(data)
        self.storage.write(source_key(digest), data)
        return NewImage(
            path=f"images/{split}/{number:03}.png",
            split=split,
            sha256=digest,
            format="PNG",
            mode="L",
            width=WIDTH,
            height=HEIGHT,
            size=len(data),
            boxes=[BOX],
            label_path=f"labels/{split}/{number:03}.txt",
            label=b"0 .375 .375 .25 .25\n",
            label_sha256=sha256(b"0 .375 .375 .25 .25\n"),
        )
