"""Tiny priors with random weights, in the format such folders have on disk."""

from pathlib import Path

import pytest
from prior_files import WEIGHTS, rename
from tiny_prior import write_tiny_prior
from tiny_stable_diffusion import write_tiny_stable_diffusion


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unconditional prior: 16 px images, 4 x 8 x 8 latents."""
    folder = tmp_path_factory.mktemp("plain")
    write_tiny_prior(folder)
    return folder


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion 1.x folder as it was published: PNDM, float16, the names its weights had then."""
    folder = tmp_path_factory.mktemp("stable-diffusion")
    write_tiny_stable_diffusion(folder)
    old_attention = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    rename(folder / "vae" / WEIGHTS, old_attention)
    return folder


@pytest.fixture(scope="session")
def stable_diffusion_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 2.x: it predicts v, and its text encoder is another."""
    folder = tmp_path_factory.mktemp("stable-diffusion-2")
    write_tiny_stable_diffusion(folder, "sd2")
    return folder


@pytest.fixture(scope="session")
def stable_diffusion_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """XL: two text encoders, and a denoiser that is told how large a picture was."""
    folder = tmp_path_factory.mktemp("stable-diffusion-xl")
    write_tiny_stable_diffusion(folder, "xl", scale=0.13025)
    return folder
