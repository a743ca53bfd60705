"""Stored files that may go. They are noted in the transaction that deletes what refers to them, and removed after it by
the sweep: a process that dies in between leaves no file behind, and no file goes that something still needs."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, delete, func, insert, select
from sqlalchemy.orm import Session

from shared.db import chunks, lock_table
from shared.models import Archive, Dataset, Image, Item, Prior, Trash
from shared.states import DatasetState
from shared.storage import SOURCES, Storage, preview_key, prior_key, source_key


def throw(session: Session, keys: Select[Any]) -> None:
    """Note the storage keys that a query gives."""
    session.execute(insert(Trash).from_select(["key"], keys))


def throw_for(session: Session, receipt_id: str, keys: Sequence[str]) -> None:
    """Note some storage keys, so that a receipt can tell when they are dealt with."""
    for chunk in chunks(keys):
        session.execute(insert(Trash), [{"key": key, "receipt_id": receipt_id} for key in chunk])


def empty(session: Session, storage: Storage, most: int = 500) -> int:
    """Remove up to `most` of the noted files, those nobody needs; returns how many notes were dealt with.

    An original stays as long as a dataset is being checked, whose worker may just have found it there.
    """
    # No dataset may be made or claimed between the question and the removal.
    lock_table(session, Dataset)
    checking = session.scalar(select(Dataset.id).where(Dataset.state == DatasetState.CHECKING).limit(1)) is not None
    notes = select(Trash).order_by(Trash.id).limit(most).with_for_update(skip_locked=True)
    if checking:
        notes = notes.where(~Trash.key.startswith(SOURCES))
    noted = session.scalars(notes).all()
    if not noted:
        return 0
    keys = {note.key for note in noted}
    gone = sorted(keys - _needed(session, keys))
    originals = [key.rpartition("/")[2] for key in gone if key.startswith(SOURCES)]
    previews = [preview_key(sha256, upright=upright) for sha256 in originals for upright in (True, False)]
    storage.delete_all([*gone, *previews])
    session.execute(delete(Trash).where(Trash.id.in_([note.id for note in noted])))
    return len(noted)


def waiting(session: Session) -> int:
    """How many notes there are."""
    return session.scalar(select(func.count()).select_from(Trash)) or 0


def _needed(session: Session, keys: Collection[str]) -> set[str]:
    """Those of some keys that a row still refers to."""
    hashes = [key.rpartition("/")[2] for key in keys if key.startswith(SOURCES)]
    sources = select(Image.sha256).where(Image.sha256.in_(hashes))
    masks = select(Image.mask_sha256).where(Image.mask_sha256.in_(hashes))
    originals = {source_key(sha256) for sha256 in session.scalars(sources.union(masks)) if sha256}
    results = session.scalars(select(Item.result_key).where(Item.result_key.in_(keys)))
    archives = session.scalars(select(Archive.key).where(Archive.key.in_(keys)))
    made_here = session.execute(select(Prior.training_id, Prior.fetch_id))
    priors = {prior_key(made_by) for row in made_here for made_by in row if made_by}
    return originals | priors | {key for key in [*results, *archives] if key}
