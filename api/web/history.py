"""What happened to a job, told from its rows and from what people told it to do: there is no log beside them."""

from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session, joinedload

from shared import audit
from shared.audit import Action
from shared.models import AuditEntry, Image, Item, Job
from shared.states import ItemState

_TOLD = (Action.PAUSED, Action.RESUMED, Action.CANCELLED, Action.RETRIED, Action.UPGRADED)
_LOST = "worker_lost"
"""The error of an item that ended too many workers."""
_MOST = 20
"""So many of a kind are told one by one, the latest."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a time."""

    at: float
    what: str
    """`asked`, `began`, `interrupted`, `again`, `latest`, `over`, or what somebody told the job: an `Action`."""
    by: str = ""
    """The name of who told it."""
    item: Item | None = None
    """What was begun again."""
    count: int = 0
    """How many were interrupted."""


@dataclass(frozen=True, slots=True)
class History:
    """What happened, in the order it did, and what has no time of its own."""

    events: tuple[Event, ...]
    interrupted: int
    """Items that were taken from a worker that vanished."""
    waiting: int
    """Those of them that are not begun again yet."""
    lost: int
    """Those of them that were given up after many workers."""
    tried_again: int
    """Items of which an attempt failed."""


def of(session: Session, job: Job) -> History:
    """The history of a job."""
    lapsed = Item.lapses > 0
    counted = (
        lapsed,
        lapsed & (Item.state == ItemState.PENDING),
        lapsed & (Item.state == ItemState.FAILED) & (Item.error["type"].as_string() == _LOST),
        Item.attempts > 0,
    )
    sums = [func.coalesce(func.sum(case((which, 1), else_=0)), 0) for which in counted]
    times = select(func.min(Item.started_at), func.max(Item.settled_at), *sums).where(Item.job_id == job.id)
    began, latest, *numbers = session.execute(times).one()
    interrupted, waiting, lost, again = map(int, numbers)
    events = [
        Event(job.created_at, "asked"),
        *_told(session, job),
        *((*_interrupted(session, job), *_begun_again(session, job)) if interrupted else ()),
    ]
    # An image that is begun again no longer tells when it first was.
    if began and not any(event.what == "interrupted" and event.at < began for event in events):
        events.append(Event(began, "began"))
    if job.finished_at:
        events.append(Event(job.finished_at, "over"))
    elif latest:
        events.append(Event(latest, "latest"))
    return History(tuple(sorted(events, key=lambda event: event.at)), interrupted, waiting, lost, again)


def _told(session: Session, job: Job) -> list[Event]:
    told = audit.entries(job.owner, None, _TOLD).where(AuditEntry.object == f"/v1/jobs/{job.id}")
    rows = session.scalars(told.order_by(AuditEntry.created_at.desc()).limit(_MOST))
    return [Event(row.created_at, row.action, row.by) for row in rows]


def _interrupted(session: Session, job: Job) -> list[Event]:
    """When workers were found to have vanished; of an item that outlived several, the last."""
    counted = select(Item.lapsed_at, func.count()).where(Item.job_id == job.id, Item.lapsed_at.is_not(None))
    rows = session.execute(counted.group_by(Item.lapsed_at).order_by(Item.lapsed_at.desc()).limit(_MOST))
    return [Event(at, "interrupted", count=count) for at, count in rows if at]


def _begun_again(session: Session, job: Job) -> list[Event]:
    """Of each image that outlived a worker, when it was begun the last time."""
    since = (Item.job_id == job.id) & (Item.lapses > 0) & Item.state.in_([ItemState.RUNNING, ItemState.DONE])
    source = joinedload(Item.image).load_only(Image.path, Image.split)
    rows = session.scalars(select(Item).where(since).order_by(Item.started_at.desc()).limit(_MOST).options(source))
    return [Event(row.started_at, "again", item=row) for row in rows if row.started_at]
