"""The real API on a real port, with workers that copy instead of regrow, and a saboteur on the line."""

import asyncio
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from click.testing import Result as CliResult
from PIL import Image
from sqlalchemy import delete, select, update
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typer.testing import CliRunner

import worker
from api.main import create_app
from migrations import upgrade
from regrow import Client, cli
from regrow.answers import Job
from samples.phantoms import write_dataset
from shared import hauls, items, jobs, priors, stretches
from shared.db import Sessions, make_sessions
from shared.items import Result, Work
from shared.models import Fetch, Item, Prior, Training
from shared.settings import Settings
from shared.storage import Folder, prior_key, result_key, sha256, source_key, training_key
from shared.stretches import Noted
from worker.archive import build_next
from worker.ingest import check_next

_at_work = threading.Event()
"""Whether a test of this folder runs: between them, and through the tests of others, the service's worker rests."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    _at_work.set()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    _at_work.clear()


@dataclass
class Request:
    method: str
    path: str
    headers: Headers
    answered: int = 0


@dataclass
class Line:
    """The line between the client and the application: it notes what passes, and spoils what it is told to."""

    app: ASGIApp
    seen: list[Request] = field(default_factory=list)
    busy: int = 0
    """So many of the next requests are answered 503."""
    retry_after: str = "0.3"
    pace: str = "0.1"
    """Seconds after which to ask again, in place of the application's own second."""
    cut: list[int] = field(default_factory=list)
    """For each of the next downloads and streams of events, the bytes after which the connection breaks."""
    flip: bool = False
    """One bit of each download is changed."""

    def requests(self, method: str, end: str) -> list[Request]:
        return [request for request in self.seen if request.method == method and request.path.endswith(end)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope["method"], scope["path"], Headers(scope=scope))
        self.seen.append(request)
        if self.busy:
            self.busy -= 1
            request.answered = 503
            await PlainTextResponse("busy", 503, {"Retry-After": self.retry_after})(scope, receive, send)
            return
        # The first request of a download asks for one byte, to learn what is to come.
        download = request.path.endswith("/archive") and request.headers.get("Range") != "bytes=0-0"
        left = self.cut.pop(0) if (download or request.path.endswith("/events")) and self.cut else None

        async def spoiled(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                request.answered = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                if "Retry-After" in headers:
                    headers["Retry-After"] = self.pace
            elif left is not None and len(message["body"]) >= left:
                await send(message | {"body": message["body"][:left], "more_body": True})
                await asyncio.sleep(0.05)
                raise ConnectionResetError
            elif left is not None:
                left -= len(message["body"])
            elif download and self.flip and message["body"]:
                message = message | {"body": bytes([message["body"][0] ^ 1]) + message["body"][1:]}
            await send(message)

        await self.app(scope, receive, spoiled)


@dataclass
class Service:
    url: str
    line: Line
    sessions: Sessions
    storage: Folder
    open: threading.Event
    """Cleared: items wait."""
    fails: Callable[[Work], bool]
    """Which items fail."""
    unteachable: bool = False
    """Trainings fail."""


@pytest.fixture(scope="session")
def _service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = Settings(data=tmp_path_factory.mktemp("data"), hub_allow="lab/*", _env_file=None)
    sessions, storage = make_sessions(settings.database), Folder(settings.storage_folder)
    upgrade(sessions.engine)
    with sessions.write() as session:
        priors.register(session, "builtin", Path(worker.__file__).parent / "priors" / "builtin")
    line = Line(create_app(settings, sessions, storage, enqueue=lambda task: None, ping=lambda: None))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(line, log_config=None, lifespan="off"))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    service = Service(url, line, sessions, storage, threading.Event(), lambda work: False)
    service.open.set()
    over = threading.Event()
    threads = [
        threading.Thread(target=server.run, args=([listener],), daemon=True),
        threading.Thread(target=_work, args=(settings, service, over), daemon=True),
    ]
    for thread in threads:
        thread.start()
    yield service
    server.should_exit = True
    over.set()
    _at_work.set()
    for thread in threads:
        thread.join()
    listener.close()
    sessions.dispose()


@pytest.fixture
def service(_service: Service) -> Iterator[Service]:
    """The service, in which the next test finds nothing of what this one spoils."""
    yield _service
    vars(_service.line).update(vars(Line(_service.line.app)))
    _service.open.set()
    _service.fails = lambda work: False
    _service.unteachable = False
    with _service.sessions.write() as session:
        # What this one made is not taken over by the next, which may want to see it made.
        session.execute(update(Item).values(work_key="spent"))
        session.execute(delete(Training))
        session.execute(delete(Fetch))
        session.execute(delete(Prior).where(Prior.name != "builtin"))


