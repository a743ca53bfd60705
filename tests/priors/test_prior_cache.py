import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny_single_file import write_single_file
from tiny_stable_diffusion import write_tiny_stable_diffusion

from worker.memory import Endless
from worker.priors import single
from worker.priors.cache import PriorCache, TooLarge
from worker.priors.diffusers import BUILTIN, BadPrior, load
from worker.priors.files import size_in_memory

SIZE = 100
"""What each prior here is said to take."""


class Loaded:
    """What stands for a prior: the cache asks nothing of one."""


class Loader:
    """Loads, and remembers which folders were asked for and what is still alive."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.most_alive_while_loading = 0

    def __call__(self, folder: Path, _device: str) -> Any:
        self.most_alive_while_loading = max(self.most_alive_while_loading, len(self.alive))
        self.asked.append(folder.name)
        if not folder.is_dir():
            raise BadPrior(f"{folder} is not a folder")
        made = Loaded()
        self.alive.add(made)
        return made


class Small(Endless):
    """A device that has room for so many bytes, of which each prior alive takes SIZE and others what they take."""

    def __init__(self, total: int, loader: Loader) -> None:
        self._total, self._loader, self.others = total, loader, 0

    def total(self) -> int:
        return self._total

    def free(self) -> int:
        return self._total - self.others - SIZE * len(self._loader.alive)


Make = Callable[..., tuple[PriorCache, Loader, Small]]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in "abc"]
    for folder in made:
        folder.mkdir()
    return made


@pytest.fixture
def make() -> Make:
    """A cache on a device with room for `total` bytes."""

    def made(total: int, reserve: int = 0) -> tuple[PriorCache, Loader, Small]:
        loader = Loader()
        memory = Small(total, loader)
        return PriorCache(loader, loader, size=lambda _: SIZE, memory=memory, reserve=reserve), loader, memory

    return made


def test_a_prior_is_loaded_once(folders: list[Path]) -> None:
    loader = Loader()
    cache = PriorCache(loader)
    assert cache.get(folders[0], "cpu") is cache.get(folders[0], "cpu")
    assert cache.get(folders[0] / ".." / "a", "cpu") is cache.get(folders[0], "cpu")
    assert loader.asked == ["a"]


def test_the_least_recently_used_goes_first(folders: list[Path], make: Make) -> None:
    a, b, c = folders
    cache, loader, _ = make(2 * SIZE)
    for folder in (a, b, a, c, a, b):
        cache.get(folder, "cpu")
    assert loader.asked == ["a", "b", "c", "b"]


def test_all_stay_while_there_is_room_for_them_and_for_others(folders: list[Path], make: Make) -> None:
    cache, loader, memory = make(3 * SIZE + 50, reserve=50)
    for folder in folders * 2:
        cache.get(folder, "cpu")
    assert loader.asked == ["a", "b", "c"]
    cache, loader, memory = make(3 * SIZE + 49, reserve=50)
    for folder in folders:
        cache.get(folder, "cpu")
    assert cache.loaded("cpu") == {folder.resolve() for folder in folders[1:]}
    memory.others = 149  # somebody else came onto the device: one makes way for one, and then another
    cache.get(folders[0], "cpu")
    assert cache.loaded("cpu") == {folders[0].resolve()}


def test_a_prior_is_let_go_before_the_next_is_loaded(folders: list[Path], make: Make) -> None:
    cache, loader, _ = make(SIZE)
    for folder in folders:
        cache.get(folder, "cpu")
    assert loader.asked == ["a", "b", "c"]
    assert loader.most_alive_while_loading == 0


def test_what_others_take_does_not_keep_a_prior_from_being_tried(folders: list[Path], make: Make) -> None:
    cache, loader, memory = make(2 * SIZE)
    memory.others = 2 * SIZE
    cache.get(folders[0], "cpu")
    assert loader.asked == ["a"]


def test_what_the_device_could_never_hold_is_not_loaded_and_costs_nothing_that_is(
    folders: list[Path], make: Make
) -> None:
    cache, loader, _ = make(SIZE, reserve=50)
    cache.get(folders[0], "cpu")
    assert loader.asked == ["a"], "who wants what is to stay free is at least tried"
    cache, loader, _ = make(SIZE - 1)
    with pytest.raises(TooLarge, match="take 100 bytes, and the device has 99"):
        cache.get(folders[1], "cpu")
    assert loader.asked == []


def test_an_autoencoder_lies_in_the_same_cache_and_never_drives_out_the_prior_it_guides(
    folders: list[Path], make: Make
) -> None:
    prior, guide, other = folders
    cache, _, memory = make(2 * SIZE)
    cache.get(other, "cpu")
    cache.get(prior, "cpu")
    first = cache.autoencoder(guide, "cpu", beside=prior)
    assert cache.loaded("cpu") == {prior.resolve(), guide.resolve()}
    assert cache.autoencoder(guide, "cpu", beside=prior) is first
    memory.others = 2 * SIZE
    cache.autoencoder(other, "cpu", beside=prior)
    assert cache.loaded("cpu") == {prior.resolve(), other.resolve()}


def test_all_but_some_are_let_go(folders: list[Path]) -> None:
    loader = Loader()
    cache = PriorCache(loader)
    for folder in folders:
        cache.get(folder, "cpu")
    assert cache.keep([folders[1] / ".." / "b"])
    assert cache.loaded("cpu") == {folders[1].resolve()}
    assert not cache.keep([folders[1]])
    assert cache.clear()
    assert len(loader.alive) == 0
    assert not cache.clear()


def test_nothing_of_a_real_prior_stays_when_it_is_let_go(plain: Path) -> None:
    cache = PriorCache(load)
    prior = cache.get(plain, "cpu")
    alive = weakref.ref(prior)
    del prior
    gc.collect()
    assert alive() is not None
    cache.clear()
    gc.collect()
    assert alive() is None


def test_what_does_not_load_is_not_kept(tmp_path: Path) -> None:
    loader = Loader()
    cache = PriorCache(loader)
    for _ in range(2):
        with pytest.raises(BadPrior):
            cache.get(tmp_path / "nowhere", "cpu")
    assert loader.asked == ["nowhere", "nowhere"]


def test_a_size_is_known_before_loading(plain: Path, tmp_path: Path) -> None:
    for folder in (plain, BUILTIN):
        prior = load(folder)
        weights = [*prior._unet.parameters(), *prior._vae.parameters()]
        assert size_in_memory(folder) == sum(each.numel() * each.element_size() for each in weights)
        assert size_in_memory(folder, each=2) * 2 == size_in_memory(folder)
    assert size_in_memory(tmp_path / "nowhere") == 0
    broken = Path(shutil.copytree(plain, tmp_path / "broken"))
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    assert 0 < size_in_memory(broken) < size_in_memory(plain)


def test_of_the_same_weights_twice_and_of_a_text_encoder_nothing_counts(tmp_path: Path) -> None:
    folder = tmp_path / "sd"
    write_tiny_stable_diffusion(folder)
    size = size_in_memory(folder)
    parts = [load_file(folder / part / "diffusion_pytorch_model.safetensors") for part in ("unet", "vae")]
    assert size == 4 * sum(values.numel() for part in parts for values in part.values())
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    write_single_file(folder, tmp_path / "whole.safetensors")
    single.lay_out(tmp_path / "whole.safetensors", tmp_path / "whole", configs=folder)
    assert size_in_memory(tmp_path / "whole") == size
    shutil.copyfile(weights, weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert size_in_memory(folder) == size
    weights.unlink()
    assert size_in_memory(folder) == size
