"""How far regrown images are from real ones, as benchmarks.fidelity measures it."""

import numpy as np
import pytest

from benchmarks.features import contributions, distance, interval, standardised

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(30, 4))


def around(shift: float, nearness: float = 0.0, variants: int = 1) -> np.ndarray:
    """Of each real one as many, that far off in one feature, and so near to their own source."""
    drawn = RNG.normal(size=(30, variants, 4))
    moved = nearness * REAL[:, None] + np.sqrt(1 - nearness**2) * drawn
    moved[..., 0] += shift
    return moved


def test_a_set_of_the_same_distribution_is_at_no_distance_and_one_that_moved_is() -> None:
    assert abs(distance(contributions(REAL, around(0, variants=3)))) < 0.1
    assert distance(contributions(REAL, around(2))) > 1


def test_nearness_to_the_own_source_earns_nothing() -> None:
    assert distance(contributions(REAL, REAL[:, None])) == pytest.approx(0)
    assert abs(distance(contributions(REAL, around(0, nearness=0.9, variants=3)))) < 0.1


def test_images_drawn_twice_do_not_meet_themselves() -> None:
    found = contributions(REAL, around(0))
    drawn = np.zeros(30, np.int64)
    drawn[:3] = 5, 1, 1
    pairs = [found[i, j] * drawn[i] * drawn[j] for i in range(3) for j in range(3) if i != j]
    assert distance(found, drawn) == pytest.approx(sum(pairs) / 22)


def test_an_interval_tells_sets_apart_and_one_outlier_does_not_widen_it() -> None:
    same, odd = around(0), around(0)
    odd[7] += 1000
    first = contributions(REAL, same)
    low, high = interval(contributions(REAL, around(2)), first, resamples=200)
    assert 0.5 < low < high < 5
    low, high = interval(contributions(REAL, odd), first, resamples=200)
    assert -1 < low < high < 1
    assert interval(first, first, resamples=20) == (0, 0)


def test_a_feature_that_real_images_do_not_have_counts_for_nothing() -> None:
    dead, woken = np.zeros((30, 1)), np.zeros((30, 1))
    woken[3] = 1
    plain = standardised(REAL, around(0)[:, 0])
    more = standardised(np.hstack([REAL, dead]), np.hstack([plain[1], woken]))
    assert more[1].shape == more[0].shape == plain[0].shape
    assert np.allclose(more[0], plain[0])
