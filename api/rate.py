"""How many requests a caller may make: a bucket that fills at an even pace, and each request takes one out of it.

Each process of the API keeps its own, so that no request waits for a server elsewhere and none is refused because that
is away; with several processes a caller has that many times as much at most.
"""

import math
import time
from collections.abc import Callable, Hashable

_MOST = 10_000
"""Callers that are remembered; those beyond whose buckets are full are forgotten, which changes nothing for them."""


class Rate:
    """Lets each caller make `per_minute` requests at once, and so many a minute in the long run; 0: any number."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._left: dict[Hashable, tuple[float, float]] = {}
        """What was in each caller's bucket, and when."""

    def wait(self, caller: Hashable) -> int:
        """Whole seconds to wait, at least 1; or 0: the request may be made, and counts."""
        if not self.per_minute:
            return 0
        now = self._clock()
        left = self._now(caller, now)
        if left < 1:
            return math.ceil((1 - left) * 60 / self.per_minute)
        if len(self._left) >= _MOST and caller not in self._left:
            self._left = {each: kept for each, kept in self._left.items() if self._now(each, now) < self.per_minute}
        self._left[caller] = left - 1, now
        return 0

    def _now(self, caller: Hashable, now: float) -> float:
        left, then = self._left.get(caller, (float(self.per_minute), now))
        return min(self.per_minute, left + (now - then) * self.per_minute / 60)
