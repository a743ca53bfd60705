"""A haul: what one worker does of a fetch, from its claim until the prior is there, or it fails or is handed back.

Every change of state is one conditional UPDATE. What has come of a prior lies in a folder of its own, and whoever takes
the fetch next goes on with the bytes there.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, literal, select, update
from sqlalchemy.orm import Session

from shared import leases, priors, trash
from shared.db import now
from shared.keys import LOCAL
from shared.leases import MAX_LAPSES, Claim
from shared.models import Fetch, Prior
from shared.states import LIVE_FETCH, FetchState
from shared.storage import fetch_key

PAUSES = (30.0, 300.0)
"""Seconds before the second attempt and the third; then it has failed."""
TODO = Fetch.state.in_(LIVE_FETCH) & (Fetch.lapses < MAX_LAPSES) & (Fetch.next_at <= now())


@dataclass(frozen=True, slots=True)
class Work:
    """A fetch as a worker needs it, free of the database."""

    claim: Claim
    name: str
    repo: str
    revision: str
    file: str | None
    architecture: str | None
    variant: str | None
    attempts: int
    """Those that failed."""
    ids: dict[str, str | None]
    """What lines of the log about it are to carry."""

    @property
    def source(self) -> str:
        """Where it comes from."""
        return f"{self.repo}@{self.revision}"


@dataclass(frozen=True, slots=True)
class Noted:
    """How far a fetch is: bytes that are here, and those there are, 0 while that is not known."""

    stage: str = ""
    received: int = 0
    size: int = 0


def claim(session: Session, worker: str, lease: float) -> Work | None:
    """Take the oldest fetch whose time has come."""
    started = {"state": FetchState.RUNNING, "worker": worker, "claimed_at": now()}
    taken = leases.claim(session, Fetch, TODO, lease, **started)
    if taken is None:
        return None
    row = session.get_one(Fetch, taken.id)
    return Work(
        claim=taken,
        name=row.name,
        repo=row.repo,
        revision=row.revision,
        file=row.options["file"],
        architecture=row.options["architecture"],
        variant=row.options["variant"],
        attempts=row.attempts,
        ids=leases.ids(session, Fetch, taken),
    )


def renew(session: Session, claim: Claim, noted: Noted, lease: float) -> bool:
    """Hold it for another `lease` seconds and note how far it is; False when the worker should stop.

    Once more is here than ever, workers that vanished before it are forgotten: they kept nobody from getting on.
    """
    known: dict[str, object] = {"stage": noted.stage}
    if noted.size:
        known |= {"received": noted.received, "size": noted.size}
        known["lapses"] = case((Fetch.received < noted.received, 0), else_=Fetch.lapses)
    renewed = update(Fetch).where(_held(claim)).values(lease_until=now() + lease, **known)
    return leases.changed(session, renewed) == 1


def finish(session: Session, work: Work, prior: Prior) -> bool:
    """It is `done`, and the prior installed; False if the claim was lost meanwhile, and then nothing is written.

    What the operator has fetched, without a key on the server itself, is for all, as what they add there is.

    Raises:
        Conflict: a prior of that name was installed meanwhile by other means.
    """
    done = {"state": FetchState.DONE, "finished_at": now(), "received": Fetch.size, "stage": "", "error": None}
    if not leases.settle(session, Fetch, work.claim, **done):
        return False
    owner = session.scalars(select(Fetch.owner).where(Fetch.id == work.claim.id)).one()
    priors.check_free(session, owner, work.name, work.claim.id)
    prior.owner = priors.EVERYBODYS if owner == LOCAL else owner
    prior.fetch_id, prior.source = work.claim.id, work.source
    session.add(prior)
    trash.throw(session, select(literal(fetch_key(work.claim.id))))
    return True


def fail(session: Session, work: Work, kind: str, detail: str, *, final: bool, progressed: bool = False) -> bool:
    """It raised. It goes on later with what is here, unless that is hopeless (`final`) or was its last attempt; one
    that brought bytes (`progressed`) makes up for those before it."""
    attempts = 1 if progressed else work.attempts + 1
    over = final or attempts > len(PAUSES)
    return leases.settle(
        session,
        Fetch,
        work.claim,
        state=FetchState.FAILED if over else FetchState.PENDING,
        finished_at=now() if over else None,
        next_at=now() if over else now() + PAUSES[attempts - 1],
        attempts=attempts,
        error={"type": kind, "detail": detail},
    )


def hand_back(session: Session, claim: Claim) -> bool:
    """Let go of it unharmed."""
    return leases.settle(session, Fetch, claim, state=FetchState.PENDING)


def sweep(session: Session) -> int:
    """Free what vanished workers held, and give up on what ends its workers; returns how many."""
    lost = (Fetch.state == FetchState.RUNNING) & (Fetch.lease_until < now())
    worn = Fetch.lapses + 1 >= MAX_LAPSES
    gone = {"type": "worker_lost", "detail": leases.GIVEN_UP}
    values = {
        "state": case((worn, FetchState.FAILED), else_=FetchState.PENDING),
        "finished_at": case((worn, now())),
        "lapses": Fetch.lapses + 1,
        "error": case((worn, literal(gone, Fetch.error.type)), else_=Fetch.error),
    }
    return leases.changed(session, update(Fetch).where(lost).values(token=None, lease_until=None, **values))


def waiting(session: Session) -> bool:
    """Whether a fetch waits and nobody is at it."""
    return leases.waiting(session, Fetch, TODO)


def _held(claim: Claim) -> ColumnElement[bool]:
    return (Fetch.id == claim.id) & (Fetch.token == claim.token) & (Fetch.state == FetchState.RUNNING)
