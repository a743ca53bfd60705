"""A claimed fetch becomes an installed prior, haul by haul.

What connects to the hub, and what reads the weights, are processes of their own: they can be ended at any moment, and
this one needs neither torch nor the hub's client.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared import archives, datasets, hauls, logs, priors, webhooks
from shared.db import Sessions
from shared.errors import RegrowError
from shared.fetches import check_allowed
from shared.hauls import Noted, Work
from shared.models import Fetch
from shared.queue import Task
from shared.settings import Settings
from shared.storage import Storage, fetch_key, prior_key
from worker.renewal import Renewal

log = logging.getLogger(__name__)

AT_LEAST = 10.0
"""Seconds that a haul takes at least, before it makes way for other work."""
OTHERS: Mapping[Task, Callable[[Session], bool]] = {
    Task.INGEST: datasets.waiting,
    Task.ARCHIVE: archives.waiting,
    Task.NOTIFY: webhooks.waiting,
}
"""For which work it makes way: what a cpu worker does else, and none of which takes as long."""
_ROOT = Path(__file__).resolve().parents[1]


class Stopped(Exception):
    """It is not ours any more, or this process is to end."""


class MadeWay(Exception):
    """It is handed back because other work waits."""


class Failed(Exception):
    """The fetch itself failed; `final`: trying again would end the same way."""

    def __init__(self, kind: str, detail: str, *, final: bool) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.final = kind, detail, final


def fetch_next(
    settings: Settings, sessions: Sessions, storage: Storage, name: str, make_way: Callable[[], None]
) -> bool:
    """Claim the oldest fetch and work on it until it is over or makes way; False if there was none to claim, or it did.

    `make_way` is called after it was handed back because other work waits.
    """
    with sessions.write() as session:
        work = hauls.claim(session, name, settings.lease_seconds)
    if work is None:
        return False
    stayed = True
    try:
        with logs.about(**work.ids):
            Haul(settings, sessions, storage, work).run()
    except MadeWay:
        stayed = False
    finally:
        # Whatever is still ours goes back, on SIGTERM (SystemExit) and after an error that is not its fault too.
        with sessions.write() as session:
            hauls.hand_back(session, work.claim)
    if not stayed:
        make_way()
    return stayed


class Haul:
    """What this process does of a fetch."""

    def __init__(self, settings: Settings, sessions: Sessions, storage: Storage, work: Work) -> None:
        self._settings, self._sessions, self._storage, self._work = settings, sessions, storage, work
        self._noted = Noted()
        self._first: int | None = None
        """How much was here before."""
        self._began, self._parent = time.monotonic(), os.getppid()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._why: Exception | None = None
        """Why it is to end."""
        self._may_make_way = False

    def run(self) -> None:
        """All of it, the lease renewed meanwhile. Raises MadeWay, and what is not the fetch's fault."""
        with Renewal(self._renew, self._settings.renew_seconds):
            try:
                self._fetch()
            except Stopped:
                log.info("the fetch stopped")
                self._clear_up()
            except Failed as error:
                self._fail(error)
            except RegrowError as error:
                self._fail(Failed(error.slug, error.detail, final=True))
            except OSError as error:
                detail = f"{error.strerror or type(error).__name__}: {error.filename}"
                self._fail(Failed("storage", detail, final=False))
            except (MadeWay, SQLAlchemyError):
                raise
            except Exception as error:
                log.exception("the fetch raised what nobody foresaw")
                self._fail(Failed("unexpected", f"{type(error).__name__}: {error}", final=False))

    def _fetch(self) -> None:
        work, target = self._work, self._storage.folder(prior_key(self._work.claim.id))
        if not target.is_dir():
            # This machine's settings count: what was asked of another may be forbidden here.
            check_allowed(work.repo, self._settings)
            folder = self._storage.folder(fetch_key(work.claim.id))
            folder.mkdir(parents=True, exist_ok=True)
            self._download(folder)
            self._check(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
        self._storage.keep(prior_key(work.claim.id))
        prior = priors.describe(work.name, target)
        with self._sessions.write() as session:
            done = hauls.finish(session, work, prior)
        if not done:
            raise Stopped
        log.info("a prior is fetched: %d bytes", prior.size)

    def _download(self, folder: Path) -> None:
        work = self._work
        argv = ["worker.hub", work.repo, work.revision, str(folder), "--endpoint", self._settings.hub_endpoint]
        argv += ["--file", work.file] if work.file else []
        argv += ["--variant", work.variant] if work.variant else []
        free = self._storage.free()
        if free is not None:
            argv += ["--room", str(free - self._settings.min_free_bytes)]
        said: dict[str, Any] = {}

        def heard(line: str) -> None:
            told = json.loads(line)
            said.update(told)
            if "size" in told:
                self._first = told["received"] if self._first is None else self._first
                self._noted = Noted("download", told["received"], told["size"])

        self._may_make_way = True
        code, complaint = self._run(argv, heard)
        self._may_make_way = False
        if error := said.get("error"):
            raise Failed(error["type"], error["detail"], final=error["final"])
        if code:
            raise Failed("unexpected", f"The download {_how(code)}. {complaint}".rstrip(), final=False)

    def _check(self, folder: Path) -> None:
        """Have all of it read, as `regrow priors add` does."""
        self._noted = Noted("check", self._noted.received, self._noted.size)
        argv = ["worker.priors", str(folder)]
        if self._work.file:
            argv = ["worker.priors", str(folder / priors.WHOLE), "--into", str(folder)]
            argv += ["--architecture", self._work.architecture] if self._work.architecture else []
        code, complaint = self._run(argv, lambda _: None)
        if code < 0:
            said = f"To read it {_how(code)}: perhaps it does not fit the memory of the machine that checks it."
            raise Failed("bad_prior", said, final=True)
        if code:
            raise Failed("bad_prior", complaint.replace(f"{folder}/", "").replace(str(folder), "it"), final=True)

    def _run(self, argv: Sequence[str], heard: Callable[[str], None]) -> tuple[int, str]:
        """Run a module of ours in a process of its own; its exit code, and the last that it complained of."""
        paths = [str(_ROOT), os.environ.get("PYTHONPATH")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with tempfile.TemporaryFile("w+") as complaints:
            with self._started(argv, env, complaints) as process:
                try:
                    for line in process.stdout or ():
                        heard(line)
                except BaseException:
                    # Also SystemExit, which SIGTERM raises here.
                    process.kill()
                    raise
            if self._why:
                raise self._why
            complaints.seek(0)
            lines = complaints.read().strip().splitlines()
        return process.returncode, lines[-1] if lines else ""

    def _started(self, argv: Sequence[str], env: Mapping[str, str], complaints: IO[str]) -> "subprocess.Popen[str]":
        with self._lock:
            if self._why:
                raise self._why
            self._process = subprocess.Popen(
                [sys.executable, "-m", *argv],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )
            return self._process

    def _renew(self) -> bool:
        with self._sessions.write() as session:
            kept = hauls.renew(session, self._work.claim, self._noted, self._settings.lease_seconds)
        # A spawned child outlives a parent that was killed.
        if not kept or os.getppid() != self._parent:
            self._end(Stopped())
            return False
        if self._may_make_way and time.monotonic() > self._began + AT_LEAST:
            with self._sessions.read() as session:
                others = any(waiting(session) for waiting in OTHERS.values())
            if others:
                self._end(MadeWay())
        return True

    def _end(self, why: Exception) -> None:
        with self._lock:
            self._why = self._why or why
            if self._process is not None:
                self._process.kill()

    def _fail(self, error: Failed) -> None:
        log.warning("the fetch failed: %s", error.kind)
        progressed = self._first is not None and self._noted.received > self._first
        with self._sessions.write() as session:
            hauls.renew(session, self._work.claim, self._noted, self._settings.lease_seconds)
            hauls.fail(session, self._work, error.kind, error.detail, final=error.final, progressed=progressed)

    def _clear_up(self) -> None:
        """Who lost a fetch that was deleted removes what he may have written since."""
        try:
            with self._sessions.read() as session:
                deleted = session.get(Fetch, self._work.claim.id) is None
        except SQLAlchemyError:
            return
        if deleted:
            self._storage.delete(fetch_key(self._work.claim.id))
            self._storage.delete(prior_key(self._work.claim.id))


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
