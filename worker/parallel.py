"""Many small pieces of work on several cores, with what comes out in order and memory bounded."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4
_MOST = 16


def usable_threads() -> int:
    """One more than the cores that this process may use, as one of them waits for the disk now and then."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _MOST) + 1


def in_order(work: Callable[[T], R], things: Iterable[T], threads: int) -> Generator[R, None, None]:
    """`work` on each of the things, at most `threads` at a time; what it gives, in the order of the things.

    Only a few results wait for their turn. What `work` raises is raised in its turn too, and nothing more is begun
    then, nor when the iterator is closed; when it ends no thread is at work any more.
    """
    ahead: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="parallel") as pool:
        try:
            for thing in things:
                ahead.append(pool.submit(work, thing))
                if len(ahead) >= _AHEAD * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


class Room:
    """Keeps what several threads hold at once within a size. What is larger than all of it is let in alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._change = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Hold `size` of it while the block runs; waits until there is room."""
        with self._change:
            self._change.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            with self._change:
                self._taken -= size
                self._change.notify_all()
