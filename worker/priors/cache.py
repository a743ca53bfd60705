"""Loaded priors of one process."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from worker.psld.prior import LatentPrior


class PriorCache:
    """Keeps the ``capacity`` most recently used priors; ``load(folder, device)`` makes one. For one thread.

    The oldest is let go before the next is loaded, so that a device never holds capacity + 1 of them.
    """

    def __init__(self, load: Callable[[Path, str], LatentPrior], capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self._load = load
        self._capacity = capacity
        self._priors: OrderedDict[tuple[Path, str], LatentPrior] = OrderedDict()

    def get(self, folder: Path, device: str) -> LatentPrior:
        """Return the prior of a folder on a device; what ``load`` raises passes through."""
        key = (folder.resolve(), device)
        if key in self._priors:
            self._priors.move_to_end(key)
        else:
            while len(self._priors) >= self._capacity:
                self._priors.popitem(last=False)
            self._priors[key] = self._load(folder, device)
        return self._priors[key]

    def clear(self) -> None:
        """Let go of all of them."""
        self._priors.clear()

    def loaded(self, device: str) -> set[Path]:
        """The folders whose priors are on a device now."""
        return {folder for folder, where in self._priors if where == device}
