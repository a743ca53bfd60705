"""Wiring only: each task does one piece of work if there is any, and sends its own hint again if more waits.

A task that found nothing to do sends none: what waits then is not for this worker, and the sweep hints again.
"""

import logging
from collections.abc import Callable

from celery import shared_task
from sqlalchemy.orm import Session

from shared import archives, datasets, items, jobs
from shared.queue import Task
from worker.main import Bench, bench, studio

log = logging.getLogger(__name__)


@shared_task(name=Task.INGEST)
def ingest() -> None:
    from worker.ingest import check_next

    _turn(Task.INGEST, lambda at: check_next(at.settings, at.sessions, at.storage), datasets.waiting)


@shared_task(name=Task.EXPAND)
def expand() -> None:
    from worker.expand import expand_next

    _turn(Task.EXPAND, lambda at: bool(expand_next(studio(), wake=lambda: at.enqueue(Task.EXPAND))), items.waiting)
    at = bench()
    with at.sessions.write() as session:
        finished = jobs.conclude(session)
    if finished:
        at.enqueue(Task.ARCHIVE)


@shared_task(name=Task.ARCHIVE)
def archive() -> None:
    from worker.archive import build_next

    _turn(Task.ARCHIVE, lambda at: build_next(at.settings, at.sessions, at.storage), archives.waiting)


def _turn(task: Task, work: Callable[[Bench], bool], waiting: Callable[[Session], bool]) -> None:
    at = bench()
    trouble = at.trouble()
    if trouble:
        log.warning("%s waits: %s", task, trouble)
        return
    if not work(at):
        return
    with at.sessions.read() as session:
        more = waiting(session)
    if more:
        at.enqueue(task)
