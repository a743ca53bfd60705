from collections.abc import Iterator
from itertools import product
from math import hypot
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from shared.errors import Invalid
from shared.images import Placement, place
from shared.masks import MASKS, gaussian_distance, inside_area, labelled_area, relative_distance, share_hidden

GOLDEN = Path(__file__).resolve().parents[2] / "../shared/golden/masks.npz"

placements = st.builds(place, st.integers(1, 90), st.integers(1, 90), st.integers(4, 40), st.sampled_from([1, 8, 16]))
share = st.floats(0, 1)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
boxes = st.lists(st.tuples(share, share, share, share), min_size=1, max_size=3).map(
    lambda rows: np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in rows])
)


def canvas_boxes(shares: np.ndarray, p: Placement, margin: float) -> Iterator[tuple[float, float, float, float]]:
    """Where boxes lie on the canvas, grown and clipped to the picture, not rounded."""
    grow = margin * max(p.height, p.width)
    for x0, y0, x1, y1 in shares:
        yield (
            p.left + max(x0 * p.width - grow, 0),
            p.top + max(y0 * p.height - grow, 0),
            p.left + min(x1 * p.width + grow, p.width),
            p.top + min(y1 * p.height + grow, p.height),
        )


@unhurried
@given(placements, boxes, st.sampled_from([0.0, 0.04, 0.3]))
def test_a_pixel_is_labelled_where_a_grown_box_overlaps_it(p: Placement, shares: np.ndarray, margin: float) -> None:
    overlap = np.full((p.canvas_height, p.canvas_width), -np.inf)
    for x0, y0, x1, y1 in canvas_boxes(shares, p, margin):
        for row, column in product(range(p.canvas_height), range(p.canvas_width)):
            shared = min(min(x1, column + 1) - max(x0, column), min(y1, row + 1) - max(y0, row))
            overlap[row, column] = max(overlap[row, column], shared)
    labelled = labelled_area(shares, p, margin)
    assert labelled[overlap > 1e-5].all()
    assert not labelled[overlap < -1e-5].any()


@unhurried
@given(placements)
def test_a_box_of_the_whole_image_labels_every_pixel_of_the_picture_and_none_of_the_padding(p: Placement) -> None:
    assert (labelled_area(np.array([[0, 0, 1, 1]]), p, 0.2) == inside_area(p)).all()


@unhurried
@given(placements)
def test_the_picture_is_height_times_width_pixels(p: Placement) -> None:
    inside = inside_area(p)
    assert inside.shape == (p.canvas_height, p.canvas_width)
    assert inside.sum() == p.height * p.width
    assert inside[p.top, p.left]
    assert inside[p.top + p.height - 1, p.left + p.width - 1]


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_a_box_at_the_border_reaches_the_last_row_and_column(margin: float) -> None:
    p = place(100, 60, 50, 8)
    labelled = labelled_area(np.array([[0.9, 0.9, 1, 1]]), p, margin)
    assert labelled[p.top + p.height - 1, p.left + p.width - 1]
    assert labelled[:, p.left + p.width - 1].sum() == (6 if margin else 3)


def test_a_box_that_ends_on_a_pixel_border_is_not_rounded_past_it() -> None:
    labelled = labelled_area(np.array([[0.29, 0.57, 0.58, 0.58]]), place(100, 100, 100, 1), 0)
    assert np.argwhere(labelled).min(axis=0).tolist() == [57, 29]
    assert np.argwhere(labelled).max(axis=0).tolist() == [57, 57]


def test_a_margin_is_a_share_of_the_long_side_in_both_directions() -> None:
    labelled = labelled_area(np.array([[0.5, 0.5, 0.6, 0.6]]), place(100, 50, 100, 1), 0.04)
    assert np.argwhere(labelled).min(axis=0).tolist() == [25 + 25 - 4, 50 - 4]
    assert np.argwhere(labelled).max(axis=0).tolist() == [25 + 30 + 4 - 1, 60 + 4 - 1]


@pytest.mark.parametrize("corner", [0.0, 0.5, 1.0])
def test_a_box_without_area_still_labels_a_pixel(corner: float) -> None:
    assert labelled_area(np.array([[corner] * 4]), place(16, 16, 16, 8), 0).sum() == 1


def test_no_boxes_label_nothing() -> None:
    assert not labelled_area(np.empty((0, 4)), place(16, 16, 16, 8), 0.5).any()


@unhurried
@given(placements, boxes, st.integers(0, 2**32), st.floats(-1, 1), st.floats(0, 1))
def test_every_mask_keeps_labels_and_padding(
    p: Placement, shares: np.ndarray, seed: int, mu: float, sigma: float
) -> None:
    inside, labelled = inside_area(p), labelled_area(shares, p, 0)
    keep = MASKS["gaussian_distance"](labelled, inside, np.random.default_rng(seed), mu=mu, sigma=sigma)
    assert keep.dtype == np.bool_
    assert keep[labelled].all()
    assert keep[~inside].all()
    assert 0 <= share_hidden(keep, inside) <= 1 - labelled.sum() / inside.sum() + 1e-9


def test_a_pixel_at_distance_d_is_kept_with_probability_phi() -> None:
    p = place(400, 300, 400, 64)
    inside, labelled = inside_area(p), labelled_area(np.array([[0.4, 0.45, 0.5, 0.55]]), p, 0.04)
    mu, sigma = 0.05, 0.32
    keep = gaussian_distance(labelled, inside, np.random.default_rng(11), mu=mu, sigma=sigma)
    d = relative_distance(labelled, inside)
    expected = norm.cdf((mu - d) / sigma)
    for nearest in np.arange(0, 1, 0.1):
        ring = inside & ~labelled & (d > nearest) & (d <= nearest + 0.1)
        deviation = np.sqrt((expected * (1 - expected))[ring].sum())
        assert abs(keep[ring].sum() - expected[ring].sum()) < 4 * deviation


