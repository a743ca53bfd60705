"""What must hold before anything is started: the address, the settings, the data folder."""

import contextlib
import errno
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import make_url

from shared.settings import LOOPBACK, Settings

_LONGEST_SOCKET = 100  # of the 104 (macOS) or 108 bytes a unix socket's path may have


class Refused(Exception):
    """It cannot be served like this; the message says why and what to do."""


def read_settings(data: Path | None) -> Settings:
    """The settings in force, with paths that do not depend on the folder this is called in."""
    try:
        settings = Settings() if data is None else Settings(data=data)
    except ValidationError as error:
        faults = [
            f"REGROW_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}".replace("REGROW_: ", "")
            for e in error.errors()
        ]
        raise Refused("; ".join(faults)) from None
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(Path(url.database).resolve()))
    return settings.model_copy(
        update={
            "data": settings.data.resolve(),
            "database_url": url.render_as_string(hide_password=False),
            "storage": settings.storage if settings.in_bucket else str(settings.storage_folder.resolve()),
            "priors": str(Path(settings.priors).resolve()) if settings.priors else "",
        }
    )


def check_loopback(host: str) -> None:
    """Refuses an address that others can reach."""
    if host not in LOOPBACK:
        raise Refused(
            f"{host} is not an address of this machine alone ({', '.join(LOOPBACK)}). There are no keys yet, so "
            "everybody who reaches another address could read and delete all data. From elsewhere, use an SSH tunnel: "
            "ssh -L 8000:127.0.0.1:8000 THIS_MACHINE"
        )


def check_free(host: str, port: int) -> None:
    """Refuses a port that is taken, or not ours to take."""
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            socket.create_server(address[:2], family=family).close()
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and host == "localhost":
                continue  # one of its two addresses, on a machine without IPv6
            raise Refused(f"{url(host, port)} cannot be used ({error.strerror}). Choose another with --port.") from None


@contextlib.contextmanager
def locked(data: Path) -> Iterator[int]:
    """The data folder, for one `regrow serve` at a time. Gives the descriptor that holds the lock."""
    with (folder(data) / "serve.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Refused(f"{data} is in use by another `regrow serve` (process {file.read().strip()}).") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """A private folder with a path short enough for a unix socket in it."""
    base = None if len(tempfile.gettempdir()) < _LONGEST_SOCKET - 40 else "/tmp"  # noqa: S108  (mkdtemp makes it ours)
    with tempfile.TemporaryDirectory(prefix="regrow-", dir=base, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def folder(path: Path) -> Path:
    """The folder, made if it is not there."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Refused(f"{path} cannot be made: {error.strerror}. Choose another folder with --data.") from None
    return path


def url(host: str, port: int) -> str:
    """The address as a browser takes it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
