"""Pictures seen from afar."""

import numpy as np
import pytest
from PIL import Image

from shared.likeness import SIDE, distances, likeness, rows


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 200, (6, 5), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((200, 240), Image.Resampling.BICUBIC))


def seen(pixels: np.ndarray) -> bytes:
    return likeness(Image.fromarray(pixels))


def test_neither_exposure_nor_depth_nor_colour_nor_size_makes_a_difference() -> None:
    base = picture(1)
    others = [
        seen((base // 2 + 40).astype(np.uint8)),
        seen(base.astype(np.uint16) * 16),
        seen(np.stack([base] * 3, axis=2)),
        seen(np.kron(base, np.ones((3, 3), dtype=np.uint8))),
    ]
    assert len(seen(base)) == SIDE * SIDE
    assert distances(seen(base), rows(others)).max() < 0.01
    assert abs(distances(seen(base), rows([seen(base)]))[0]) < 1e-6


def test_other_pictures_are_far_and_the_negative_farthest() -> None:
    base = picture(1)
    found = distances(seen(base), rows([seen(picture(seed)) for seed in range(2, 12)]))
    assert found.min() > 0.2
    assert distances(seen(base), rows([seen(255 - base)]))[0] == pytest.approx(2, abs=0.01)


def test_a_flat_picture_has_nothing_in_common_with_any() -> None:
    flat = seen(np.full((50, 50), 90, dtype=np.uint8))
    assert flat == bytes(SIDE * SIDE)
    assert list(distances(flat, rows([seen(picture(1)), flat]))) == [1, 1]
    assert rows([]).shape == (0, SIDE * SIDE)
