"""Holds on to a lease while slow work is done."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError


class Renewal:
    """A thread that calls `renew` every `seconds` while the block runs; `lost` is set when it answers False.

    A database that is away is asked again: the lease outlasts two missed renewals.
    """

    def __init__(self, renew: Callable[[], bool], seconds: float) -> None:
        self.lost = False
        self._renew = renew
        self._seconds = seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            try:
                kept = self._renew()
            except SQLAlchemyError:
                continue
            if not kept:
                self.lost = True
                return
