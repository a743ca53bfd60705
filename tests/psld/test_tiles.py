"""A denoiser in tiles: what it must equal, and what it must leave alone."""

from itertools import pairwise

import pytest
import torch
from tile_prior import TILE, Toy, noise
from torch import Tensor

from worker.psld.tiles import OVERLAP, Tiled, spans, weights


class Constant(Toy):
    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(z, 0.7)


SIDES = [*range(1, 40), 112, 113]


@pytest.mark.parametrize("side", SIDES)
def test_weights_sum_to_one_at_each_place_and_are_zero_outside_their_tile(side: int) -> None:
    shares = weights(side, TILE)
    assert torch.allclose(shares.sum(dim=0), torch.ones(side), atol=1e-6)
    for span, share in zip(spans(side, TILE), shares, strict=True):
        assert (share[span] > 0).all()
        assert share.count_nonzero() == span.stop - span.start


@pytest.mark.parametrize("side", SIDES)
def test_tiles_reach_from_end_to_end_and_overlap(side: int) -> None:
    found = spans(side, TILE)
    assert found[0].start == 0
    assert found[-1].stop == side
    assert all(span.stop - span.start == min(TILE, side) for span in found)
    assert all(before.stop - after.start >= OVERLAP * TILE for before, after in pairwise(found))


@pytest.mark.parametrize("shape", [(TILE, TILE), (TILE, 4), (2, 3)])
def test_latents_that_fit_a_tile_are_bit_equal_to_those_without_tiling(shape: tuple[int, int]) -> None:
    z, t = noise(2, 3, *shape), torch.tensor([3, 7])
    assert torch.equal(Tiled(Toy()).eps(z, t), Toy().eps(z, t))


@pytest.mark.parametrize("shape", [(9, 9), (8, 20), (20, 6), (28, 31)])
def test_each_latent_pixel_is_covered_and_no_tile_is_larger_than_the_prior_knows(shape: tuple[int, int]) -> None:
    e = Tiled(Constant()).eps(noise(1, 3, *shape), torch.tensor([1]))
    assert e.shape[-2:] == shape
    assert torch.allclose(e, torch.tensor(0.7), atol=1e-6)
    toy = Toy()
    Tiled(toy).eps(noise(1, 3, *shape), torch.tensor([1]))
    assert set(toy.seen) == {(min(shape[0], TILE), min(shape[1], TILE))}


def test_far_from_seams_the_estimate_is_that_of_one_tile() -> None:
    z, t = noise(1, 3, 15, 8), torch.tensor([2])
    e = Tiled(Toy()).eps(z, t)
    assert torch.allclose(e[..., :7, :], Toy().eps(z[..., :8, :], t)[..., :7, :], atol=1e-6)
    assert torch.allclose(e[..., 8:, :], Toy().eps(z[..., 7:, :], t)[..., 1:, :], atol=1e-6)


def test_a_row_does_not_depend_on_its_batch() -> None:
    z, t = noise(3, 3, 20, 13), torch.tensor([1, 5, 9])
    together = Tiled(Toy()).eps(z, t)
    for row in range(3):
        assert torch.allclose(together[row], Tiled(Toy()).eps(z[row : row + 1], t[row : row + 1])[0], atol=1e-6)


def test_the_gradient_is_that_of_finite_differences() -> None:
    z = noise(1, 1, 11, 9).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda each: Tiled(Toy()).eps(each, torch.tensor([2])), (z,), atol=1e-4)


def test_the_rest_is_the_priors_own() -> None:
    toy, x = Toy(), noise(1, 3, 64, 32)
    tiled = Tiled(toy)
    assert torch.equal(tiled.decode(tiled.encode(x)), toy.decode(toy.encode(x)))
    assert tiled.latent_shape(64, 32) == (3, 16, 8)
    assert (tiled.native_size, tiled.multiple) == (toy.native_size, toy.multiple)
    assert torch.equal(tiled.alpha_bar, toy.alpha_bar)


class Local(Toy):
    """Estimates smoothly, but each tile as if it were the whole: the same place is otherwise in each tile."""

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, z.shape[-1]) + torch.linspace(-1, 1, z.shape[-2])[:, None]
        return ramp.expand_as(z)


def steps_at(e: Tensor, places: list[int]) -> float:
    """The greatest step between neighbouring columns at some places, which each begins a column."""
    across = (e[..., 1:] - e[..., :-1]).abs().amax(dim=(0, 1, 2))
    return float(across[[place - 1 for place in places]].max())


@pytest.mark.parametrize("side", [12, 20, 31])
def test_where_tiles_begin_and_end_there_is_no_step_that_is_not_elsewhere(side: int) -> None:
    e = Tiled(Local()).eps(torch.zeros(1, 3, TILE, side), torch.tensor([1]))
    found = spans(side, TILE)
    ends = sorted({each for span in found for each in (span.start, span.stop)} - {0, side})
    others = [place for place in range(1, side) if place not in ends]
    assert steps_at(e, ends) < 1.3 * steps_at(e, others)
    # The same tiles, one cut off where the next begins:
    hard = torch.zeros_like(e)
    for span in found:
        hard[..., span] = Local().eps(hard[..., span], torch.tensor([1]))
    assert steps_at(hard, ends) > 3 * steps_at(e, ends)
