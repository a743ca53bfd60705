"""How far jobs are: counts, steps, and the time that is left. Computed, never stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from shared.db import now
from shared.models import Item, Job
from shared.spec import ResolvedSpec
from shared.states import ItemState


@dataclass(frozen=True, slots=True)
class Progress:
    """A job in numbers."""

    counts: dict[ItemState, int]
    share: float
    """0..1, counted in sampler steps."""
    items_per_second: float | None
    eta_seconds: float | None
    """From the seconds items really took on the workers now at it; None while that is not known."""


def of(session: Session, job: Job) -> Progress:
    """The job in numbers: one query."""
    return of_all(session, [job])[job.id]


def of_all(session: Session, some: Sequence[Job]) -> dict[str, Progress]:
    """Each of some jobs in numbers, by its id: one query for all."""
    rows = session.execute(
        select(
            Item.job_id,
            Item.state,
            func.count().label("items"),
            func.sum(Item.step).label("steps"),
            func.avg(Item.seconds).label("seconds"),
            func.count(Item.token.distinct()).label("batches"),
            func.sum(now() - Item.started_at).label("elapsed"),
        )
        .where(Item.job_id.in_([job.id for job in some]))
        .group_by(Item.job_id, Item.state)
    ).all()
    by_job: dict[str, dict[ItemState, Row[Any]]] = {job.id: {} for job in some}
    for row in rows:
        by_job[row.job_id][row.state] = row
    return {job.id: _progress(job, by_job[job.id]) for job in some}


def _progress(job: Job, by_state: Mapping[ItemState, Row[Any]]) -> Progress:
    steps = ResolvedSpec.model_validate(job.resolved).steps
    number = {state: int(row.items) for state, row in by_state.items()}
    total, left = sum(number.values()), number.get(ItemState.PENDING, 0) + number.get(ItemState.RUNNING, 0)
    running, done = by_state.get(ItemState.RUNNING), by_state.get(ItemState.DONE)
    stepped = int(running.steps or 0) if running else 0
    share = (total - left + stepped / steps) / total
    rate = None
    if running and done and done.seconds:
        rate = int(running.batches) / float(done.seconds)
    elif running and stepped:
        # Nothing is done yet: the running items have come `stepped / steps` items far in their mean time so far.
        rate = stepped / steps / max(float(running.elapsed) / int(running.items), 1e-3)
    return Progress(number, share, rate, (left - stepped / steps) / rate if rate else None)
