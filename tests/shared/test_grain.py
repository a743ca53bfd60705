"""Grain: as much of the finest detail as the original has, where it was regrown, and nowhere else."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from shared.grain import grain
from shared.tell import box_tell

SIDE = 200
BOX = np.array([[0.4, 0.4, 0.6, 0.6]])
OUTSIDE = np.ones((SIDE, SIDE), dtype=np.bool_)
OUTSIDE[80:120, 80:120] = False


def textured(strength: float = 8.0, seed: int = 0) -> np.ndarray:
    """A ramp with noise as fine as pixels, (1, SIDE, SIDE)."""
    ramp = np.linspace(60, 180, SIDE) * np.ones((1, SIDE, 1))
    return ramp + strength * np.random.default_rng(seed).standard_normal((1, SIDE, SIDE))


def softened(picture: np.ndarray) -> np.ndarray:
    """As a model gives it back, its box copied."""
    soft = gaussian_filter(picture, (0, 2, 2))
    return np.where(OUTSIDE, soft, picture)


@pytest.mark.parametrize("strength", [2.0, 8.0, 25.0])
def test_a_box_copied_into_soft_surroundings_is_told_by_its_sharpness_until_they_have_grain(strength: float) -> None:
    old = textured(strength)
    new = softened(old)
    grown = new + grain(new, old, OUTSIDE, np.random.default_rng(1))
    assert box_tell(new, old, BOX) > 3
    # Measured: 1.18. White noise has some of its strength in what a Gaussian of one pixel leaves.
    assert box_tell(grown, old, BOX) == pytest.approx(1, abs=0.2)


def test_it_is_zero_where_pixels_are_copied_and_what_is_there_does_not_count() -> None:
    old = textured()
    new = softened(old)
    noise = grain(new, old, OUTSIDE, np.random.default_rng(1))
    assert (noise[~OUTSIDE] == 0).all()
    assert (noise[OUTSIDE] != 0).mean() > 0.99
    changed_inside = np.where(OUTSIDE, old, 255 * (np.indices((SIDE, SIDE)).sum(0) % 2))
    again = grain(new, changed_inside, OUTSIDE, np.random.default_rng(1))
    # Only by what a Gaussian of one pixel carries over the edge of the box:
    assert np.abs(again - noise)[OUTSIDE & ~_near(OUTSIDE)].max() < 0.5 * np.abs(noise).max()


def _near(area: np.ndarray) -> np.ndarray:
    return np.asarray(gaussian_filter((~area).astype(float), 8) > 1e-3)


def test_it_follows_the_original_from_place_to_place() -> None:
    old = np.concatenate([textured(20)[..., : SIDE // 2], textured(4)[..., SIDE // 2 :]], axis=2)
    noise = grain(gaussian_filter(old, (0, 2, 2)), old, np.ones_like(OUTSIDE), np.random.default_rng(1))
    left, right = noise[:, : SIDE // 2 - 20], noise[:, SIDE // 2 + 20 :]
    assert left.std() / right.std() == pytest.approx(5, rel=0.15)


def test_what_is_as_sharp_as_the_original_has_none() -> None:
    assert np.abs(grain(textured(9), textured(3), OUTSIDE, np.random.default_rng(1))).max() == 0


def test_the_same_stream_gives_the_same_grain_and_another_another() -> None:
    old = textured()
    first, again, other = (grain(softened(old), old, OUTSIDE, np.random.default_rng(n)) for n in (1, 1, 2))
    assert (first == again).all()
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.05


def test_colours_share_one_grain_so_that_grey_stays_grey() -> None:
    old = textured().repeat(3, 0)
    assert grain(softened(old), old, OUTSIDE, np.random.default_rng(1)).shape == (SIDE, SIDE)
