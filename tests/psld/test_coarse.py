"""Large canvases: what is measured of them is told to a walk at the prior's own size."""

import pytest
import torch
from tile_prior import Toy, noise
from torch import Tensor

from shared import estimates
from worker.psld.coarse import FINE_ENTER, FINE_STEPS, Coarse, sample_large
from worker.psld.jpeg import Jpeg
from worker.psld.operators import Inpaint, MotionBlur, Operator, downsample, gaussian_blur
from worker.psld.sampler import Guidance

LARGE, SMALL = (48, 32), (24, 16)
MASK = Inpaint(noise(1, 1, *LARGE) > 0.9)
LINEAR = [MASK, gaussian_blur(*LARGE, 1.5), downsample(*LARGE, 4), MotionBlur(5, 30)]


def coarse(operator: Operator) -> Coarse:
    return Coarse(operator, LARGE, SMALL, torch.device("cpu"))


@pytest.mark.parametrize("operator", LINEAR)
def test_it_and_its_adjoint_obey_the_law_of_operators(operator: Operator) -> None:
    A, x = coarse(operator), noise(2, 3, *SMALL)
    Ax = A.forward(x)
    w = noise(*Ax.shape)
    difference = (Ax * w).sum() - (x * A.adjoint(w)).sum()
    assert abs(difference) < 1e-5 * Ax.norm() * w.norm()


@pytest.mark.parametrize("operator", LINEAR)
def test_its_norm_is_at_most_that_of_what_it_wraps(operator: Operator) -> None:
    A, x = coarse(operator), noise(1, 3, *SMALL)
    for _ in range(50):
        x = A.adjoint(A.forward(x))
        x = x / x.norm()
    assert A.step * A.forward(x).square().sum() < 1.001


@pytest.mark.parametrize("operator", [*LINEAR, Jpeg(50)])
def test_a_small_picture_that_was_enlarged_and_measured_is_one_without_residual(operator: Operator) -> None:
    A, x = coarse(operator), 0.8 * noise(1, 3, *SMALL).tanh()
    y = operator.forward(A.enlarge(x))
    assert torch.allclose(A.forward(x), A.scaled(y), atol=1e-6)


def walked(prior: Toy, y: Tensor, seeds: list[int], steps: list[tuple[int, int]]) -> Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    guidance = Guidance(10, 0.1, 0.2)
    return sample_large(prior, Inpaint(MASK_OF_A_CANVAS), y, generators, guidance, lambda *done: steps.append(done))


MASK_OF_A_CANVAS = noise(1, 1, 64, 48) > 0.5


def test_a_large_canvas_is_walked_twice_and_its_denoiser_sees_only_what_it_was_made_for() -> None:
    prior, steps = Toy(), list[tuple[int, int]]()
    y = MASK_OF_A_CANVAS * noise(1, 3, 64, 48).tanh()
    x = walked(prior, y, [1], steps)
    assert x.shape == (1, 3, 64, 48)
    # Ten steps and two, counted as if they were ten in all.
    assert steps == [(done, 10) for done in (1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10)]
    assert prior.seen[:10] == [(8, 6)] * 10
    assert set(prior.seen[10:]) == {(8, 8)}


def test_rows_of_a_large_canvas_do_not_depend_on_their_batch() -> None:
    y = MASK_OF_A_CANVAS * noise(2, 3, 64, 48).tanh()
    together = walked(Toy(), y, [1, 2], [])
    for row, seed in enumerate([1, 2]):
        alone = walked(Toy(), y[row : row + 1], [seed], [])
        assert (together[row] - alone[0]).abs().max() < 1e-4
    assert not torch.allclose(together[0], walked(Toy(), y[:1], [3], [])[0], atol=1e-2)


def test_what_a_job_would_take_is_reckoned_with_the_steps_that_are_taken() -> None:
    assert pytest.approx(FINE_ENTER * FINE_STEPS) == estimates.SECOND_WALK
