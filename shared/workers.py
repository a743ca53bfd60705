"""Who works here: each worker process leaves a sign of life."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shared.db import now
from shared.figures import Figures
from shared.models import Worker
from shared.queue import Queue
from shared.states import Wait

SEEN_EVERY = 5.0
ALIVE_FOR = 30.0
"""A worker not seen for so many seconds counts as gone."""


def seen(
    session: Session,
    name: str,
    queues: str,
    device: str,
    trouble: Wait | None = None,
    figures: Mapping[str, Any] | None = None,
) -> None:
    """Note that the worker is there now, what keeps it from work, and what it has counted; forget those long gone.

    `queues` has commas between their names. The sweep has none, and is no worker otherwise.
    """
    session.execute(delete(Worker).where(Worker.seen_at < now() - 100 * ALIVE_FOR))
    worker = session.get(Worker, name) or Worker(id=name)
    worker.queues, worker.device, worker.trouble = queues, device, trouble
    worker.figures = dict(figures or {})
    worker.seen_at = session.scalar(select(now())) or 0.0
    session.add(worker)


def alive(session: Session) -> list[Worker]:
    """The workers seen lately."""
    return list(session.scalars(select(Worker).where(Worker.seen_at > now() - ALIVE_FOR).order_by(Worker.id)))


def missing(session: Session) -> dict[Queue, Wait]:
    """The queues nobody can work on at present, and why."""
    found: dict[Queue, list[str | None]] = {queue: [] for queue in Queue}
    for worker in alive(session):
        for queue in filter(None, worker.queues.split(",")):
            found[Queue(queue)].append(worker.trouble)
    return {
        queue: Wait(troubles[0]) if troubles and troubles[0] else Wait.NO_WORKER
        for queue, troubles in found.items()
        if all(troubles)
    }


def too_large(session: Session, prior_sha256: str) -> int | None:
    """From which long side in pixels on, images of a prior did not fit the memory of any worker that is there and makes
    images; 0: the prior itself does not. None if one of them may do it, or none is there."""
    return _most(session, lambda figures: figures.too_large.get(prior_sha256))


def largest(session: Session, footprint_key: str) -> int | None:
    """The largest long side in pixels of which an image fits the memory of a worker that is there and makes images;
    None if one of them does not know yet, or none is there. `footprint_key` is that of the spec."""
    return _most(session, lambda figures: figures.largest.get(footprint_key))


def _most(session: Session, told: Callable[[Figures], int | None]) -> int | None:
    """The most that those who make images tell, if all of them do."""
    at_work = [worker for worker in alive(session) if Queue.GPU in worker.queues.split(",")]
    found = [told(Figures.model_validate(worker.figures)) for worker in at_work]
    known = [each for each in found if each is not None]
    return max(known) if known and len(known) == len(found) else None
