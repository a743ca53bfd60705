"""The life of an item, all of it: claimed, renewed, settled, handed back, swept.

Every change of state is one conditional UPDATE, so that it does not matter who else tries the same. Where both are
locked, a job is locked before its items; `claim`, which has items first, never waits for a job.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Float,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased, joinedload
from sqlalchemy.sql.dml import ReturningUpdate

from shared import leases
from shared.db import now
from shared.errors import NotFound
from shared.models import Dataset, Image, Item, Job, white_of
from shared.spec import ENGINE_VERSION, ResolvedSpec
from shared.states import ItemState

LOOK_AHEAD = 8
"""So many jobs that are next in turn are looked at for one whose prior is loaded already."""
PATIENCE = 120.0
"""Seconds for which the job whose turn it is may be passed over by such jobs, after which it goes first."""
_LOST = {"type": "worker_lost", "detail": leases.GIVEN_UP}
# With its values written out, as the index ix_item_live has them: neither SQLite nor a prepared statement of PostgreSQL
# would else know that the index holds all such rows.
LIVE = Item.state.in_(bindparam("live", [ItemState.PENDING, ItemState.RUNNING], expanding=True, literal_execute=True))
PENDING = LIVE & (Item.state == ItemState.PENDING)
OPEN = (
    Job.finished_at.is_(None)
    & Job.paused_at.is_(None)
    & Job.cancelled_at.is_(None)
    # Work for another engine waits until its owner has decided: a job is never mixed silently.
    & (Job.resolved["engine"].as_string() == ENGINE_VERSION)
)


@dataclass(frozen=True, slots=True)
class Work:
    """An item as a worker needs it, free of the database."""

    item_id: int
    job_id: str
    dataset_id: str
    token: str
    variant: int
    seed: int
    path: str
    source_sha256: str
    white: int
    boxes: tuple[tuple[float, ...], ...]
    outlines: tuple[tuple[float, ...] | None, ...]
    mask_sha256: str | None
    upright: bool
    resolved: ResolvedSpec
    suspect: bool
    """It outlived a worker. Nothing else is to be held by the process while this is made."""
    owner: str
    request_id: str | None
    """Of the request that made its job."""
    batch: int | None = None
    """How many its job wants to be sampled at once; None leaves it open."""

    @property
    def ids(self) -> dict[str, str | None]:
        """What lines of the log about its job are to carry."""
        return {"job": self.job_id, "project": self.owner, "request": self.request_id}


@dataclass(frozen=True, slots=True)
class Result:
    """A finished item: where its image lies, and what was noted about it."""

    key: str
    sha256: str
    seconds: float
    measures: dict[str, Any]
    made_by: dict[str, Any]


def get(session: Session, owner: str, job_id: str, item_id: int) -> Item:
    """An item of the owner's job.

    Raises:
        NotFound: the job is not theirs, or has no such item.
    """
    item = session.get(Item, item_id, options=[joinedload(Item.job), joinedload(Item.image), joinedload(Item.verdict)])
    if item is None or item.job_id != job_id or item.job.owner != owner:
        raise NotFound(f"Job {job_id} has no item {item_id}.")
    return item


def claim(
    session: Session,
    worker: str,
    limit: int,
    lease: float,
    *,
    priors: Collection[str],
    warm: Collection[str] = (),
    fits: Callable[[ResolvedSpec, int | None], int] | None = None,
) -> list[Work]:
    """Take up to `limit` items of one job for `lease` seconds.

    Jobs come by priority, then in turn: first the owner served longest ago, then their job served longest ago. Among
    the next few of equal priority, one whose prior is `warm` goes first, unless that made the first wait too long. An
    item that outlived a worker is taken alone, so that one that kills its process takes no others with it.

    Args:
        priors: hashes of the priors that the worker has; only their jobs are taken.
        warm: of these, the ones that are loaded.
        fits: of a job and of how many it wants at once (None: as many as fit), how many to take; else it is `limit`.
    """
    for job_id in _in_turn(session, priors, warm):
        token = leases.new_token()
        many = limit if fits is None else min(limit, _fitting(session, job_id, fits))
        for suspect, most in ((False, many), (True, 1)):
            taken = _take(session, job_id, token, worker, most, lease, suspect=suspect)
            if taken:
                _note_turn(session, job_id)
                return _works(session, taken, token)
    return []


def renew(session: Session, token: str, step: int, lease: float) -> bool:
    """Hold the batch for another `lease` seconds and note the step it is at.

    Returns False when the worker should stop: the batch is no longer its own, or its job was cancelled.
    """
    mine = update(Item).where(Item.token == token, Item.state == ItemState.RUNNING)
    if leases.changed(session, mine.values(lease_until=now() + lease, step=step)) == 0:
        return False
    cancelled = select(Job.cancelled_at).join(Item, Item.job_id == Job.id).where(Item.token == token).limit(1)
    return session.scalar(cancelled) is None


def settle(session: Session, work: Work, result: Result) -> bool:
    """The item is `done`; False if the claim was lost meanwhile, and then the caller removes its file."""
    return release(
        session,
        _held(work),
        state=ItemState.DONE,
        settled_at=now(),
        result_key=result.key,
        result_sha256=result.sha256,
        seconds=result.seconds,
        measures=result.measures,
        made_by=result.made_by,
        step=work.resolved.steps,
        error=None,
    )


def fail(session: Session, work: Work, kind: str, detail: str, *, final: bool) -> bool:
    """The item itself raised. It is tried again, unless that is hopeless (`final`) or was its last attempt."""
    over = Item.attempts + 1 >= (1 if final else leases.MAX_ATTEMPTS)
    return release(
        session,
        _held(work),
        state=case((over, ItemState.FAILED), else_=ItemState.PENDING),
        settled_at=case((over, now())),
        attempts=Item.attempts + 1,
        error={"type": kind, "detail": detail},
        step=0,
    )


def hand_back(session: Session, token: str) -> int:
    """Return what is left of a batch unharmed: no attempt is counted."""
    return _return(session, Item.token == token, lapsed=False)


def sweep(session: Session) -> int:
    """Free items whose worker stopped renewing; returns how many."""
    return _return(session, Item.token.is_not(None) & (Item.lease_until < now()), lapsed=True)


def waiting(session: Session, priors: Collection[str] | None = None) -> bool:
    """Whether an item waits that may be claimed now; `priors` as in `claim`, None: whoever may claim it."""
    jobs = select(Job.id).where(OPEN, any_of(PENDING)).limit(1)
    if priors is not None:
        jobs = jobs.where(_can_be_made(priors))
    return session.scalar(jobs) is not None


def counts(session: Session, job_id: str) -> dict[ItemState, int]:
    """How many items are in each state."""
    rows = session.execute(select(Item.state, func.count()).where(Item.job_id == job_id).group_by(Item.state))
    return {state: int(count) for state, count in rows}


def any_of(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether the job of the statement around this has such an item; for `LIVE` and `PENDING`, which have an index."""
    # Not EXISTS, for which PostgreSQL may walk past every item that is done: only ix_item_live has this order.
    first = select(Item.id).where(Item.job_id == Job.id, which).order_by(Item.state, Item.lapses, Item.id).limit(1)
    return first.scalar_subquery().is_not(None)


