from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import SIDE, pictures, pixels, run, settings
from numpy.typing import NDArray
from PIL import Image

from worker.training import CannotTrain, checkpoints, denoiser, models
from worker.training.autoencoder import as_floats
from worker.training.pictures import read

BLOCK = 4
CLEAN = np.stack([np.repeat(pixels(5_000 + seed)[None], 3, axis=0) for seed in range(16)])


def holes(seed: int) -> NDArray[np.bool_]:
    """Where 40 % of a picture's blocks are damaged."""
    cells = np.random.default_rng(seed).random((SIDE // BLOCK, SIDE // BLOCK)) < 0.4
    return cells.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def damaged(seed: int, *, transparent: bool, value: int = 0) -> Image.Image:
    """A picture of which parts are black, and transparent too if it says so."""
    hidden = holes(seed)
    grey = Image.fromarray(np.where(hidden, value, pixels(seed)).astype(np.uint8))
    if not transparent:
        return grey
    return Image.merge("LA", (grey, Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))))


def all_damaged(count: int, **how: Any) -> list[Callable[[], Image.Image]]:
    return [partial(damaged, seed, **how) for seed in range(count)]


def guessed_psnr(folder: Path) -> float:
    """How near the denoiser's guesses at strongly noised, undamaged pictures, never seen, are to them."""
    kept = checkpoints.load(folder / checkpoints.FINISHED)
    assert kept is not None
    made = models.restored(kept["configs"])
    made.vae.load_state_dict(kept["vae"])
    made.unet.load_state_dict(kept["unet"])
    with torch.no_grad():
        z = denoiser.encode(made.vae, CLEAN, torch.device("cpu")) * made.scale
        ab = made.alpha_bar[500]
        z_t = ab.sqrt() * z + (1 - ab).sqrt() * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        e = made.unet(z_t, torch.full((len(z),), 500)).sample
        guess = made.vae.decode((z_t - (1 - ab).sqrt() * e) / ab.sqrt() / made.scale).sample.clamp(-1, 1)
    return float(10 * torch.log10(4 / (guess - as_floats(CLEAN)).square().mean()))


@pytest.mark.slow
def test_damaged_pictures_teach_undamaged_ones(tiny: Path, tmp_path: Path) -> None:
    """Trained on pictures with holes, the recipe that knows of them guesses whole ones better than the naive one."""
    steps = {"autoencoder_steps": 150, "denoiser_steps": 250, "checkpoint_every": 1000, "sample_every": 1000}
    numbers = {
        "autoencoder_batch": 8,
        "denoiser_batch": 16,
        "denoiser_side": SIDE,
        "denoiser_rate": 2e-3,
        "average": 0.98,
    }
    for recipe in ("small", "ambient"):
        loaders = all_damaged(100, transparent=recipe == "ambient")
        run(tmp_path / recipe, settings(recipe=recipe, **steps, **numbers), init=tiny, loaders=loaders)
    naive, ambient = (guessed_psnr(tmp_path / recipe) for recipe in ("small", "ambient"))
    assert ambient > naive + 1


def test_what_is_hidden_is_nowhere_in_memory() -> None:
    """Whatever lies under transparent pixels, the squares that a training keeps are the same."""
    numbers = settings(recipe="ambient")
    black, white = (read(all_damaged(24, transparent=True, value=value), numbers) for value in (0, 255))
    # Sorted by digests, which are of the hidden values as well.
    ours, theirs = (sorted(each.large.reshape(24, -1).tolist()) for each in (black, white))
    assert ours == theirs
    assert black.known_large.mean() == pytest.approx(0.6, abs=0.1)


def test_a_share_is_hidden_on_purpose_and_for_good() -> None:
    numbers = settings(recipe="ambient", hidden=0.25)
    first, again = (read(pictures(24), numbers) for _ in range(2))
    assert (first.known_large.mean(axis=(1, 2)) == 0.75).all()
    assert (first.known_native.mean(axis=(1, 2)) == 0.75).all()
    assert (first.known_large == again.known_large).all()
    assert len({area.tobytes() for area in first.known_large}) > 20


def test_a_step_hides_more_and_learns_it_where_noise_is_strong() -> None:
    """With all the signal hidden, the best answer to strong noise is no longer the noise: what lies below it counts."""
    z = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    alpha_bar = torch.linspace(0.4, 0.1, 1000)
    known = torch.ones(8, 1, 8, 8, dtype=torch.bool)

    class Echo:
        """Takes what it sees for noise alone."""

        def __call__(self, z_t: torch.Tensor, t: torch.Tensor) -> Any:
            scaled = z_t / (1 - alpha_bar[t])[:, None, None, None].sqrt()
            return type("Output", (), {"sample": scaled})

    def loss(further: float) -> float:
        return float(denoiser.loss(Echo(), z, known, alpha_bar, torch.Generator().manual_seed(2), further=further))

    signal = float((alpha_bar / (1 - alpha_bar)).mean())
    assert loss(0) == pytest.approx(signal, rel=0.15)
    assert loss(0.9) == pytest.approx(signal, rel=0.15), "an error in a cell that is hidden counts as any other"


def test_what_is_unknown_does_not_count(tiny: Path) -> None:
    """A latent's unknown cells may hold anything: the loss is the same."""
    made = models.continued(tiny, 16)
    known = torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    known[..., :4] = True
    z = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    other = torch.where(known, z, 100.0)
    with torch.no_grad():
        ours, theirs = (
            denoiser.loss(made.unet, each, known, made.alpha_bar, torch.Generator().manual_seed(0), further=0.5)
            for each in (z, other)
        )
    assert torch.equal(ours, theirs)


def test_a_picture_hidden_completely_is_refused() -> None:
    empty = Image.new("LA", (SIDE, SIDE), (0, 0))
    with pytest.raises(CannotTrain, match="hidden completely"):
        read([*pictures(24), lambda: empty], settings(recipe="ambient"))
