"""Loaded priors of one process, and the autoencoders that guide along their walks."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from worker.memory import Endless, Memory
from worker.priors.check import load_autoencoder
from worker.priors.files import size_in_memory
from worker.psld.prior import Autoencoder, LatentPrior

T = TypeVar("T")


class TooLarge(ValueError):
    """The weights of a prior are more than the device could ever hold; ``needed`` and ``total`` are bytes."""

    def __init__(self, needed: int, total: int) -> None:
        super().__init__(f"its weights take {needed:,} bytes, and the device has {total:,}")
        self.needed, self.total = needed, total


class PriorCache:
    """Keeps what was used until its memory is wanted; then the least recently used goes first. For one thread.

    ``load(folder, device)`` makes a prior, and ``load_autoencoder`` an autoencoder of its own. What they will take is
    known beforehand by ``size(folder)``, in bytes, so that what has to go does so before the next is loaded, and
    ``reserve`` bytes of the ``memory`` stay free.
    """

    def __init__(
        self,
        load: Callable[[Path, str], LatentPrior],
        load_autoencoder: Callable[[Path, str], Autoencoder] = load_autoencoder,
        *,
        size: Callable[[Path], int] = size_in_memory,
        memory: Memory | None = None,
        reserve: int = 0,
    ) -> None:
        self._load, self._load_autoencoder = load, load_autoencoder
        self._size = size
        self._memory = memory or Endless()
        self._reserve = reserve
        self._kept: OrderedDict[tuple[Path, str], Any] = OrderedDict()

    def get(self, folder: Path, device: str) -> LatentPrior:
        """Return the prior of a folder on a device; raises TooLarge, and what ``load`` raises."""
        return self._have(folder, device, self._load, ())

    def autoencoder(self, folder: Path, device: str, *, beside: Path) -> Autoencoder:
        """Return the autoencoder of a folder in the same way; the prior ``beside`` which it is used does not go."""
        return self._have(folder, device, self._load_autoencoder, (beside,))

    def check(self, folder: Path) -> None:
        """Raises TooLarge if the device could not hold what lies in a folder, whatever else was let go."""
        needed, total = self._size(folder), self._memory.total()
        if needed > total:
            raise TooLarge(needed, total)

    def weighs(self, folders: Collection[Path]) -> int:
        """How many bytes the weights in some folders take."""
        return sum(self._size(folder) for folder in folders)

    def keep(self, folders: Collection[Path]) -> bool:
        """Let go of all others; whether there were any."""
        others = False
        while self._let_go(folders):
            others = True
        return others

    def clear(self) -> bool:
        """Let go of all of them; whether there were any."""
        return self.keep(())

    def loaded(self, device: str) -> set[Path]:
        """The folders whose priors are on a device now."""
        return {folder for folder, where in self._kept if where == device}

    def _have(self, folder: Path, device: str, load: Callable[[Path, str], T], stay: Collection[Path]) -> T:
        key = (folder.resolve(), device)
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self.check(folder)
            while self._memory.free() < self._size(folder) + self._reserve and self._let_go(stay):
                pass
            self._kept[key] = load(folder, device)
        found: T = self._kept[key]
        return found

    def _let_go(self, stay: Collection[Path]) -> bool:
        """Of the one that was not used for longest, those apart that are to stay; False if there is none."""
        staying = {folder.resolve() for folder in stay}
        oldest = next((key for key in self._kept if key[0] not in staying), None)
        if oldest is None:
            return False
        del self._kept[oldest]
        self._memory.reclaim()
        return True
