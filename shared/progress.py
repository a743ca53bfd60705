"""How far jobs are: counts, steps, the time that is left, and what they wait for. Computed, never stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from shared import priors, workers
from shared.db import now
from shared.models import Item, Job
from shared.queue import Queue
from shared.spec import ENGINE_VERSION, ResolvedSpec
from shared.states import ItemState, Wait


@dataclass(frozen=True, slots=True)
class Progress:
    """A job in numbers."""

    counts: dict[ItemState, int]
    share: float
    """0..1, counted in sampler steps."""
    items_per_second: float | None
    eta_seconds: float | None
    """From the seconds items really took on the workers now at it; None while that is not known."""
    reused: int
    """Items that were taken over from earlier jobs."""
    waits_for: Wait | None
    """Why nobody works on what is pending; None if that is only a matter of its turn."""


def of(session: Session, job: Job) -> Progress:
    """The job in numbers."""
    return of_all(session, [job])[job.id]


def of_all(session: Session, some: Sequence[Job]) -> dict[str, Progress]:
    """Each of some jobs in numbers, by its id, with as many queries as for one."""
    rows = session.execute(
        select(
            Item.job_id,
            Item.state,
            func.count().label("items"),
            func.sum(Item.step).label("steps"),
            func.avg(Item.seconds).label("seconds"),
            func.count(Item.worker.distinct()).label("workers"),
            func.sum(now() - Item.started_at).label("elapsed"),
            func.count(Item.reused_from).label("reused"),
        )
        .where(Item.job_id.in_([job.id for job in some]))
        .group_by(Item.job_id, Item.state)
    ).all()
    by_job: dict[str, dict[ItemState, Row[Any]]] = {job.id: {} for job in some}
    for row in rows:
        by_job[row.job_id][row.state] = row
    idle = [job for job in some if _idle(job, by_job[job.id])]
    waits = _waits(session, idle) if idle else {}
    return {job.id: _progress(job, by_job[job.id], waits.get(job.id)) for job in some}


def rivals(session: Session, job: Job) -> int:
    """How many other jobs, whosever they are, want the workers now and need not wait for this one."""
    others = select(func.count()).where(
        Job.id != job.id,
        Job.finished_at.is_(None),
        Job.paused_at.is_(None),
        Job.cancelled_at.is_(None),
        Job.priority >= job.priority,
    )
    return session.scalar(others) or 0


def _idle(job: Job, by_state: Mapping[ItemState, Row[Any]]) -> bool:
    """Whether something of the job could be done, and nobody does."""
    asked_to_stop = job.paused_at is not None or job.cancelled_at is not None
    return not asked_to_stop and ItemState.PENDING in by_state and ItemState.RUNNING not in by_state


def _waits(session: Session, some: Sequence[Job]) -> dict[str, Wait | None]:
    missing = workers.missing(session).get(Queue.GPU)
    known = priors.hashes(session)
    found: dict[str, Wait | None] = {}
    for job in some:
        needed = [(known(job.owner, name), sha256) for name, sha256 in _needed(job)]
        if job.resolved["engine"] != ENGINE_VERSION:
            found[job.id] = Wait.ENGINE_CHANGED
        elif any(have is None for have, _ in needed):
            found[job.id] = Wait.PRIOR_GONE
        elif any(have != sha256 for have, sha256 in needed):
            found[job.id] = Wait.PRIOR_CHANGED
        else:
            found[job.id] = missing
    return found


def _needed(job: Job) -> list[tuple[str, str]]:
    """Names and hashes of the prior of a job and of what guides it."""
    guide = job.resolved.get("guidance_vae")
    return [(job.resolved["prior"], job.resolved["prior_sha256"])] + (
        [(guide["name"], guide["sha256"])] if guide else []
    )


def _progress(job: Job, by_state: Mapping[ItemState, Row[Any]], waits_for: Wait | None) -> Progress:
    steps = ResolvedSpec.model_validate(job.resolved).steps
    number = {state: int(row.items) for state, row in by_state.items()}
    total, left = sum(number.values()), number.get(ItemState.PENDING, 0) + number.get(ItemState.RUNNING, 0)
    running, done = by_state.get(ItemState.RUNNING), by_state.get(ItemState.DONE)
    stepped = int(running.steps or 0) if running else 0
    # Of a job whose images were all forgotten nothing is left to do.
    share = (total - left + stepped / steps) / total if total else 1.0
    rate = None
    if running and done and done.seconds:
        rate = int(running.workers) / float(done.seconds)
    elif running and stepped:
        # Nothing is done yet: the running items have come `stepped / steps` items far in their mean time so far.
        rate = stepped / steps / max(float(running.elapsed) / int(running.items), 1e-3)
    eta = (left - stepped / steps) / rate if rate else None
    return Progress(number, share, rate, eta, int(done.reused) if done else 0, waits_for)