@pytest.fixture
def run(service: Service) -> Callable[..., CliResult]:
    """Runs a command against the service; a result with exit_code, stdout and stderr."""

    def command(*arguments: object, server: str = service.url) -> CliResult:
        return CliRunner().invoke(cli.app, [str(a) for a in arguments], env={"REGROW_SERVER": server, "COLUMNS": "200"})

    return command


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as made:
        yield made


@pytest.fixture(scope="session")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO dataset of four phantoms: three to train, one to validate."""
    path = tmp_path_factory.mktemp("phantoms") / "phantoms.zip"
    write_dataset(path, 4, 7, (320, 400))
    return path


@pytest.fixture(scope="session")
def dataset_id(_service: Service, zipped: Path) -> str:
    with Client(_service.url) as client:
        return client.wait_dataset(client.upload(zipped)["id"])["id"]


@pytest.fixture(scope="session")
def _finished(_service: Service, dataset_id: str) -> str:
    with Client(_service.url) as client:
        return client.wait_job(client.create_job({"dataset_id": dataset_id})["id"])["id"]


@pytest.fixture
def finished(_service: Service, _finished: str) -> Job:
    """A job that is over: six images. Its archive may be another than in the test before."""
    with Client(_service.url) as client:
        return client.wait_job(_finished)


@pytest.fixture(scope="session")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO dataset with enough phantoms to train a prior."""
    path = tmp_path_factory.mktemp("lessons") / "lessons.zip"
    write_dataset(path, 30, 9, (100, 120))
    return path


@pytest.fixture
def bad_zip(tmp_path: Path) -> Path:
    path = tmp_path / "bad.zip"
    path.write_bytes(b"not a zip")
    return path


def _work(settings: Settings, service: Service, over: threading.Event) -> None:
    """Checks and packs as the workers do; the new image is the old one with a black corner."""
    while _at_work.wait() and not over.wait(0.02):
        check_next(settings, service.sessions, service.storage)
        if not service.open.is_set():
            continue
        with service.sessions.write() as session:
            known = session.scalars(select(Prior.sha256)).all()
            works = items.claim(session, "copyist", 4, 30, priors=known)
        _train(service)
        _fetch(service)
        for work in works:
            _settle(service, work)
        with service.sessions.write() as session:
            jobs.conclude(session)
        build_next(settings, service.sessions, service.storage)


def _train(service: Service) -> None:
    """The new prior is the one that comes with Regrow; its samples are a white square."""
    with service.sessions.write() as session:
        work = stretches.claim(session, "copyist", 30, hashes=[], jobs_wait=False)
    if work is None:
        return
    if service.unteachable:
        with service.sessions.write() as session:
            stretches.fail(session, work.claim, "invalid", "The ink was spilt.", final=True)
        return
    training_id = work.claim.id
    with service.storage.writing(training_key(training_id, "preview.png")) as file:
        Image.new("L", (8, 8), 255).save(file, "PNG")
    with service.sessions.write() as session:
        stretches.renew(session, work.claim, Noted("denoiser", 20, 40, 0.5, 0.1), 30, checkpointed=True)
    folder = service.storage.path(prior_key(training_id))
    shutil.copytree(Path(worker.__file__).parent / "priors" / "builtin", folder)
    prior = priors.describe(work.name, folder)
    prior.training_id = training_id
    with service.sessions.write() as session:
        stretches.finish(session, work, prior)


def _fetch(service: Service) -> None:
    """What is fetched is the prior that comes with Regrow; from the repository lab/gated nothing comes."""
    with service.sessions.write() as session:
        work = hauls.claim(session, "copyist", 30)
    if work is None:
        return
    if work.repo == "lab/gated":
        with service.sessions.write() as session:
            hauls.fail(session, work, "gated", "Its terms must be accepted first.", final=True)
        return
    with service.sessions.write() as session:
        hauls.renew(session, work.claim, hauls.Noted("download", 5_000_000, 20_000_000), 30)
    folder = service.storage.path(prior_key(work.claim.id))
    shutil.copytree(Path(worker.__file__).parent / "priors" / "builtin", folder)
    with service.sessions.write() as session:
        hauls.finish(session, work, priors.describe(work.name, folder))


def _settle(service: Service, work: Work) -> None:
    if service.fails(work):
        with service.sessions.write() as session:
            items.fail(session, work, "spilt_ink", "The ink was spilt.", final=True)
        return
    pixels = np.array(Image.open(service.storage.path(source_key(work.source_sha256))))
    pixels[:8, :8] = 0
    key = result_key(work.job_id, work.item_id, work.token, "jpg")
    with service.storage.writing(key) as file:
        Image.fromarray(pixels).save(file, "JPEG")
    result = Result(key, sha256(service.storage.read(key)), 0.01, {}, {})
    with service.sessions.write() as session:
        items.settle(session, work, result)
