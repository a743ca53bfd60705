import numpy as np
from drawn import pixels
from numpy.typing import NDArray

from worker.training import memory


def real(first: int, count: int) -> NDArray[np.uint8]:
    return np.stack([np.repeat(pixels(first + seed, 64)[None], 3, axis=0) for seed in range(count)])


TRAINING, HELD_OUT = real(0, 200), real(1000, 60)


def test_copies_are_near_whether_mirrored_or_noisy() -> None:
    noise = np.random.default_rng(0).integers(-2, 3, TRAINING[:20].shape)
    for copies in (TRAINING[:20], TRAINING[:20, :, :, ::-1], np.clip(TRAINING[:20] + noise, 0, 255).astype(np.uint8)):
        assert memory.check(copies, TRAINING, HELD_OUT)["near_share"] == 1


def test_new_pictures_are_as_near_as_held_out_ones() -> None:
    found = memory.check(real(2000, 100), TRAINING, HELD_OUT)
    assert 0 < found["near_share"] < 0.2
    assert found["median_of_samples"] == np.float32(found["median_of_samples"])
    assert 0.5 < found["median_of_samples"] / found["median_of_held_out"] < 2


def test_pictures_of_another_kind_are_far() -> None:
    found = memory.check(255 - real(2000, 20), TRAINING, HELD_OUT)
    assert found["near_share"] == 0
    assert found["median_of_samples"] > 2 * found["median_of_held_out"]
