"""Who works here: each worker process leaves a sign of life."""

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shared.db import now
from shared.models import Worker

SEEN_EVERY = 5.0
ALIVE_FOR = 30.0
"""A worker not seen for so many seconds counts as gone."""


def seen(session: Session, name: str, queues: str, device: str) -> None:
    """Note that the worker is there now, and forget those long gone. `queues` has commas between their names."""
    session.execute(delete(Worker).where(Worker.seen_at < now() - 100 * ALIVE_FOR))
    worker = session.get(Worker, name) or Worker(id=name)
    worker.queues, worker.device, worker.seen_at = queues, device, session.scalar(select(now())) or 0.0
    session.add(worker)


def alive(session: Session) -> list[Worker]:
    """The workers seen lately."""
    return list(session.scalars(select(Worker).where(Worker.seen_at > now() - ALIVE_FOR).order_by(Worker.id)))


def served(session: Session) -> set[str]:
    """The queues somebody works on."""
    return {queue for worker in alive(session) for queue in worker.queues.split(",")}
