"""One batch is settled while the next is sampled: the main thread samples, a thread of its own settles.

Both threads do as they would alone, one transaction at a time, and neither waits for the other with one open.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from shared import items
from shared.items import Work
from worker.renewal import Pace, Renewal
from worker.studio import Studio

log = logging.getLogger(__name__)

LAST_WORD = 5.0
"""Seconds that what was sampled has to be settled in when the process is told to end, which it has ten for."""


class Batch:
    """A claimed batch. Its lease is renewed until it ends; what of it is not settled by then goes back unharmed."""

    def __init__(self, studio: Studio, works: Sequence[Work], last_word: Callable[[], None]) -> None:
        self.works = works
        self._last_word = last_word
        self.pace = Pace(studio.settings.step_seconds)
        self._studio, self._token = studio, works[0].token
        self._renewal = Renewal(self._renew, studio.settings.renew_seconds)

    def hold(self) -> None:
        self._renewal.start()

    @property
    def lost(self) -> bool:
        """Whether it is another's by now, or its job was cancelled."""
        return self._renewal.lost

    def end(self) -> None:
        """Let it go. Any thread may, also while another does; the second time that changes nothing."""
        self._renewal.end()
        with self._studio.sessions.write() as session:
            items.hand_back(session, self._token)

    def _renew(self) -> bool:
        pace = self.pace
        if pace.hangs():
            log.critical("no step has ended for %.0f s after step %d; the batch is let go", pace.waited(), pace.step)
            if pace.sampling:
                # A call that does not return cannot be broken off, and would keep the device for good: the process
                # ends, Celery starts another, and what it held lapses. What was sampled before is sound.
                self._last_word()
                os._exit(1)
            return False
        with self._studio.sessions.write() as session:
            return items.renew(session, self._token, pace.step, self._studio.settings.lease_seconds)


class Overlap:
    """The batches that this process holds: one that is sampled, and one that is settled.

    What is handed over is done in its order. `failed` is what the first of it raised that did not succeed, which no
    item's fault does: then nothing more should be sampled.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self.failed: Exception | None = None
        self._ended = ended
        self._thread = ThreadPoolExecutor(1, "settle")
        self._ends: deque[Future[None]] = deque()
        self._open: list[Batch] = []

    def begin(self, studio: Studio, works: Sequence[Work]) -> Batch:
        """Hold a batch just claimed, whatever comes: it is handed back by `let_go` if it does not end before."""
        batch = Batch(studio, works, self.last_word)
        self._open.append(batch)
        batch.hold()
        return batch

    def hand_over(self, settle: Callable[[], None]) -> None:
        """Have something of the batch settled."""
        self._thread.submit(self._do, settle)

    def end(self, batch: Batch) -> None:
        """All of the batch that is to be settled was handed over: let it go after that."""
        self._ends.append(self._thread.submit(self._do, partial(self._end, batch)))

    def make_room(self) -> None:
        """Wait until no more than one batch is still to be settled, so that never more than two lie in memory.

        Raises what settling raised.
        """
        while len(self._ends) > 1:
            wait([self._ends.popleft()])
        self._check()

    def drain(self) -> bool:
        """Wait until everything handed over is settled; whether anything was left to wait for.

        Raises what settling raised.
        """
        busy = bool(self._open)
        self._wait()
        self._check()
        return busy

    def last_word(self) -> None:
        """The same before the process ends: for a few seconds at most, and without raising."""
        with suppress(RuntimeError):  # it has had its last word already
            self._wait(LAST_WORD)

    def let_go(self) -> None:
        """Hand back what is not settled after that."""
        self.last_word()
        self._thread.shutdown(wait=False, cancel_futures=True)
        with ExitStack() as ends:  # each, though another's may raise
            for batch in list(self._open):
                ends.callback(batch.end)

    def _wait(self, seconds: float | None = None) -> None:
        wait([self._thread.submit(lambda: None)], seconds)

    def _check(self) -> None:
        if self.failed is not None:
            raise self.failed

    def _end(self, batch: Batch) -> None:
        try:
            batch.end()
        finally:
            self._open.remove(batch)
        self._ended()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            # Raised again where the next is sampled; unless that is ending already, and then this is all that is said.
            log.exception("settling failed")
            self.failed = self.failed or error


@contextmanager
def overlapping(ended: Callable[[], None]) -> Iterator[Overlap]:
    """An `Overlap` for a block of claims. When the block ends everything is settled, or what is not goes back: also on
    SIGTERM (SystemExit), also after an error nobody foresaw.

    Args:
        ended: called in the settling thread after each batch.
    """
    made = Overlap(ended)
    try:
        yield made
        made.drain()
    finally:
        made.let_go()
