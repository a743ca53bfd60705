"""A small process of its own that frees what vanished workers held and sends forgotten hints again.

`python -m worker.sweep` runs it; two at once do no harm.
"""

import logging
import os
import signal
import socket
import sys
import threading
from types import FrameType

from sqlalchemy.exc import OperationalError, SQLAlchemyError

import migrations
from shared import archives, datasets, hauls, items, jobs, keeping, logs, stretches, trash, uploads, webhooks, workers
from shared.bucket import make_storage
from shared.db import Sessions, make_sessions
from shared.errors import NotConfigured
from shared.figures import Meter
from shared.queue import Task, make_app, make_enqueue
from shared.settings import Settings
from shared.storage import Storage

log = logging.getLogger(__name__)

_TIDY_EVERY = 3600.0


def sweep(sessions: Sessions, storage: Storage, meter: Meter | None = None) -> set[Task]:
    """Put right what is left behind, and return the tasks for which there is work that nobody does."""
    meter = meter or Meter()
    with sessions.write() as session:
        freed = items.sweep(session)
        given_up = datasets.sweep(session) + archives.sweep(session) + webhooks.sweep(session)
        left, dropped = stretches.sweep(session), hauls.sweep(session)
        expired = uploads.sweep(session)
    meter.lapsed("items", freed)
    meter.lapsed("trainings", left)
    meter.lapsed("fetches", dropped)
    with sessions.write() as session:
        finished = jobs.conclude(session)
    if freed or given_up or left or dropped or finished:
        said = "%d items, %d trainings and %d fetches freed, %d checks, archives or webhooks given up, %d jobs finished"
        log.info(said, freed, left, dropped, given_up, len(finished))
    if expired:
        log.info("%d uploads have expired", expired)
    with sessions.read() as session:
        found = {
            Task.EXPAND: items.waiting(session),
            Task.INGEST: datasets.waiting(session),
            Task.ARCHIVE: archives.waiting(session),
            Task.TRAIN: stretches.waiting(session),
            Task.FETCH: hauls.waiting(session),
            Task.NOTIFY: webhooks.waiting(session),
        }
    _empty_trash(sessions, storage)
    return {task for task, there_is in found.items() if there_is}


def _empty_trash(sessions: Sessions, storage: Storage) -> None:
    """Remove the files of what was deleted. A storage that is away is asked again next time."""
    if not storage.there():
        return
    try:
        while True:
            with sessions.write() as session:
                if not trash.empty(session, storage):
                    return
    except OSError as error:
        log.warning("deleted files stay for now: %s", error)


def tidy(sessions: Sessions, storage: Storage, older: float) -> int:
    """Note what no row knows and nobody wrote to for `older` seconds, so that it is removed; returns how many."""
    found = keeping.census(sessions, storage, older)
    if found.foreign:
        log.warning(
            "nothing is tidied up: of what is stored in %s the database knows the smaller part. Is it the right one? "
            "If so, `regrow prune --strays` removes the rest",
            storage,
        )
        return 0
    if found.strays:
        with sessions.write() as session:
            keeping.throw(session, found.strays)
        log.info("%d stray files of %d bytes go", len(found.strays), sum(found.strays.values()))
    return len(found.strays)


def _tidy_now_and_then(sessions: Sessions, storage: Storage, older: float, end: threading.Event) -> None:
    # A thread of its own: to look at a million files takes longer than a lapsed claim is to wait.
    while not end.wait(_TIDY_EVERY):
        try:
            tidy(sessions, storage, older)
        except (SQLAlchemyError, OSError) as error:
            log.warning("not tidied up, again in %.0f s: %s", _TIDY_EVERY, error)


def main() -> None:
    settings = Settings()
    logs.configure("sweep", settings.log_format, settings.log_level)
    sessions = make_sessions(settings.database)
    try:
        migrations.check(sessions.engine)
    except NotConfigured as error:
        sys.exit(error.detail)
    except OperationalError as error:
        log.warning("the database is away: %s", error)
    storage = make_storage(settings, may_make=False)
    enqueue = make_enqueue(make_app(settings.broker_url.get_secret_value()))
    end, meter = threading.Event(), Meter()
    name = f"sweep@{socket.gethostname()}:{os.getpid()}"

    def stop(_signal: int, _frame: FrameType | None) -> None:
        end.set()

    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, stop)
    tidying = (sessions, storage, settings.stray_seconds, end)
    threading.Thread(target=_tidy_now_and_then, args=tidying, name="tidy", daemon=True).start()
    while not end.is_set():
        try:
            for task in sorted(sweep(sessions, storage, meter)):
                enqueue(task)
            with sessions.write() as session:
                workers.seen(session, name, "", "", figures=meter.read())
        except SQLAlchemyError as error:
            log.warning("not now, again in %.0f s: %s", settings.sweep_seconds, error)
        end.wait(settings.sweep_seconds)


if __name__ == "__main__":
    main()
