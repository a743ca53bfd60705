"""What a resolved spec says reaches the sampler."""

import numpy as np
import pytest
import torch

from shared.spec import ExpansionSpec, ResolvedSpec, resolve
from worker import recipe
from worker.priors.diffusers import BUILTIN, DiffusersPrior, load
from worker.psld.operators import Inpaint, ReferenceInpaint
from worker.psld.sampler import REFERENCE, Guidance, sample

SIDE = 32
RAMP = np.linspace(-1, 1, SIDE, dtype=np.float32) * np.ones((1, 3, SIDE, 1), dtype=np.float32)
KEEP = np.arange(SIDE)[None, None] < np.full((1, SIDE, 1), SIDE // 2)


@pytest.fixture(scope="module")
def prior() -> DiffusersPrior:
    torch.set_num_threads(1)
    return load(BUILTIN)


def resolved(**spec: object) -> ResolvedSpec:
    wanted = ExpansionSpec.model_validate({"dataset_id": "x", "canvas": {"long_side": SIDE}, **spec})
    return resolve(wanted, prior_sha256="", native_size=128, multiple=16)


def regrow(prior: DiffusersPrior, spec: ResolvedSpec, seeds: tuple[int, ...] = (3,)) -> np.ndarray:
    n = len(seeds)
    return recipe.regrow(prior, spec, RAMP.repeat(n, 0), KEEP.repeat(n, 0), seeds, lambda _done, _steps: None)


def test_the_preset_reference_is_the_authors_sampler_with_noise_from_the_items_own_generator(
    prior: DiffusersPrior,
) -> None:
    spec = resolved(sampler={"preset": "reference", "steps": 4})
    generator = torch.Generator().manual_seed(3)
    operator = ReferenceInpaint(torch.from_numpy(KEEP)[:, None])
    x = torch.from_numpy(RAMP)
    y = operator.forward(x) + 0.05 * torch.randn(1, 3, SIDE, SIDE, generator=generator)
    guidance = Guidance(4, 0.2, 1.0, fresh_noise=0.05, conventions=REFERENCE)
    by_hand = sample(prior, operator, y, [generator], guidance)
    assert np.array_equal(regrow(prior, spec), by_hand.numpy())


def test_the_other_presets_measure_without_noise_unless_asked(prior: DiffusersPrior) -> None:
    spec = resolved(sampler={"preset": "exact", "steps": 4})
    operator = Inpaint(torch.from_numpy(KEEP)[:, None])
    y = operator.forward(torch.from_numpy(RAMP))
    by_hand = sample(prior, operator, y, [torch.Generator().manual_seed(3)], Guidance(4, 0.2, 1.0))
    assert np.array_equal(regrow(prior, spec), by_hand.numpy())
    noisy = resolved(sampler={"preset": "exact", "steps": 4}, operator={"noise": 0.2})
    assert not np.array_equal(regrow(prior, noisy), by_hand.numpy())


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_row_does_not_depend_on_its_batch(prior: DiffusersPrior, noise: float) -> None:
    spec = resolved(sampler={"steps": 4}, operator={"noise": noise})
    together = regrow(prior, spec, (1, 2))
    for row, seed in enumerate((1, 2)):
        assert np.abs(together[row] - regrow(prior, spec, (seed,))[0]).max() < 1e-4
