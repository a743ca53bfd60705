"""A service for the occasion: started for one command where none runs, and ended with it."""

import importlib.util
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from regrow import DEFAULT_URL
from regrow.outcome import Exit, fail

if TYPE_CHECKING:
    from regrow.answers import Job
    from regrow.client import Client

_TICK = 0.2


@contextmanager
def served(server: str) -> Iterator[str]:
    """The address of a service: `server`, or one started for the block if nobody named a server, none answers, and the
    service is installed here. It keeps its data where `regrow serve` does, says what it does on standard error, and
    ends with this process, however that ends."""
    if server != DEFAULT_URL or _answers(f"{server}/healthz") or importlib.util.find_spec("worker") is None:
        yield server
        return
    typer.echo(f"No service answers at {server}: one is started for the occasion.", err=True)
    port = _free_port()
    command = [sys.executable, "-m", "regrow", "serve", "--with-parent", "--port", str(port)]
    # A group of its own: Ctrl-C is for this process, which ends the other when it is done with it.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, process_group=0)
    before = {kind: signal.signal(kind, _interrupted) for kind in (signal.SIGTERM, signal.SIGHUP)}
    try:
        _wait(process, url := f"http://127.0.0.1:{port}")
        yield url
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
        _end(process)


@contextmanager
def kept(regrow: "Client", jobs: "Sequence[Job]") -> Iterator[None]:
    """For the time jobs of such a service are waited for: when that is interrupted they are ended, so that they are not
    made beside the next ones, and their images are taken over by those."""
    try:
        yield
    except KeyboardInterrupt:
        for job in jobs:
            regrow.cancel(job["id"])
        fail(Exit.INTERRUPTED, "\nWhat is made so far is kept: the same command goes on from there.")


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    while not _answers(f"{url}/readyz"):
        if process.poll() is not None:
            fail(Exit.USAGE, "The service could not be started; why is said above.")
        time.sleep(_TICK)


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.terminate()
        process.wait()
    except KeyboardInterrupt:
        process.terminate()  # the second time it does not wait for its workers
        process.wait()


def _answers(url: str) -> bool:
    # It takes a third of a second to import, which `--help` need not wait for.
    import httpx

    try:
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _interrupted(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
