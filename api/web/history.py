"""What happened to a job, told from its rows: there is no log beside them."""

from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from shared.models import Item, Job


@dataclass(frozen=True, slots=True)
class History:
    """When what happened. None of the times is there before it came."""

    began: float | None
    """When the first of the items that were made last was begun."""
    latest: float | None
    """When an item was settled last."""
    interrupted: int
    """Items that were taken from a worker that vanished, and made again."""
    tried_again: int
    """Items of which an attempt failed."""


def of(session: Session, job: Job) -> History:
    """The history of a job."""
    interrupted, failed = (
        func.coalesce(func.sum(case((each > 0, 1), else_=0)), 0) for each in (Item.lapses, Item.attempts)
    )
    found = select(func.min(Item.started_at), func.max(Item.settled_at), interrupted, failed)
    began, latest, lapsed, again = session.execute(found.where(Item.job_id == job.id)).one()
    return History(began, latest, int(lapsed), int(again))
