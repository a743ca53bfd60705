"""SSIM among some pixels, on pictures of which it is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from shared.similarity import ssim

WHOLE = np.ones((64, 48), dtype=np.bool_)


def picture(seed: int = 0) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(0, 0.4, (64, 48)), -1, 1).astype(np.float32)


def reference(x: np.ndarray, y: np.ndarray) -> float:
    """Wang's formula, window by window."""
    c1, c2, found = (0.01 * 2) ** 2, (0.03 * 2) ** 2, []
    for top in range(0, 64, 8):
        for left in range(0, 48, 8):
            a, b = (each[top : top + 8, left : left + 8].astype(float) for each in (x, y))
            cov = ((a - a.mean()) * (b - b.mean())).mean()
            means, spread = a.mean() ** 2 + b.mean() ** 2 + c1, a.var() + b.var() + c2
            found.append((2 * a.mean() * b.mean() + c1) * (2 * cov + c2) / (means * spread))
    return float(np.mean(found))


def test_a_picture_is_like_itself_and_the_formula_is_wangs() -> None:
    x = picture()
    assert ssim(x, x, WHOLE) == pytest.approx(1)
    blurred = gaussian_filter(x, 1).astype(np.float32)
    for y in (blurred, picture(1), -x, x + 0.2):
        assert ssim(x, y, WHOLE) == pytest.approx(reference(x, y), abs=2e-4)


def test_pixels_that_do_not_count_change_nothing() -> None:
    x, where = picture(), np.random.default_rng(2).random((64, 48)) < 0.5
    y = np.where(where, gaussian_filter(x, 1), picture(3)).astype(np.float32)
    z = np.where(where, gaussian_filter(x, 1), x).astype(np.float32)
    assert ssim(x, y, where) == ssim(x, z, where) < ssim(x, z, WHOLE)


def test_few_pixels_are_one_window() -> None:
    x, where = picture(), np.zeros((64, 48), dtype=np.bool_)
    where[[3, 30, 60], [5, 20, 47]] = True
    x[where] = [0.9, -0.8, 0.5]
    assert ssim(x, x, where) == pytest.approx(1)
    assert ssim(x, 0.4 - x, where) < -0.9, "the mean is the same, all else the other way round"
