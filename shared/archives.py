"""The life of a job's zip: `building` from the moment the job is over, then `ready`, or `failed` and why."""

from sqlalchemy.orm import Session

from shared import leases
from shared.leases import Claim
from shared.models import Archive
from shared.states import ArchiveState

TODO = Archive.state == ArchiveState.BUILDING


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
