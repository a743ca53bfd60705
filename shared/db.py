"""The database: one base, one clock, one way to open a transaction, on SQLite and on PostgreSQL."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Double, Engine, MetaData, create_engine, event, make_url, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.sql.expression import FunctionElement

from shared.errors import NotConfigured

_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "lustre", "glusterfs", "afs", "ceph"}
)
_WRITES = "regrow_writes"
CHUNK = 1000
"""So many rows or values are given to one statement."""

T = TypeVar("T")


class Base(DeclarativeBase):
    """Base of all rows; constraints have names, so that a migration can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class now(FunctionElement[float]):  # noqa: N801  (reads as the SQL function it is)
    """The database's own clock, in seconds since 1970. Leases use no other: the clocks of two machines differ."""

    type = Double()
    inherit_cache = True
    name = "now"


@compiles(now, "postgresql")
def _now_postgresql(_element: now, _compiler: Any, **_: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


@compiles(now, "sqlite")
def _now_sqlite(_element: now, _compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


class Sessions:
    """Opens transactions. The block is the transaction: it commits at its end, and rolls back if it raises."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._make = sessionmaker(engine, expire_on_commit=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction for reading."""
        with self._make.begin() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that will write. SQLite takes its write lock at once, since it cannot wait for it later."""
        with self._make.begin() as session:
            session.connection(execution_options={_WRITES: True})
            yield session

    def dispose(self) -> None:
        self.engine.dispose()


def make_sessions(url: str) -> Sessions:
    """Connect to the database at `url` (made on first use).

    Raises:
        NotConfigured: an SQLite file on a network file system, where its locks do not hold.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return Sessions(
            create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, hide_parameters=True)
        )
    if parsed.database and parsed.database != ":memory:":
        path = Path(parsed.database)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        kind = file_system(path.parent)
        if is_network(kind):
            raise NotConfigured(
                f"{path} lies on a network file system ({kind}), where SQLite loses data. "
                "Set REGROW_DATA to a local folder, or REGROW_DATABASE_URL to a PostgreSQL database."
            )
    engine = create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False}, hide_parameters=True)
    event.listen(engine, "connect", _sqlite_connect)
    event.listen(engine, "begin", _sqlite_begin)
    return Sessions(engine)


def lock_table(session: Session, table: type[Base]) -> None:
    """Hold off all others who would write to a table, until this transaction ends.

    On SQLite a transaction that writes holds off everybody already.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"LOCK TABLE {table.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))


def chunks(values: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """`values` in pieces of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def is_network(kind: str) -> bool:
    """Whether a kind of file system is one of a network, where SQLite's locks do not hold."""
    return kind in _NETWORK_FILE_SYSTEMS


def file_system(path: Path) -> str:
    """The kind of file system `path` lies on (`ext4`, `nfs4`, ...), or "" where the system does not tell."""
    try:
        mounts = Path("/proc/mounts").read_text()
    except OSError:
        return ""
    best, kind = "", ""
    resolved = str(path.resolve())
    for line in mounts.splitlines():
        _, mount, fs, *_ = line.split()
        mount = mount.replace("\\040", " ")
        inside = resolved == mount or resolved.startswith(mount.rstrip(os.sep) + os.sep)
        if inside and len(mount) >= len(best):
            best, kind = mount, fs
    return kind


def _sqlite_connect(connection: Any, _record: Any) -> None:
    # The driver must not open transactions of its own: `_sqlite_begin` decides which kind.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN DEFERRED")
