"""A prompt decides what is regrown, and what is kept stays what it was measured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.configuration_utils import FrozenDict
from torch import Tensor, nn

from worker.priors.diffusers import DiffusersPrior
from worker.priors.files import Files
from worker.priors.text import Text
from worker.psld.operators import Inpaint
from worker.psld.sampler import Guidance, sample

SIDE = 16
LEVELS = torch.linspace(0.9999, 0.005, 100)
SPREAD = 0.5


class Shuffled(nn.Module):
    """An autoencoder that loses nothing: the four pixels of a square become channels."""

    config = FrozenDict(scaling_factor=1.0, latent_channels=12, block_out_channels=(1, 1))

    def encode(self, x: Tensor) -> Any:
        return SimpleNamespace(latents=nn.functional.pixel_unshuffle(x, 2))

    def decode(self, z: Tensor) -> Any:
        return SimpleNamespace(sample=nn.functional.pixel_shuffle(z, 2))


class Plain(nn.Module):
    """The exact denoiser of pictures that are grey all over, how bright being said by the first word of the prompt."""

    config = SimpleNamespace(
        block_out_channels=(1, 1), sample_size=SIDE // 2, cross_attention_dim=12, addition_embed_type=None
    )
    device = torch.device("cpu")

    def forward(self, z: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> Any:
        ab = LEVELS[t][:, None, None, None]
        brightness = encoder_hidden_states[:, 1, 0].clamp(-1, 1)[:, None, None, None]
        clean = brightness + ab.sqrt() * SPREAD**2 / (ab * SPREAD**2 + 1 - ab) * (z - ab.sqrt() * brightness)
        return SimpleNamespace(sample=(z - ab.sqrt() * clean) / (1 - ab).sqrt())


@pytest.fixture(scope="module")
def prior(stable_diffusion: Path) -> DiffusersPrior:
    files = Files(stable_diffusion)
    return DiffusersPrior(Shuffled(), Plain(), LEVELS, Text(files, Plain.config))


@pytest.fixture(scope="module")
def words(prior: DiffusersPrior) -> tuple[str, str]:
    """The darkest word and the brightest."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    said = sorted(letters, key=lambda letter: float(prior.told(letter, "", 1)._conditions[0].tokens[0, 1, 0]))
    return said[0], said[-1]


def regrown(prior: DiffusersPrior) -> tuple[Tensor, Tensor, Tensor]:
    """The picture, what was kept of it, and where."""
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., : SIDE // 2] = 1
    y = mask * 0.1
    x = sample(prior, Inpaint(mask), y, [torch.Generator().manual_seed(0)], Guidance(100, 0.2, 1.0))
    return x, y, mask


def test_the_prompt_changes_what_is_regrown_and_not_what_is_kept(prior: DiffusersPrior, words: tuple[str, str]) -> None:
    dark, y, mask = regrown(prior.told(words[0], "", 1.0))
    bright, _, _ = regrown(prior.told(words[1], "", 1.0))
    for x in (dark, bright):
        assert ((x - y) * mask).abs().max() < 0.2
    hidden = mask.expand_as(dark) == 0
    assert bright[hidden].mean() - dark[hidden].mean() > 0.8
    assert (bright - dark)[~hidden].abs().mean() < 0.06


def test_guidance_goes_beyond_what_the_prompt_alone_would_draw(prior: DiffusersPrior, words: tuple[str, str]) -> None:
    def mean(scale: float) -> float:
        x, _, mask = regrown(prior.told(words[1], words[0], scale))
        return float(x[mask.expand_as(x) == 0].mean())

    once, twice = mean(1.0), mean(2.0)
    dark, bright = (float(prior.told(word, "", 1)._conditions[0].tokens[0, 1, 0].clamp(-1, 1)) for word in words)
    assert once == pytest.approx(bright, abs=0.1)
    # Of pictures that differ in brightness alone, the guided estimate's is that far beyond.
    assert twice == pytest.approx(bright + (bright - dark), abs=0.25)
