"""The life of a file that comes in pieces: each is added at its end, and with the last one it is a dataset.

An upload has the id of the dataset to be, and its bytes lie where a worker will look for them. `received` is never more
than what is stored. Who writes the bytes holds the file (`storage.Folder.growing`); the row changes only from what its
writer knew.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, literal, select, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from shared import datasets, trash
from shared.db import now
from shared.errors import Conflict, Gone, NotFound
from shared.models import Upload
from shared.reading import Reading
from shared.storage import upload_key

_EXPIRED = Upload.expires_at < now()
_UNFINISHED = Upload.received < Upload.size


@dataclass(frozen=True, slots=True)
class Growing:
    """An upload as it is while a piece is added; `received` and `size` are bytes."""

    id: str
    owner: str
    name: str
    size: int
    received: int
    reading: Reading

    @property
    def key(self) -> str:
        return upload_key(self.id)


@dataclass(frozen=True, slots=True)
class Idle:
    """An upload that nobody goes on with: its bytes so far, and for how many seconds that has been so."""

    id: str
    size: int
    age: float


def create(
    session: Session,
    owner: str,
    name: str,
    size: int,
    seconds: float,
    details: str = "",
    reading: Reading | None = None,
) -> Upload:
    """Announce a file of `size` bytes, at least 1. It expires when nothing was added to it for so many seconds.

    `details` is what its sender said, `reading` how the dataset is to be read.
    """
    options = (reading or Reading()).model_dump(exclude_defaults=True)
    upload = Upload(owner=owner, name=name, size=size, details=details, options=options, expires_at=now() + seconds)
    session.add(upload)
    session.flush()
    return upload


def get(session: Session, owner: str, upload_id: str) -> Upload:
    """The upload, if it is the owner's. One that is whole stays until it expires, so that its sender learns of it.

    Raises:
        NotFound: it is not there, or not theirs.
        Gone: it has expired unfinished.
    """
    found = session.execute(
        select(Upload, _EXPIRED & _UNFINISHED).where(Upload.id == upload_id, Upload.owner == owner)
    ).one_or_none()
    if found is None:
        raise NotFound(f"There is no upload {upload_id!r}.")
    upload, expired = found
    if expired:
        raise Gone(f"Upload {upload_id} has expired: nothing was added to it for too long. Begin anew.")
    return upload


def growing(session: Session, owner: str, upload_id: str, offset: int) -> Growing:
    """The upload, to add a piece at `offset`. Raises Conflict if it does not end there or is whole, and what `get`
    raises."""
    upload = get(session, owner, upload_id)
    if upload.received == upload.size:
        raise Conflict(f"Upload {upload_id} is whole already, and a dataset of the same id.")
    if upload.received != offset:
        raise Conflict(f"Upload {upload_id} has {upload.received} bytes so far: go on there, not at {offset}.")
    return Growing(
        id=upload.id,
        owner=upload.owner,
        name=upload.name,
        size=upload.size,
        received=upload.received,
        reading=Reading.model_validate(upload.options),
    )


def keep(session: Session, upload: Growing, received: int, seconds: float) -> float:
    """Note that the first `received` bytes are stored, durably; with the last of them there is a dataset.

    Returns when it now expires. Raises Gone if it was deleted meanwhile, or another writer was there.
    """
    as_known = (Upload.id == upload.id) & (Upload.received == upload.received)
    values = {"received": received, "expires_at": now() + seconds}
    expires_at = session.scalar(
        update(Upload)
        .where(as_known)
        .values(values)
        .returning(Upload.expires_at)
        .execution_options(synchronize_session=False)
    )
    if expires_at is None:
        raise Gone(f"Upload {upload.id} was deleted, or changed by another request.")
    if upload.received < received == upload.size:
        datasets.create(session, upload.owner, upload.id, upload.name, upload.size, upload.reading)
    return expires_at


def delete(session: Session, owner: str, upload_id: str) -> None:
    """Forget an upload, and its bytes unless they are a dataset's by now. Raises what `get` raises."""
    get(session, owner, upload_id)
    _forget(session, Upload.id == upload_id)


def sweep(session: Session) -> int:
    """Forget what has expired; returns how many."""
    return _forget(session, _EXPIRED)


def idle(session: Session, seconds: float, expires: float) -> list[Idle]:
    """Those that are not whole, and to which nothing was added for so long; `expires` as for `create`."""
    since = now() - (Upload.expires_at - expires)
    rows = session.execute(
        select(Upload.id, Upload.received, since).where(_UNFINISHED, since > seconds).order_by(Upload.expires_at)
    )
    return [Idle(*row) for row in rows]


def prune(session: Session, seconds: float, expires: float) -> int:
    """Forget them; returns how many."""
    return _forget(session, _UNFINISHED & (now() - (Upload.expires_at - expires) > seconds))


def _forget(session: Session, which: ColumnElement[bool]) -> int:
    # What the deletion itself saw decides: a piece may be added at the same moment.
    gone = session.execute(
        delete_rows(Upload)
        .where(which)
        .returning(Upload.id, Upload.received < Upload.size)
        .execution_options(synchronize_session=False)
    ).all()
    for upload_id, unfinished in gone:
        if unfinished:
            trash.throw(session, select(literal(upload_key(upload_id))))
    return len(gone)