def test_half_of_the_pixels_beside_a_box_and_a_sixth_at_one_sigma_are_kept() -> None:
    labelled = np.zeros((1001, 400), dtype=np.bool_)
    labelled[0] = True
    inside = np.ones_like(labelled)
    keep = gaussian_distance(labelled, inside, np.random.default_rng(5), mu=0, sigma=0.32)
    assert keep[1:11].mean() == pytest.approx(0.5, abs=0.03)
    assert keep[316:326].mean() == pytest.approx(0.159, abs=0.03)


@unhurried
@given(arrays(np.bool_, (7, 9)).filter(np.any))
def test_distance_equals_the_nearest_labelled_pixel_found_by_trying_all(labelled: np.ndarray) -> None:
    inside = np.ones_like(labelled)
    brute = np.array([[min(hypot(y - v, x - u) for v, u in np.argwhere(labelled)) for x in range(9)] for y in range(7)])
    expected = brute / max(brute.max(), 1)
    np.testing.assert_allclose(relative_distance(labelled, inside), expected, rtol=1e-12)


def test_padding_takes_no_part_in_the_farthest_distance() -> None:
    wide, bare = place(64, 16, 64, 64), Placement(16, 64, 0, 0, 16, 64, 16, 64)
    box = np.array([[0, 0, 0.1, 1]])
    padded = relative_distance(labelled_area(box, wide, 0), inside_area(wide))
    plain = relative_distance(labelled_area(box, bare, 0), inside_area(bare))
    assert wide.canvas_height > bare.canvas_height
    assert (padded[inside_area(wide)].reshape(plain.shape) == plain).all()


def test_the_same_seed_draws_the_same_mask_and_another_seed_another() -> None:
    p = place(64, 48, 64, 16)
    inside, labelled = inside_area(p), labelled_area(np.array([[0.2, 0.2, 0.4, 0.4]]), p, 0.04)
    first, again, other = (
        gaussian_distance(labelled, inside, np.random.default_rng(seed), mu=0, sigma=0.32) for seed in (3, 3, 4)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_the_draw_does_not_depend_on_the_boxes() -> None:
    p = place(64, 48, 64, 16)
    states = []
    for box in ([0, 0, 0.1, 0.1], [0, 0, 1, 1]):
        rng = np.random.default_rng(7)
        gaussian_distance(labelled_area(np.array([box]), p, 0), inside_area(p), rng, mu=0, sigma=0.32)
        states.append(rng.bit_generator.state)
    assert states[0] == states[1]


def test_a_fully_labelled_image_hides_nothing() -> None:
    everything = np.ones((8, 8), dtype=np.bool_)
    keep = gaussian_distance(everything, everything, np.random.default_rng(0), mu=-9, sigma=0.1)
    assert share_hidden(keep, everything) == 0


def test_an_image_without_labels_is_refused_with_a_sentence_about_unlabelled() -> None:
    p = place(16, 16, 16, 8)
    with pytest.raises(Invalid, match="unlabelled"):
        gaussian_distance(
            labelled_area(np.empty((0, 4)), p, 0), inside_area(p), np.random.default_rng(0), mu=0, sigma=1
        )


def test_share_hidden_counts_the_picture_only() -> None:
    inside = np.zeros((4, 4), dtype=np.bool_)
    inside[:2] = True
    keep = ~inside
    keep[0, :2] = True
    assert share_hidden(keep, inside) == 0.75


class Recorded:
    """Gives noise that was drawn before, as `numpy.random.Generator.normal` would."""

    def __init__(self, noise: np.ndarray) -> None:
        self.noise = noise

    def normal(self, mu: float, sigma: float, shape: tuple[int, ...]) -> np.ndarray:
        assert (mu, sigma, shape) == (0, 0.32, self.noise.shape)
        return self.noise


def reference_area(rows: np.ndarray, side: int, margin: int) -> np.ndarray:
    """The authors' geometry: ends truncated, a margin in pixels, the last row and column never reached."""
    labelled = np.zeros((side, side), dtype=np.bool_)
    for x, y, width, height in rows[:, 1:] * side:
        top, bottom = int(y - height / 2) - margin, int(y + height / 2) + margin
        left, right = int(x - width / 2) - margin, int(x + width / 2) + margin
        labelled[max(top, 0) : min(bottom, side - 1), max(left, 0) : min(right, side - 1)] = True
    return labelled


@pytest.mark.parametrize("scene", ["one_centre", "two_small", "border", "large", "full"])
def test_with_the_authors_labelled_area_and_noise_the_mask_is_the_authors(scene: str) -> None:
    if not GOLDEN.exists():
        pytest.skip("the golden masks are not here")
    golden = np.load(GOLDEN)
    labelled = reference_area(golden[f"{scene}/boxes"], 96, 16)
    assert (labelled == golden[f"{scene}/outside_boxes/mask"]).all()
    rng = Recorded(golden[f"{scene}/gaussian_distance/noise"])
    keep = gaussian_distance(labelled, np.ones_like(labelled), rng, mu=0, sigma=0.32)
    assert (keep == golden[f"{scene}/gaussian_distance/mask"]).all()
