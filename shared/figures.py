"""What a worker's process counts of its work. It leaves the figures with its sign of life; `/metrics` tells them."""

import threading
import time
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

BOUNDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper ends of the histogram's buckets, in seconds an image."""


class Figures(BaseModel):
    """Since the process began, unless it is said otherwise. What an older version has left out is 0."""

    made: int = 0
    failures: int = 0
    """Of attempts: an item may have several."""
    seconds: float = 0.0
    """Of all that were made."""
    within: dict[str, int] = Field(default_factory=dict)
    """How many were made within each bound, and at last `+Inf`."""
    steps: int = 0
    steps_a_second: float = 0.0
    """Since the figures before."""
    memory_used: int | None = None
    memory: int | None = None
    """Of the device, in bytes."""
    lapses: dict[str, int] = Field(default_factory=dict)
    """How many leases the sweep has found lapsed, by what was leased."""
    too_large: dict[str, int] = Field(default_factory=dict)
    """By the hash of a prior, the smallest long side in pixels of which one image did not fit the device's memory; 0:
    the prior itself does not."""
    largest: dict[str, int] = Field(default_factory=dict)
    """By `spec.footprint_key`, the largest long side in pixels of which the device can hold one image, as far as that
    can be foreseen."""


class Meter:
    """Counts, for several threads at once."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._figures = Figures(within=dict.fromkeys([*map(str, BOUNDS), "+Inf"], 0))
        self._read_at, self._steps_read = now(), 0

    def step(self, images: int) -> None:
        """A step of a sampler has ended, for so many images."""
        with self._lock:
            self._figures.steps += images

    def made(self, seconds: float) -> None:
        """An image was made."""
        with self._lock:
            self._figures.made += 1
            self._figures.seconds += seconds
            for bound in self._figures.within:
                self._figures.within[bound] += seconds <= float(bound)

    def failed(self) -> None:
        """An attempt has failed."""
        with self._lock:
            self._figures.failures += 1

    def lapsed(self, what: str, leases: int) -> None:
        """So many leases of a kind of work have lapsed."""
        with self._lock:
            self._figures.lapses[what] = self._figures.lapses.get(what, 0) + leases

    def too_large(self, prior_sha256: str, long_side: int) -> None:
        """One image of so many pixels, or (0) a prior itself, was too much for the device."""
        with self._lock:
            known = self._figures.too_large
            known[prior_sha256] = min(long_side, known.get(prior_sha256, long_side))

    def largest(self, footprint_key: str, long_side: int) -> None:
        """One image of so many pixels, and of no more, is foreseen to fit the device."""
        with self._lock:
            self._figures.largest[footprint_key] = long_side

    def read(self, memory: tuple[int, int] | None = None) -> dict[str, Any]:
        """The figures as they are kept in a row; `memory` is what of the device's is used, and what it has."""
        with self._lock:
            at, steps = self._now(), self._figures.steps
            passed = at - self._read_at
            self._figures.steps_a_second = round((steps - self._steps_read) / passed, 3) if passed > 0 else 0.0
            self._read_at, self._steps_read = at, steps
            if memory is not None:
                self._figures.memory_used, self._figures.memory = memory
            return self._figures.model_dump()
