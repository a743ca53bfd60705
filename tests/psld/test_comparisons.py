"""What our sampler is compared with does what it says, on a tiny Stable Diffusion."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from tiny_stable_diffusion import write_tiny_stable_diffusion

from benchmarks import comparisons
from worker.priors.diffusers import BUILTIN, DiffusersPrior, load

X = np.random.default_rng(0).uniform(-1, 1, (3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> DiffusersPrior:
    folder = tmp_path_factory.mktemp("sd")
    write_tiny_stable_diffusion(folder)
    return load(folder)


def through(vae: AutoencoderKL, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        made: np.ndarray = vae.decode(vae.encode(torch.from_numpy(x)[None]).latent_dist.mode()).sample[0].numpy()
    return made


def test_an_edit_is_the_farther_from_the_picture_the_more_noise_it_begins_with(prior: DiffusersPrior) -> None:
    same = through(prior._vae, X)
    away = [np.abs(comparisons.sdedit(prior, X, 1, steps=5, strength=share) - same).mean() for share in (0.01, 0.2, 1)]
    assert away[0] < away[1] < away[2]
    assert not np.array_equal(*(comparisons.sdedit(prior, X, seed, steps=5) for seed in (1, 2)))


def test_the_pipeline_paints_what_is_hidden_by_the_prompt(prior: DiffusersPrior) -> None:
    keep = np.zeros((16, 16), bool)
    keep[:, :8] = True
    told = {"prompt": "ab", "negative": "", "scale": 5.0}
    made = comparisons.inpaint_pipeline(prior, X, keep, 1, steps=4, erode=0, told=told)
    other = comparisons.inpaint_pipeline(prior, X, keep, 1, steps=4, erode=0, told=told | {"prompt": "c"})
    rim = comparisons.inpaint_pipeline(prior, X, keep, 1, steps=4, erode=4, told=told)
    assert made.shape == X.shape
    assert not np.allclose(made[:, :, 10:], other[:, :, 10:])
    assert not np.allclose(made, rim)
    all_kept = [
        comparisons.inpaint_pipeline(prior, X, np.ones_like(keep), 1, steps=4, erode=0, told=told | {"prompt": prompt})
        for prompt in ("ab", "c")
    ]
    np.testing.assert_array_equal(*all_kept)


def test_it_needs_a_prior_with_a_text_encoder() -> None:
    with pytest.raises(SystemExit, match="needs a Stable Diffusion prior"):
        comparisons.inpaint_pipeline(load(BUILTIN), X, np.ones((16, 16), bool), 1, told={})