def release(session: Session, which: ColumnElement[bool], **values: Any) -> bool:
    """Write `values` to items and let go of them; False if there is no such item."""
    return leases.changed(session, update(Item).where(which).values(token=None, lease_until=None, **values)) > 0


def _in_turn(session: Session, priors: Collection[str], warm: Collection[str]) -> list[str]:
    """The jobs to try, best first."""
    rows = session.execute(_NEXT_JOBS, {"priors": list(priors)}).all()
    if rows and rows[0].waited < PATIENCE:
        first = rows[0].priority
        rows = sorted(rows, key=lambda row: 2 if row.priority != first else row.prior not in warm)
    return [row.id for row in rows]


def _can_be_made(priors: Collection[str] | BindParameter[str]) -> ColumnElement[bool]:
    guide = Job.resolved[("guidance_vae", "sha256")].as_string()
    return and_(Job.resolved["prior_sha256"].as_string().in_(priors), or_(guide.is_(None), guide.in_(priors)))


def _fitting(session: Session, job_id: str, fits: Callable[[ResolvedSpec, int | None], int]) -> int:
    job = session.execute(_ASKED, {"of_job": job_id}).first()
    # Deleted at this very moment: nothing of it will be taken.
    return 1 if job is None else fits(ResolvedSpec.model_validate(job.resolved), job.batch)


def _note_turn(session: Session, job_id: str) -> None:
    # Somebody who has the job waits perhaps for the items we have: without a wait of ours nobody is locked out, and
    # one turn that is not noted does no harm.
    free = select(Job.id).where(Job.id == job_id).with_for_update(skip_locked=True).scalar_subquery()
    leases.changed(session, update(Job).where(Job.id == free).values(claimed_at=now()))


def _take(
    session: Session, job_id: str, token: str, worker: str, limit: int, lease: float, *, suspect: bool
) -> Sequence[int]:
    values = {"of_job": job_id, "most": limit, "by": token, "who": worker, "lease": lease}
    return session.scalars(_TAKE_SUSPECT if suspect else _TAKE, values).all()


