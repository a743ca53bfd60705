"""The door that everything comes in by, in a process of its own whose memory has an end."""

import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from corpus import ARCHIVE_BYTES, MEMBERS, UPLOAD_BYTES

MEMORY = 512 * 2**20
"""Bytes that the service may take beside what it has when it is started."""
PATIENCE = 300.0
"""Seconds after which an archive counts as one that never ends."""


@dataclass(frozen=True)
class Answer:
    """What became of an upload: the HTTP status, and of one that was taken the dataset as the API tells it."""

    status: int
    body: dict[str, Any]

    @property
    def outcome(self) -> str:
        return "refused" if self.status >= 400 else str(self.body["state"])

    @property
    def said(self) -> str:
        """All that is said of it, a fault a line."""
        faults = self.body.get("problems", []) or self.body.get("errors", [])
        return "\n".join([self.body.get("detail", ""), *(f"{each['where']}: {each['what']}" for each in faults)])


class Door:
    """Uploads to a service with a folder of its own; one that died is started again."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._context = get_context("spawn")
        self._start()

    def upload(self, data: bytes) -> Answer:
        """Upload a zip and have it checked. Raises if the service died of it, or never answers."""
        try:
            self._pipe.send_bytes(data)
            answer = self._pipe.recv() if self._pipe.poll(PATIENCE) else f"not checked within {PATIENCE:.0f} s"
        except (EOFError, OSError):
            answer = "the service died of it"
        if isinstance(answer, Answer):
            return answer
        self.close()
        self._start()
        raise RuntimeError(answer)

    def close(self) -> None:
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._pipe, there = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(there, self._home), daemon=True)
        self._process.start()
        there.close()


def _serve(pipe: Connection, home: Path) -> None:
    upload = _service(home)
    # Everything is loaded now that a good one has been through.
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    while True:
        data = pipe.recv_bytes()
        try:
            pipe.send(upload(data))
        except Exception as error:  # noqa: BLE001  (whatever it is, the test is to see it)
            pipe.send(f"{type(error).__name__}: {error}")


def _service(home: Path) -> Callable[[bytes], Answer]:
    from packing import GOOD, packed
    from starlette.testclient import TestClient

    from api.main import create_app
    from migrations import upgrade
    from shared.db import make_sessions
    from shared.settings import Settings
    from shared.storage import Folder
    from worker.ingest import check_next

    os.chdir(home / "here")
    settings = Settings(
        data=home / "data",
        max_upload_bytes=UPLOAD_BYTES,
        max_archive_bytes=ARCHIVE_BYTES,
        max_archive_members=MEMBERS,
        _env_file=None,
    )
    sessions, storage = make_sessions(settings.database), Folder(settings.storage_folder)
    upgrade(sessions.engine)
    app = create_app(settings, sessions, storage, lambda task: None, lambda: None)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)

    def upload(data: bytes) -> Answer:
        answer = client.post("/v1/datasets", files={"file": ("set.zip", data)})
        if answer.status_code == 202:
            if not check_next(settings, sessions, storage):
                sys.exit("nothing waits to be checked")
            answer = client.get(answer.headers["location"])
        return Answer(answer.status_code, answer.json())

    upload(bytes(packed(GOOD)))
    return upload
