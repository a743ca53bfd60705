"""The life of a job's zip: `building` from the moment the job is over, then `ready`, or `failed` and why.

One that was `pruned` took up space and is gone; all it was made of is there, so that it can be ordered anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from shared import leases, trash
from shared.db import now
from shared.leases import Claim
from shared.models import Archive, Job
from shared.states import ArchiveState

TODO = Archive.state == ArchiveState.BUILDING


@dataclass(frozen=True, slots=True)
class Old:
    """A zip that nobody has ordered for a while; `size` in bytes, `age` in seconds."""

    job_id: str
    key: str
    size: int
    age: float


def claim(session: Session, lease: float) -> Claim | None:
    """Take the oldest archive that waits to be built; the claim's id is its job's."""
    return leases.claim(session, Archive, TODO, lease)


def settle(session: Session, claim: Claim, *, key: str, sha256: str, size: int) -> bool:
    """The archive is `ready`; False if the claim was lost meanwhile."""
    return leases.settle(session, Archive, claim, state=ArchiveState.READY, key=key, sha256=sha256, size=size)


def fail(session: Session, claim: Claim, error: str) -> bool:
    """The archive cannot be built, and `error` says why."""
    return leases.settle(session, Archive, claim, state=ArchiveState.FAILED, error=error)


def waiting(session: Session) -> bool:
    """Whether an archive waits to be built and nobody does."""
    return leases.waiting(session, Archive, TODO)


def sweep(session: Session) -> int:
    """Give up on archives that end their workers; returns how many."""
    return leases.give_up(session, Archive, TODO, state=ArchiveState.FAILED, error=leases.GIVEN_UP)


def old(session: Session, seconds: float) -> list[Old]:
    """Those that were ordered longer ago than that, oldest first."""
    rows = session.execute(
        select(Archive.job_id, Archive.key, Archive.size, now() - Archive.created_at)
        .where(_old(seconds))
        .order_by(Archive.created_at)
    )
    return [Old(job_id, key or "", size or 0, age) for job_id, key, size, age in rows]


def prune(session: Session, seconds: float) -> int:
    """Let those go that were ordered longer ago than that; returns how many."""
    trash.throw(session, select(Archive.key).where(_old(seconds)))
    nothing = dict.fromkeys(("key", "sha256", "size"))
    return leases.changed(session, update(Archive).where(_old(seconds)).values(state=ArchiveState.PRUNED, **nothing))


def rebuild(session: Session, job_id: str) -> bool:
    """Have one that was pruned built again; False if it was not."""
    pruned = (Archive.job_id == job_id) & (Archive.state == ArchiveState.PRUNED)
    anew = {"state": ArchiveState.BUILDING, "created_at": now(), "lapses": 0}
    return leases.changed(session, update(Archive).where(pruned).values(anew)) > 0


def order(session: Session, job_id: str) -> None:
    """Have the zip of a job built that has none."""
    session.add(Archive(job_id=job_id))
    session.execute(update(Job).where(Job.id == job_id).values(revision=Job.revision + 1))


def again(session: Session, which: ColumnElement[bool], **values: Any) -> Sequence[str]:
    """Have zips built anew, with `values` of their rows changed; a worker that is at one finds it lost. Returns the ids
    of their jobs. The caller throws away the files."""
    fresh = dict.fromkeys(("token", "lease_until", "key", "sha256", "size", "error"))
    anew = (
        update(Archive).where(which).values(state=ArchiveState.BUILDING, lapses=0, created_at=now(), **fresh, **values)
    )
    job_ids = session.scalars(anew.returning(Archive.job_id).execution_options(synchronize_session=False)).all()
    more = update(Job).where(Job.id.in_(job_ids)).values(revision=Job.revision + 1)
    session.execute(more.execution_options(synchronize_session=False))
    return job_ids


def _old(seconds: float) -> ColumnElement[bool]:
    built = (Archive.state == ArchiveState.READY) & Archive.key.is_not(None)
    return built & (Archive.created_at < now() - seconds)