def _works(session: Session, item_ids: Sequence[int], token: str) -> list[Work]:
    rows = session.execute(_TAKEN, {"ids": item_ids}).all()
    return [
        Work(
            item_id=row.id,
            job_id=row.job_id,
            dataset_id=row.dataset_id,
            token=token,
            variant=row.variant,
            seed=row.seed,
            path=row.path,
            source_sha256=row.sha256,
            white=white_of(row.mode, row.white),
            boxes=tuple(tuple(box) for box in row.boxes),
            outlines=tuple(None if outline is None else tuple(outline) for outline in row.outlines),
            mask_sha256=row.mask_sha256,
            upright=row.upright,
            resolved=ResolvedSpec.model_validate(row.resolved),
            suspect=row.lapses > 0,
            owner=row.owner,
            request_id=row.request_id,
            batch=row.batch,
        )
        for row in rows
    ]


def _held(work: Work) -> ColumnElement[bool]:
    return (Item.id == work.item_id) & (Item.token == work.token) & (Item.state == ItemState.RUNNING)


def _return(session: Session, which: ColumnElement[bool], *, lapsed: bool) -> int:
    """Running items go back to the queue, or end for good after many lapses."""
    running = which & (Item.state == ItemState.RUNNING)
    worn = Item.lapses + int(lapsed) >= leases.MAX_LAPSES
    values = {
        "state": case((worn, ItemState.FAILED), else_=ItemState.PENDING),
        "settled_at": case((worn, now())),
        "lapses": Item.lapses + int(lapsed),
        "error": case((worn, literal(_LOST, Item.error.type)), else_=Item.error),
        "step": 0,
    }
    if lapsed:
        values["lapsed_at"] = now()
    return leases.changed(session, update(Item).where(running).values(token=None, lease_until=None, **values))


# What `claim` says, made once: to make it anew took as long as the database takes to do it.


def _next_jobs() -> Select[tuple[str, int, str, float]]:
    other = aliased(Job)
    served = select(func.max(other.claimed_at)).where(other.owner == Job.owner).scalar_subquery()
    prior = Job.resolved["prior_sha256"].as_string()
    since = func.coalesce(Job.claimed_at, Job.created_at)
    return (
        select(Job.id, Job.priority, prior.label("prior"), (now() - since).label("waited"))
        .where(OPEN, any_of(PENDING), _can_be_made(bindparam("priors", expanding=True)))
        .order_by(
            Job.priority.desc(),
            func.coalesce(served, 0.0),
            func.coalesce(Job.claimed_at, 0.0),
            Job.created_at,
            Job.id,
        )
        .limit(LOOK_AHEAD)
    )


def _taking(lapsed: ColumnElement[bool]) -> ReturningUpdate[int]:
    # In the order of ix_item_live, and of no other index: PostgreSQL would walk the primary key past every item that is
    # done, in the hope of meeting a pending one soon. For that it must not know that all `lapses` are equal.
    picked = (
        select(Item.id)
        .where(Item.job_id == bindparam("of_job"), PENDING, lapsed)
        .order_by(Item.lapses, Item.id)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("picked")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return (
        update(Item)
        .where(Item.id.in_(select(picked.c.id)))
        .values(
            state=ItemState.RUNNING,
            token=bindparam("by"),
            lease_until=now() + bindparam("lease", type_=Float),
            worker=bindparam("who"),
            step=0,
            started_at=now(),
        )
        .returning(Item.id)
        .execution_options(synchronize_session=False)
    )


_NEXT_JOBS = _next_jobs()
_TAKE, _TAKE_SUSPECT = _taking(Item.lapses <= 0), _taking(Item.lapses > 0)
_OF_ITEM = Item.id, Item.job_id, Item.variant, Item.seed, Item.lapses
_OF_IMAGE = Image.path, Image.sha256, Image.mode, Image.boxes, Image.outlines, Image.mask_sha256, Image.upright
_OF_JOB = Job.dataset_id, Job.resolved, Job.owner, Job.request_id
_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = (*_OF_ITEM, *_OF_IMAGE, *_OF_JOB)
_BATCH = Job.spec[("sampler", "batch")].as_integer().label("batch")
_ASKED = select(Job.resolved, _BATCH).where(Job.id == bindparam("of_job"))
_TAKEN = (
    select(*_COLUMNS, Dataset.white, _BATCH)
    .join(Item.image)
    .join(Item.job)
    .join(Job.dataset)
    .where(Item.id.in_(bindparam("ids", expanding=True)))
    .order_by(Item.id)
)
