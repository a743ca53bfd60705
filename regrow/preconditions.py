"""What must hold before anything is started: the address, the settings, the data folder."""

import contextlib
import errno
import fcntl
import os
import shlex
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import inspect, make_url
from sqlalchemy.exc import DatabaseError

from shared import keys
from shared.db import make_sessions
from shared.errors import RegrowError, told
from shared.models import ApiKey
from shared.settings import LOOPBACK, Settings

_LONGEST_SOCKET = 100  # of the 104 (macOS) or 108 bytes a unix socket's path may have


class Refused(Exception):
    """It cannot be served like this; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the service is to be found; `tls` is a certificate and its key."""

    host: str
    port: int
    tls: tuple[Path, Path] | None = None

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in LOOPBACK

    @property
    def url(self) -> str:
        """As a browser takes it."""
        return self._url(self.host)

    @property
    def from_here(self) -> str:
        """As this machine reaches it."""
        return self._url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host))  # noqa: S104  (looked for)

    def _url(self, host: str) -> str:
        name = f"[{host}]" if ":" in host else host
        return f"http{'s' if self.tls else ''}://{name}:{self.port}"


def read_settings(data: Path | None) -> Settings:
    """The settings in force, with paths that do not depend on the folder this is called in."""
    try:
        settings = Settings() if data is None else Settings(data=data)
    except ValidationError as error:
        faults = [
            f"REGROW_{each.where.replace('.', '_').upper()}: {each.what}".replace("REGROW_: ", "")
            for each in told(error.errors())
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


def check_key(settings: Settings) -> None:
    """Refuses a service that nobody could enter: where a key is needed, one must be there before anything is started.

    Nothing is made or changed for that, a database least of all.
    """
    database = make_url(settings.database)
    named = database.render_as_string(hide_password=True)
    file = database.database if database.get_backend_name() == "sqlite" else None
    try:
        if (file is None or Path(file).is_file()) and _has_key(settings.database):
            return
    except RegrowError as error:
        raise Refused(error.detail) from None
    except DatabaseError as error:
        raise Refused(f"The database {named} cannot be used: {error.orig}") from None
    where = shlex.quote(str(settings.data))
    raise Refused(
        "Nobody could use this: whoever is not on this machine needs a key (with --require-key everybody), and there "
        f"is none. Make one first: regrow keys create --project PROJECT --name WHO --data {where}"
    )


def check_tls(tls: tuple[Path, Path]) -> None:
    """Refuses a certificate and a key that do not go together, or cannot be read without asking somebody."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*tls, password="")
    except OSError as error:
        said = f"{tls[0]} and {tls[1]} are no certificate and its key ({error.strerror or error})."
        raise Refused(f"{said} Both are PEM files; the first has the whole chain, the second no passphrase.") from None


def check_free(address: Address) -> None:
    """Refuses a port that is taken, or not ours to take, and an address that is not this machine's."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refused(f"{address.host} is no address: {error.strerror}.") from None
    for family, _, _, _, each in found:
        try:
            socket.create_server(each[:2], family=family).close()
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and address.host == "localhost":
                continue  # one of its two addresses, on a machine without IPv6
            advice = "Choose another with --port, or --host."
            raise Refused(f"{address.url} cannot be used ({error.strerror}). {advice}") from None


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


def _has_key(database: str) -> bool:
    sessions = make_sessions(database)
    try:
        with sessions.read() as session:
            return inspect(session.connection()).has_table(ApiKey.__tablename__) and keys.any_valid(session)
    finally:
        sessions.dispose()
