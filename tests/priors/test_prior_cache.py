import gc
import shutil
import weakref
from pathlib import Path

import pytest

from worker.priors.cache import PriorCache
from worker.priors.diffusers import BadPrior, DiffusersPrior, load


class Loader:
    """Loads, and remembers which folders were asked for and which priors are still alive."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.alive: weakref.WeakSet[DiffusersPrior] = weakref.WeakSet()
        self.most_alive_while_loading = 0

    def __call__(self, folder: Path, device: str) -> DiffusersPrior:
        gc.collect()
        self.most_alive_while_loading = max(self.most_alive_while_loading, len(self.alive))
        self.asked.append(folder.name)
        prior = load(folder, device)
        self.alive.add(prior)
        return prior


@pytest.fixture
def folders(plain: Path, tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(plain, tmp_path / name)) for name in "abc"]


def test_a_prior_is_loaded_once(folders: list[Path]) -> None:
    loader = Loader()
    cache = PriorCache(loader, capacity=1)
    assert cache.get(folders[0], "cpu") is cache.get(folders[0], "cpu")
    assert cache.get(folders[0] / ".." / "a", "cpu") is cache.get(folders[0], "cpu")
    assert loader.asked == ["a"]


def test_the_least_recently_used_goes_first(folders: list[Path]) -> None:
    a, b, c = folders
    loader = Loader()
    cache = PriorCache(loader, capacity=2)
    for folder in (a, b, a, c, a, b):
        cache.get(folder, "cpu")
    assert loader.asked == ["a", "b", "c", "b"]


def test_a_prior_is_let_go_before_the_next_is_loaded(folders: list[Path]) -> None:
    loader = Loader()
    cache = PriorCache(loader, capacity=1)
    for folder in folders:
        cache.get(folder, "cpu")
    assert loader.asked == ["a", "b", "c"]
    assert loader.most_alive_while_loading == 0


def test_what_does_not_load_is_not_kept(folders: list[Path], tmp_path: Path) -> None:
    loader = Loader()
    cache = PriorCache(loader, capacity=2)
    for _ in range(2):
        with pytest.raises(BadPrior):
            cache.get(tmp_path / "nowhere", "cpu")
    assert loader.asked == ["nowhere", "nowhere"]


def test_a_cache_must_hold_something() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PriorCache(load, capacity=0)
