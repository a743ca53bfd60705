"""Wiring only: each task does what work there is for a while, and sends its own hint again if more waits.

A task that found nothing to do sends none: what waits then is not for this worker, and the sweep hints again.
"""

import logging
import time
from collections.abc import Callable

from celery import shared_task
from sqlalchemy.orm import Session

from shared import archives, datasets, hauls, items, jobs, logs, stretches, webhooks
from shared.queue import Task
from worker.main import Bench, bench, studio

log = logging.getLogger(__name__)


STINT = 30.0
"""Seconds after which a task makes way for a new one, though more work waits: between two pieces of work it need not
go by way of the broker, and a worker that is to be exchanged is not waited for much longer."""


@shared_task(name=Task.INGEST)
def ingest() -> None:
    from worker.ingest import check_next

    _stint(Task.INGEST, lambda at: check_next(at.settings, at.sessions, at.storage), datasets.waiting)


@shared_task(name=Task.FETCH)
def fetch() -> None:
    from worker.fetch import OTHERS, fetch_next

    def work(at: Bench) -> bool:
        def make_way() -> None:
            # It goes on behind the others that wait.
            for task in (*OTHERS, Task.FETCH):
                at.enqueue(task)

        return fetch_next(at.settings, at.sessions, at.storage, at.name, make_way)

    _stint(Task.FETCH, work, hauls.waiting)


@shared_task(name=Task.EXPAND)
def expand() -> None:
    from worker.expand import expand_next
    from worker.overlap import overlapping

    at = bench()

    def conclude() -> None:
        with at.sessions.write() as session:
            finished = jobs.conclude(session)
        if finished:
            at.enqueue(Task.ARCHIVE)

    with overlapping(conclude) as overlap:
        _stint(
            Task.EXPAND, lambda at: bool(expand_next(studio(), overlap, lambda: at.enqueue(Task.EXPAND))), items.waiting
        )
    # Also where nothing was made: another worker's last item may have been settled at the same moment as ours.
    conclude()


@shared_task(name=Task.ARCHIVE)
def archive() -> None:
    from worker.archive import build_next

    _stint(Task.ARCHIVE, lambda at: build_next(at.settings, at.sessions, at.storage), archives.waiting)
    at = bench()
    with at.sessions.read() as session:
        untold = webhooks.waiting(session)
    if untold:
        at.enqueue(Task.NOTIFY)


@shared_task(name=Task.NOTIFY)
def notify() -> None:
    from worker.webhook import deliver_next

    _stint(Task.NOTIFY, lambda at: deliver_next(at.settings, at.sessions), webhooks.waiting)


@shared_task(name=Task.TRAIN)
def train() -> None:
    from worker.train import train_next

    def work(at: Bench) -> bool:
        def make_way() -> None:
            at.enqueue(Task.EXPAND)
            # Behind the items that wait, so that it goes on as soon as there are no more.
            at.enqueue(Task.TRAIN)

        return train_next(studio(), make_way)

    _stint(Task.TRAIN, work, stretches.waiting)


def _stint(task: Task, work: Callable[[Bench], bool], waiting: Callable[[Session], bool]) -> None:
    """Work until there is nothing to do, something keeps this worker from it, or the stint is over."""
    at, end = bench(), time.monotonic() + STINT
    with logs.about(task=task):
        if not _work(at, task, work, end):
            return
        with at.sessions.read() as session:
            more = waiting(session)
        if more:
            at.enqueue(task)


def _work(at: Bench, task: Task, work: Callable[[Bench], bool], end: float) -> bool:
    """Whether it stopped because the stint was over."""
    while True:
        trouble = at.trouble()
        if trouble:
            log.warning("%s waits: %s", task, trouble)
            return False
        if not work(at):
            return False
        if time.monotonic() > end:
            return True
