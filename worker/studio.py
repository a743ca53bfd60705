"""What a gpu worker's process has at hand; made by `worker.main`."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.orm import Session

from shared import priors
from shared.db import Sessions
from shared.figures import Meter
from shared.settings import Settings
from shared.spec import ResolvedSpec, footprint_key
from shared.storage import Storage
from worker.foresight import Foresight
from worker.memory import Endless, Memory
from worker.neighbours import Neighbours
from worker.priors.cache import PriorCache, TooLarge

log = logging.getLogger(__name__)


class Batches:
    """How many items are sampled at once: no more than `most`, nor than their job asks for, nor than prove too many.

    Where a job leaves it open it is as many as fit what is free of the `memory`, less `reserve` bytes, by what the
    largest batch of their kind has taken: so the first is an item alone. A memory that does not tell what was taken is
    tried with `most`.
    """

    BY_ITSELF = 16
    """More than so many only where somebody asks for them: other workers are to have their share of a job."""
    SLACK = 1.15
    """What is taken lies in pieces, between which some of the memory cannot be used."""

    def __init__(self, most: int, memory: Memory | None = None, reserve: int = 0) -> None:
        self.most = most
        self._memory = memory
        self._reserve = reserve
        self._proved: dict[object, int] = {}
        self._takes: dict[object, tuple[int, float]] = {}

    def limit(self, resolved: ResolvedSpec, asked: int | None) -> int:
        """How many items of a spec to sample at once, where `asked` are asked for, or as many as fit (None)."""
        kind = _kind(resolved)
        most = min(self.most, self._proved.get(kind, self.most))
        if asked is not None:
            return min(most, asked)
        if self._memory is None:
            return most
        if resolved.reference:
            return 1  # each is sampled alone anyway
        _, each = self._takes.get(kind, (0, 0.0))
        fit = int((self._memory.free() - self._reserve) / (each * self.SLACK)) if each else 1
        return max(1, min(most, self.BY_ITSELF, fit))

    def took(self, resolved: ResolvedSpec, images: int, taken: int | None) -> None:
        """So many images were sampled at once, and took so many bytes; None where nobody knows."""
        kind = _kind(resolved)
        if taken and images >= self._takes.get(kind, (0, 0.0))[0]:
            self._takes[kind] = images, taken / images

    def halve(self, resolved: ResolvedSpec, tried: int) -> None:
        """So many proved too many."""
        self._proved[_kind(resolved)] = max(1, tried // 2)


def _kind(resolved: ResolvedSpec) -> object:
    """What of a spec decides how much memory an image takes."""
    return footprint_key(resolved), resolved.long_side


class Rest:
    """Since when a process has had nothing to do. For two threads: one works, the other clears up after it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._busy = threading.Lock()
        self._since: float | None = None

    @contextmanager
    def kept_off(self) -> Iterator[Callable[[], None]]:
        """A block in which nothing is cleared up; calling what it gives says that there was work."""
        worked = False

        def note() -> None:
            nonlocal worked
            worked = True

        with self._busy:
            try:
                yield note
            finally:
                if worked:
                    self._since = self._now()

    def clear_up(self, seconds: float, clear: Callable[[], object]) -> bool:
        """Call `clear` if nobody is at work, and the last work ended so long ago; once for each time there was some."""
        if not seconds or not self._busy.acquire(blocking=False):
            return False
        try:
            if self._since is None or self._now() - self._since < seconds:
                return False
            self._since = None
            clear()
        finally:
            self._busy.release()
        return True


@dataclass(frozen=True)
class Studio:
    """All of it."""

    settings: Settings
    sessions: Sessions
    storage: Storage
    name: str
    device: torch.device
    batches: Batches
    priors: PriorCache
    prior_folders: dict[str, tuple[Path, str]]
    """Folder and hash of each prior that was there when the process started, by name."""
    made_by: dict[str, Any]
    stop: Callable[[], bool]
    """Asked between steps: is this process to end, because nobody waits for it any more?"""
    memory: Memory = field(default_factory=Endless)
    foresight: Foresight = field(default_factory=Foresight)
    meter: Meter = field(default_factory=Meter)
    neighbours: Neighbours = field(default_factory=Neighbours)
    rest: Rest = field(default_factory=Rest)

    def folders(self, session: Session) -> dict[str, Path]:
        """Where each prior that can be used at this moment lies, by its hash: also what was trained or added since."""
        found = self.prior_folders | priors.made_here(session, self.storage) | priors.added(session)
        return {sha256: folder for folder, sha256 in found.values()}

    def look_over_priors(self) -> None:
        """Note which of those that were there are too large for the device, before anybody asks for them."""
        for name, (folder, sha256) in self.prior_folders.items():
            try:
                self.priors.check(folder)
            except TooLarge as error:
                log.error("the prior %s cannot be used here: %s", name, error)  # noqa: TRY400  (a traceback says no more)
                self.meter.too_large(sha256, 0)

    def clear_up(self) -> None:
        """Let go of all priors if nothing has been done for a while, so that others have the device's memory."""
        seconds = self.settings.prior_idle_seconds
        if self.rest.clear_up(seconds, self.priors.clear):
            log.info("no prior is kept: there has been nothing to do for %.0f s", seconds)
