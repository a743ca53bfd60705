"""The tell of a box, on pictures of which it is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from shared.tell import box_tell, energy, seam

BOX = np.array([[0.4, 0.4, 0.6, 0.6]])
INSIDE = np.s_[:, 40:60, 40:60]


def noise(seed: int = 0, channels: int = 1, scale: float = 30) -> np.ndarray:
    return np.random.default_rng(seed).normal(128, scale, (channels, 100, 100)).astype(np.float32)


def test_an_image_beside_itself_has_a_tell_of_one() -> None:
    image = noise()
    assert box_tell(image, image, BOX) == pytest.approx(1)


def test_surroundings_with_half_the_energy_give_two_and_sharper_ones_a_half() -> None:
    original = noise()
    for factor, tell in ((0.5**0.5, 2), (2**0.5, 0.5)):
        result = 128 + factor * (original - 128)
        result[INSIDE] = original[INSIDE]
        assert box_tell(result, original, BOX) == pytest.approx(tell, rel=1e-3)


def test_blurred_surroundings_tell_and_a_picture_blurred_as_a_whole_does_not() -> None:
    original = noise(channels=3)
    blurred = gaussian_filter(original, (0, 2, 2))
    pasted = blurred.copy()
    pasted[INSIDE] = original[INSIDE]
    assert (box_tell(pasted, original, BOX) or 0) > 5
    assert box_tell(blurred, original, BOX) == pytest.approx(1, rel=0.25)


def test_what_lies_within_the_gap_or_beyond_the_ring_changes_nothing() -> None:
    original = noise()
    rows, columns = np.indices((100, 100))
    away = np.maximum(np.maximum(40 - rows, rows - 59), np.maximum(40 - columns, columns - 59))
    for untouched in ((away > 0) & (away <= 2), away > 15):
        result = original.copy()
        result[:, untouched] = 128
        assert box_tell(result, original, BOX, gap=4) == pytest.approx(1, rel=1e-6)
    result = original.copy()
    result[:, (away > 5) & (away <= 14)] = 128
    assert (box_tell(result, original, BOX, gap=4) or 0) > 10


def test_other_boxes_are_no_surroundings() -> None:
    original = noise()
    both = np.array([[0.4, 0.4, 0.6, 0.6], [0.6, 0.4, 0.8, 0.6]])
    result = original.copy()
    result[:, 40:60, 60:80] = 128 + 0.1 * (original[:, 40:60, 60:80] - 128)
    assert (box_tell(result, original, both[:1]) or 0) > 1.1
    # The flattened one is less sharp than its surroundings, the other one as sharp as ever: the mean is below one.
    assert box_tell(result, original, both) == pytest.approx((1 * 0.1**2) ** 0.5, rel=0.02)


def test_flat_pictures_compare_as_equal() -> None:
    flat = np.full((1, 100, 100), 7, dtype=np.float32)
    assert box_tell(flat, flat + 1, BOX) == 1


def test_a_window_of_sixteen_bits_changes_nothing() -> None:
    original, result = noise(0), noise(1, scale=10)
    eight = box_tell(result, original, BOX)
    assert box_tell(result * 257, original * 257, BOX, white=65535) == pytest.approx(eight, rel=1e-4)


@pytest.mark.parametrize("boxes", [np.empty((0, 4)), np.array([[0, 0, 1, 1.0]])])
def test_without_a_ring_there_is_no_tell(boxes: np.ndarray) -> None:
    assert box_tell(noise(), noise(1), boxes) is None


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_a_box_at_the_border_has_the_ring_that_is_in_the_picture(corner: float) -> None:
    original = noise()
    result = 128 + 0.5 * (original - 128)
    box = np.array([[0.9, 0.9, 1, 1]]) if corner else np.array([[0, 0, 0.1, 0.1]])
    area = np.s_[:, 90:, 90:] if corner else np.s_[:, :10, :10]
    result[area] = original[area]
    assert box_tell(result, original, box) == pytest.approx(4, rel=1e-2)


def test_a_step_where_the_originals_pixels_end_is_a_seam_and_a_smooth_change_is_less_of_one() -> None:
    original, area = noise(scale=5), np.zeros((100, 100), dtype=np.bool_)
    area[40:60, 40:60] = True
    old = energy(original)
    assert seam(old, old, area, reach=3) == pytest.approx(1)
    stepped = np.where(area, original, original + 60)
    far = np.arange(100)
    outside = np.maximum(np.maximum(40 - far, far - 59), 0)
    distance = np.maximum(outside[:, None], outside[None, :])
    faded = original + 60 * np.clip(distance / 20, 0, 1)
    hard, soft = (seam(energy(new), old, area, reach=3) for new in (stepped, faded))
    assert hard is not None
    assert soft is not None
    assert hard > 2.5
    assert 0.9 < soft < 1.2


def test_what_is_far_from_the_edge_is_no_seam_and_without_an_edge_there_is_none() -> None:
    original, area = noise(), np.zeros((100, 100), dtype=np.bool_)
    area[40:60, 40:60] = True
    changed = original.copy()
    changed[:, :20] = 0
    assert seam(energy(changed), energy(original), area, reach=5) == pytest.approx(1)
    for none in (np.zeros_like(area), np.ones_like(area)):
        assert seam(energy(changed), energy(original), none, reach=5) is None
