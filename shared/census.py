"""How the whole installation stands, in numbers, for those who run it. Whatever is done, it is counted by indexes."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, select
from sqlalchemy.orm import Session

from shared import archives, datasets, hauls, items, stretches, webhooks, workers
from shared.db import now
from shared.figures import Figures
from shared.leases import Leasable, free
from shared.models import Archive, Dataset, Fetch, Item, Job, Training, Webhook
from shared.states import ItemState

# Written out, as the index ix_item_settled has it; see `items.LIVE`.
SETTLED = Item.state.in_(
    bindparam("settled", [ItemState.DONE, ItemState.FAILED, ItemState.CANCELLED], expanding=True, literal_execute=True)
)


@dataclass(frozen=True, slots=True)
class WorkerNow:
    """A process that has lately given a sign of life."""

    name: str
    queues: tuple[str, ...]
    device: str
    trouble: str | None
    figures: Figures


@dataclass(frozen=True, slots=True)
class Census:
    """All of it."""

    items: dict[ItemState, int]
    waiting: dict[str, int]
    """What could be taken by a worker now, by its kind."""
    open_jobs: int
    oldest_waiting: float
    """Seconds since the job that has waited longest was made, or last given to a worker; 0: none waits."""
    workers: tuple[WorkerNow, ...]


def take(session: Session) -> Census:
    """Count."""
    counted = dict.fromkeys(ItemState, 0)
    for which in (items.LIVE, SETTLED):
        rows = session.execute(select(Item.state, func.count()).where(which).group_by(Item.state))
        counted |= {state: int(count) for state, count in rows}
    since = func.coalesce(Job.claimed_at, Job.created_at)
    waits = select(func.max(now() - since)).where(items.OPEN, items.any_of(items.PENDING))
    return Census(
        items=counted,
        waiting={
            "items": _count(session, select(Item.id).join(Item.job).where(items.OPEN, items.PENDING)),
            "datasets": _unheld(session, Dataset, datasets.TODO),
            "archives": _unheld(session, Archive, archives.TODO),
            "trainings": _unheld(session, Training, stretches.TODO),
            "fetches": _unheld(session, Fetch, hauls.TODO),
            "webhooks": _unheld(session, Webhook, webhooks.TODO),
        },
        open_jobs=_count(session, select(Job.id).where(Job.finished_at.is_(None))),
        oldest_waiting=max(0.0, session.scalar(waits) or 0.0),
        workers=tuple(
            WorkerNow(
                row.id,
                tuple(filter(None, row.queues.split(","))),
                row.device,
                row.trouble,
                Figures.model_validate(row.figures),
            )
            for row in workers.alive(session)
        ),
    )


def _unheld(session: Session, model: Leasable, todo: ColumnElement[bool]) -> int:
    return _count(session, select(model.created_at).where(todo, free(model)))


def _count(session: Session, rows: Select[Any]) -> int:
    return session.scalar(select(func.count()).select_from(rows.subquery())) or 0
