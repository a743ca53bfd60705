"""The sampler on the built-in prior: short walks on a small canvas."""

import pytest
import torch
from torch import Tensor

from worker.priors.diffusers import BUILTIN, DiffusersPrior, load
from worker.psld.operators import Inpaint
from worker.psld.sampler import Guidance, sample

SIDE = 32


@pytest.fixture(scope="module")
def prior() -> DiffusersPrior:
    return load(BUILTIN)


@pytest.fixture(scope="module")
def ramp() -> Tensor:
    """Brighter to the right, (1, 3, SIDE, SIDE)."""
    return torch.linspace(-1, 1, SIDE).expand(1, 3, SIDE, SIDE)


@pytest.fixture(scope="module")
def operator() -> Inpaint:
    return Inpaint(torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) < 0.3)


def regrow(prior: DiffusersPrior, operator: Inpaint, x: Tensor, seeds: list[int], guidance: Guidance) -> Tensor:
    y = operator.forward(x).expand(len(seeds), -1, -1, -1)
    return sample(prior, operator, y, [torch.Generator().manual_seed(seed) for seed in seeds], guidance)


def psnr_kept(operator: Inpaint, x: Tensor, truth: Tensor) -> Tensor:
    """Of each row, in dB."""
    squares = operator.forward(x - truth).square().sum(dim=(1, 2, 3)) / (3 * operator.mask.sum())
    return 10 * torch.log10(4 / squares)


def test_guidance_brings_the_kept_pixels_nearer(prior: DiffusersPrior, operator: Inpaint, ramp: Tensor) -> None:
    seeds = [1, 2, 3]
    guided = psnr_kept(operator, regrow(prior, operator, ramp, seeds, Guidance(8, 0.5, 2.5)), ramp)
    unguided = psnr_kept(operator, regrow(prior, operator, ramp, seeds, Guidance(8, 0, 0)), ramp)
    assert (guided > unguided + 4).all()  # measured: 13 to 25 dB against 5 to 7


def test_the_same_seed_gives_the_same_bytes(prior: DiffusersPrior, operator: Inpaint, ramp: Tensor) -> None:
    first, second = (regrow(prior, operator, ramp, [7], Guidance(4, 0.5, 2.5, 0.5)) for _ in range(2))
    assert torch.equal(first, second)


def test_a_row_does_not_depend_on_its_batch(prior: DiffusersPrior, operator: Inpaint, ramp: Tensor) -> None:
    guidance = Guidance(4, 0.5, 2.5)
    together = regrow(prior, operator, ramp, [1, 2], guidance)
    for row, seed in enumerate([1, 2]):
        alone = regrow(prior, operator, ramp, [seed], guidance)
        assert (together[row] - alone[0]).abs().max() < 1e-4  # measured: 2e-6; with one norm a batch: 0.65


def test_a_canvas_that_does_not_fit_the_prior_is_refused(prior: DiffusersPrior) -> None:
    mask = torch.ones(1, 1, 72, 64)
    with pytest.raises(ValueError, match="multiples of 16, not 72 x 64"):
        sample(prior, Inpaint(mask), torch.zeros(1, 3, 72, 64), [torch.Generator()], Guidance(4, 0, 1))
