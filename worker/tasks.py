"""Wiring only: each task does one piece of work if there is any, and sends its own hint again if more waits."""

from celery import shared_task

from shared import archives, datasets, jobs
from shared.queue import Task
from worker.main import bench, studio


@shared_task(name=Task.INGEST)
def ingest() -> None:
    from worker.ingest import check_next

    at = bench()
    check_next(at.settings, at.sessions, at.storage)
    with at.sessions.read() as session:
        more = datasets.waiting(session)
    if more:
        at.enqueue(Task.INGEST)


@shared_task(name=Task.EXPAND)
def expand() -> None:
    from worker.expand import expand_next

    at = bench()
    expand_next(studio(), wake=lambda: at.enqueue(Task.EXPAND))
    with at.sessions.write() as session:
        finished = jobs.conclude(session)
        more = jobs.waiting(session)
    if finished:
        at.enqueue(Task.ARCHIVE)
    if more:
        at.enqueue(Task.EXPAND)


@shared_task(name=Task.ARCHIVE)
def archive() -> None:
    from worker.archive import build_next

    at = bench()
    build_next(at.settings, at.sessions, at.storage)
    with at.sessions.read() as session:
        more = archives.waiting(session)
    if more:
        at.enqueue(Task.ARCHIVE)
