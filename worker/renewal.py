"""Holds on to a lease while slow work is done."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from statistics import median
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from shared import leases, logs
from shared.db import Sessions
from shared.leases import Claim, Leasable
from shared.settings import Settings


class Renewal:
    """A thread that calls `renew` every `seconds` while the block runs, or from `start` to `end`; `lost` is set when it
    answers False.

    A database that is away is asked again: the lease outlasts two missed renewals.
    """

    def __init__(self, renew: Callable[[], bool], seconds: float) -> None:
        self.lost = False
        self._renew = renew
        self._seconds = seconds
        self._end = threading.Event()
        # What it logs carries the ids that its maker's lines carry.
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name="renewal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Whether it was started or not, and any number of times."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            try:
                kept = self._renew()
            except SQLAlchemyError:
                continue
            if not kept:
                self.lost = True
                return


@contextmanager
def held(sessions: Sessions, model: Leasable, claim: Claim, settings: Settings) -> Iterator[None]:
    """Hold a claim while the block works on it, and have its ids in what is logged.

    A full disk, or the end of this process (SIGTERM raises SystemExit), is not the work's fault: it goes back at once
    and nothing counts against it. After any other error its lease lapses, and that counts.
    """

    def renew() -> bool:
        with sessions.write() as session:
            return leases.renew(session, model, claim.token, settings.lease_seconds)

    with sessions.read() as session:
        ids = leases.ids(session, model, claim)
    with logs.about(**ids), Renewal(renew, settings.renew_seconds):
        try:
            yield
        except (OSError, SystemExit):
            with sessions.write() as session:
                leases.release(session, model, claim)
            raise


class Pace:
    """The steps of a sampler: how far it is, and whether it hangs.

    It hangs when no step has ended for `patience` seconds and for 20 times the median step: then its lease is to lapse.
    """

    def __init__(self, patience: float, now: Callable[[], float] = time.monotonic) -> None:
        self.step = 0
        self.sampling = False
        """Whether a step is being made: before and after that, a slow disk may be read or written."""
        self._patience = patience
        self._now = now
        self._last = now()
        self._seconds: list[float] = []

    def note(self, step: int, steps: int) -> None:
        """A step of `steps` has ended; 0: the first begins."""
        at = self._now()
        if step:
            self._seconds.append(at - self._last)
        self.step, self._last = step, at
        self.sampling = step < steps

    def waited(self) -> float:
        """Seconds since the last step ended."""
        return self._now() - self._last

    def hangs(self) -> bool:
        return self.waited() > max(self._patience, 20 * median(self._seconds or [0.0]))
