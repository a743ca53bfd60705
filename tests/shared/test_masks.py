"""The nine kinds of mask, and the laws that each keeps."""

from math import hypot
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mask_scenes import OPTIONS, at_the_border, bounded, boxes, draw, placements, polygons, scene, unhurried
from pydantic import ValidationError
from scipy.ndimage import find_objects, label
from scipy.stats import norm

from shared.errors import Invalid
from shared.images import Placement, place
from shared.masks import MASKS, GaussianDistance, Scene, inside_area, labelled_area, relative_distance, share_hidden

BOX = [0.4, 0.45, 0.5, 0.55]
WHOLE = [0.0, 0.0, 1.0, 1.0]
AROUND = {"gaussian_distance", "outside_boxes", "random"}
"""Kinds that keep every label."""
WITHIN = {"random_inside_boxes", "erase_in_boxes", "boxes_regrown"}
"""Kinds that hide nothing but labels."""
ALL = AROUND | WITHIN | {"gaussian_distance_all", "box", "uploaded"}
NEED_NO_LABEL = {"random", "box", "uploaded"}

every = pytest.mark.parametrize("kind", sorted(ALL))
around = pytest.mark.parametrize("kind", sorted(AROUND))
within = pytest.mark.parametrize("kind", sorted(WITHIN))
BLIND = {"box": {}, "uploaded": {}, "random": {"keep_labels": False}}
"""Kinds that do not look where labels are, and how."""
KEEP_POLYGONS = {kind for kind in ALL if "keep" in OPTIONS.validate_python({"kind": kind}).model_dump()}

blind = pytest.mark.parametrize(("kind", "asked"), BLIND.items())
needing_labels = pytest.mark.parametrize("kind", sorted(ALL - NEED_NO_LABEL))


def with_upload(of: Scene, seed: int = 0) -> Scene:
    """The same, and a mask came with it that keeps half of the canvas."""
    shape = of.placement.canvas_height, of.placement.canvas_width
    return Scene(of.placement, of.boxes, of.outlines, np.random.default_rng([seed, 9]).random(shape) < 0.5)


def test_every_kind_is_tested_and_can_be_asked_for() -> None:
    assert set(MASKS) == ALL
    assert {OPTIONS.validate_python({"kind": kind}).kind for kind in MASKS} == set(MASKS)


@every
@unhurried
@given(p=placements, shares=boxes, seed=st.integers(0, 2**32))
def test_padding_is_kept_and_the_mask_has_the_canvas_shape(
    kind: str, p: Placement, shares: np.ndarray, seed: int
) -> None:
    keep = draw(with_upload(scene(p, shares)), kind, seed)
    assert (keep.dtype, keep.shape) == (np.bool_, (p.canvas_height, p.canvas_width))
    assert keep[~inside_area(p)].all()


@around
@unhurried
@given(p=placements, shares=boxes, seed=st.integers(0, 2**32))
def test_kinds_that_draw_around_labels_keep_every_label(kind: str, p: Placement, shares: np.ndarray, seed: int) -> None:
    labelled = labelled_area(scene(p, shares), 0.1)
    assert draw(scene(p, shares), kind, seed, margin=0.1)[labelled].all()


@within
@unhurried
@given(p=placements, shares=boxes, seed=st.integers(0, 2**32))
def test_kinds_that_draw_within_labels_keep_everything_else(
    kind: str, p: Placement, shares: np.ndarray, seed: int
) -> None:
    assert draw(scene(p, shares), kind, seed)[~labelled_area(scene(p, shares), 0)].all()


@unhurried
@given(p=placements, shares=boxes, margin=st.sampled_from([0.0, 0.04, 0.3]))
def test_outside_boxes_keeps_the_labels_alone_and_boxes_regrown_all_but_them(
    p: Placement, shares: np.ndarray, margin: float
) -> None:
    of = scene(p, shares)
    labelled, padding = labelled_area(of, margin), ~inside_area(p)
    assert (draw(of, "outside_boxes", margin=margin) == (labelled | padding)).all()
    assert (draw(of, "boxes_regrown", margin=margin) == ~labelled).all()


@blind
@unhurried
@given(p=placements, shares=boxes, seed=st.integers(0, 2**32))
def test_kinds_that_do_not_look_at_labels_keep_the_same_with_any_of_them_and_with_none(
    kind: str, asked: dict[str, Any], p: Placement, shares: np.ndarray, seed: int
) -> None:
    masks = [draw(with_upload(scene(p, rows)), kind, seed, **asked) for rows in (shares, [WHOLE], ())]
    assert (masks[0] == masks[1]).all()
    assert (masks[0] == masks[2]).all()


@around
@unhurried
@given(p=placements, shares=at_the_border, seed=st.integers(0, 2**32))
def test_a_box_that_ends_with_the_picture_is_kept_to_its_last_pixel(
    kind: str, p: Placement, shares: np.ndarray, seed: int
) -> None:
    keep = draw(scene(p, shares), kind, seed)[p.top : p.top + p.height, p.left : p.left + p.width]
    x0, y0, x1, y1 = shares[0]
    last_row, last_column = (min(int(start * side), side - 1) for start, side in ((y0, p.height), (x0, p.width)))
    corners = {(last_row, last_column)}
    if x1 == 1:
        corners.add((last_row, p.width - 1))
    if y1 == 1:
        corners.add((p.height - 1, last_column))
    assert all(keep[corner] for corner in corners)


@within
@unhurried
@given(p=placements, shares=at_the_border, seed=st.integers(0, 2**32))
def test_of_a_box_that_ends_with_the_picture_something_is_hidden_and_nothing_beside_it(
    kind: str, p: Placement, shares: np.ndarray, seed: int
) -> None:
    hidden = ~draw(scene(p, shares), kind, seed, **({"share": 0.999999} if kind == "random_inside_boxes" else {}))
    labelled = labelled_area(scene(p, shares), 0)
    assert hidden.any()
    assert not (hidden & ~labelled).any()


@unhurried
@given(p=placements, shares=at_the_border | boxes, seed=st.integers(0, 2**32), share=st.floats(0.01, 0.99))
def test_chances_are_of_each_pixel_by_itself_and_of_nothing_else(
    p: Placement, shares: np.ndarray, seed: int, share: float
) -> None:
    """With one seed, a larger share keeps what a smaller one kept, and more."""
    of, inside = scene(p, shares), inside_area(p)
    less, more = (draw(of, "random", seed, share=each) for each in (share / 2, share))
    assert not (less & ~more).any()
    less, more = (~draw(of, "random_inside_boxes", seed, share=each) for each in (share / 2, share))
    assert not (less & ~more).any()
    near, far = (draw(of, "gaussian_distance_all", seed, mu=each) for each in (share - 1, share))
    assert not (near & ~far).any()
    assert draw(of, "gaussian_distance_all", seed, mu=2, sigma=1e-6)[inside].all()


@pytest.mark.parametrize("kind", sorted(KEEP_POLYGONS))
@unhurried
@given(p=placements, outline=polygons, seed=st.integers(0, 2**32))
def test_every_kind_that_can_keeps_to_the_polygon_and_not_to_its_box(
    kind: str, p: Placement, outline: np.ndarray, seed: int
) -> None:
    of = bounded(p, outline)
    margin = {} if kind == "random_inside_boxes" else {"margin": 0.05}
    keep = draw(of, kind, seed, keep="polygons", **margin)
    filled = labelled_area(of, margin.get("margin", 0), "polygons")
    assert keep[~inside_area(p)].all()
    if kind in AROUND:
        assert keep[filled].all()
    elif kind in WITHIN:
        assert not (~keep & ~filled).any()
    else:
        assert (keep | filled == draw(of, "gaussian_distance", seed, keep="polygons", **margin)).all()


@every
def test_the_same_seed_draws_the_same_mask(kind: str) -> None:
    of = with_upload(scene(place(64, 48, 64, 16), [BOX]))
    first, again, other = (draw(of, kind, seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first == other).all() == (kind in {"outside_boxes", "boxes_regrown", "uploaded"})


@every
def test_the_last_row_and_column_can_be_kept_and_can_be_hidden(kind: str) -> None:
    """Over many draws, with a box in the lower right corner and with one elsewhere."""
    p = place(48, 40, 48, 16)
    for last in (np.s_[p.top + 39, p.left : p.left + 48], np.s_[p.top : p.top + 40, p.left + 47]):
        seen = [
            draw(with_upload(scene(p, [box]), seed), kind, seed)[last]
            for box in ([0.7, 0.7, 1.0, 1.0], [0.1, 0.1, 0.3, 0.3])
            for seed in range(100)
        ]
        assert np.any(seen)
        assert not np.all(seen)


@needing_labels
def test_an_image_without_labels_is_refused_with_a_sentence_about_unlabelled(kind: str) -> None:
    with pytest.raises(Invalid, match="unlabelled"):
        draw(scene(place(16, 16, 16, 8)), kind)


@pytest.mark.parametrize("kind", sorted(NEED_NO_LABEL))
def test_other_kinds_are_drawn_without_labels(kind: str) -> None:
    p = place(64, 48, 64, 16)
    assert 0 < share_hidden(draw(with_upload(scene(p)), kind), inside_area(p)) < 1


@pytest.mark.parametrize(
    ("kind", "hidden"), [("gaussian_distance", 0), ("outside_boxes", 0), ("random", 0), ("boxes_regrown", 1)]
)
def test_with_a_box_of_the_whole_image_all_is_kept_or_all_hidden(kind: str, hidden: float) -> None:
    p = place(64, 48, 64, 16)
    assert share_hidden(draw(scene(p, [WHOLE]), kind), inside_area(p)) == hidden


@pytest.mark.parametrize("kind", ["gaussian_distance_all", "random_inside_boxes"])
def test_with_a_box_of_the_whole_image_half_is_kept_by_chance(kind: str) -> None:
    p = place(200, 200, 200, 8)
    assert share_hidden(draw(scene(p, [WHOLE]), kind), inside_area(p)) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("kind", "share"), [("random", 0.1), ("random", 0.7)])
def test_random_keeps_its_share_outside_the_labels(kind: str, share: float) -> None:
    p = place(300, 200, 300, 16)
    of = scene(p, [BOX])
    outside = inside_area(p) & ~labelled_area(of, 0.04)
    assert draw(of, kind, share=share)[outside].mean() == pytest.approx(share, abs=0.01)
    bare = draw(of, kind, share=share, keep_labels=False)
    assert bare[inside_area(p)].mean() == pytest.approx(share, abs=0.01)
    assert not bare[labelled_area(of, 0)].all()


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_random_inside_boxes_hides_its_share_of_the_labels(share: float) -> None:
    p = place(300, 200, 300, 16)
    of = scene(p, [[0.2, 0.2, 0.7, 0.8]])
    hidden = ~draw(of, "random_inside_boxes", share=share)
    assert hidden[labelled_area(of, 0)].mean() == pytest.approx(share, abs=0.02)


@unhurried
@given(seed=st.integers(0, 2**32), low=st.floats(0.01, 1), high=st.floats(0.01, 1))
@pytest.mark.parametrize("kind", ["box", "erase_in_boxes"])
def test_a_rectangle_has_sides_within_its_bounds_and_lies_in_its_whole(
    kind: str, seed: int, low: float, high: float
) -> None:
    smallest, largest = sorted((low, high))
    p = place(60, 100, 100, 16)
    hidden = ~draw(scene(p, [WHOLE]), kind, seed, smallest=smallest, largest=largest)
    (found,) = find_objects(label(hidden)[0])
    assert hidden[found].all()
    height, width = (s.stop - s.start for s in found)
    assert max(round(smallest * 100), 1) <= height <= round(largest * 100)
    assert max(round(smallest * 60), 1) <= width <= round(largest * 60)


@pytest.mark.parametrize("kind", ["box", "erase_in_boxes"])
def test_a_rectangle_lies_as_often_at_either_end(kind: str) -> None:
    p = place(20, 20, 20, 1)
    of = scene(p, [WHOLE])
    hidden = np.mean([~draw(of, kind, seed) for seed in range(600)], axis=0)
    assert hidden[0].mean() == pytest.approx(hidden[-1].mean(), abs=0.05)
    assert hidden[:, 0].mean() == pytest.approx(hidden[:, -1].mean(), abs=0.05)
    assert hidden[0].mean() > 0.05


def test_each_box_has_a_rectangle_of_its_own() -> None:
    of = scene(place(100, 100, 100, 1), [[0.1, 0.1, 0.3, 0.4], [0.6, 0.5, 0.9, 0.9]])
    _, count = label(~draw(of, "erase_in_boxes"))
    assert count == 2


def test_uploaded_is_the_mask_that_came_and_nothing_without_one() -> None:
    p = place(64, 48, 64, 16)
    of = with_upload(scene(p, [BOX]))
    inside = inside_area(p)
    assert of.uploaded is not None
    assert (draw(of, "uploaded")[inside] == of.uploaded[inside]).all()
    with pytest.raises(Invalid, match="uploaded"):
        draw(scene(p, [BOX]), "uploaded")


def test_keep_polygons_keeps_the_filled_area_and_hides_no_more_than_it() -> None:
    p = place(100, 100, 100, 1)
    of = scene(p, [[0.2, 0.2, 0.8, 0.8]], (np.array([(0.2, 0.2), (0.8, 0.2), (0.2, 0.8)]),))
    filled = labelled_area(of, 0, "polygons")
    assert (draw(of, "outside_boxes", keep="polygons", margin=0) == filled).all()
    assert (draw(of, "boxes_regrown", keep="polygons") == ~filled).all()
    assert not (~draw(of, "random_inside_boxes", keep="polygons") & ~filled).any()
    for kind in ("gaussian_distance", "random"):
        keep = draw(of, kind, keep="polygons", margin=0)
        assert keep[filled].all()
        assert not keep[labelled_area(of, 0)].all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "gaussian"},
        {"kind": "random", "share": 0},
        {"kind": "random", "share": 1},
        {"kind": "random", "sigma": 1},
        {"kind": "box", "smallest": 0.5, "largest": 0.4},
        {"kind": "erase_in_boxes", "largest": 0.1},
        {"kind": "outside_boxes", "margin": float("nan")},
        {"share": 0.5},
        "random",
    ],
)
def test_what_cannot_be_is_refused_at_the_door(wrong: object) -> None:
    with pytest.raises(ValidationError):
        OPTIONS.validate_python(wrong)


def test_without_a_kind_it_is_the_default_one() -> None:
    assert OPTIONS.validate_python({"sigma": 0.5}) == GaussianDistance(sigma=0.5)


def test_a_pixel_at_distance_d_is_kept_with_probability_phi() -> None:
    p = place(400, 300, 400, 64)
    of, mu, sigma = scene(p, [BOX]), 0.05, 0.32
    inside, labelled = inside_area(p), labelled_area(of, 0.04)
    keep = draw(of, "gaussian_distance", 11, mu=mu, sigma=sigma)
    d = relative_distance(labelled, inside)
    expected = norm.cdf((mu - d) / sigma)
    for nearest in np.arange(0, 1, 0.1):
        ring = inside & ~labelled & (d > nearest) & (d <= nearest + 0.1)
        deviation = np.sqrt((expected * (1 - expected))[ring].sum())
        assert abs(keep[ring].sum() - expected[ring].sum()) < 4 * deviation


def test_gaussian_distance_all_differs_only_inside_the_labels_of_which_it_keeps_half() -> None:
    of = scene(place(400, 300, 400, 64), [[0.3, 0.3, 0.6, 0.6]])
    labelled = labelled_area(of, 0.04)
    kept, all_of_it = draw(of, "gaussian_distance"), draw(of, "gaussian_distance_all")
    assert (kept[~labelled] == all_of_it[~labelled]).all()
    assert all_of_it[labelled].mean() == pytest.approx(0.5, abs=0.02)


def test_half_of_the_pixels_beside_a_box_and_a_sixth_at_one_sigma_are_kept() -> None:
    of = scene(Placement(1001, 400, 0, 0, 1001, 400, 1001, 400), [[0, 0, 1, 1 / 1001]])
    keep = draw(of, "gaussian_distance", 5, margin=0)
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
    box = [[0, 0, 0.1, 1]]
    padded = relative_distance(labelled_area(scene(wide, box), 0), inside_area(wide))
    plain = relative_distance(labelled_area(scene(bare, box), 0), inside_area(bare))
    assert wide.canvas_height > bare.canvas_height
    assert (padded[inside_area(wide)].reshape(plain.shape) == plain).all()


def test_the_draw_does_not_depend_on_the_boxes() -> None:
    p = place(64, 48, 64, 16)
    states = []
    for box in ([0, 0, 0.1, 0.1], [0, 0, 1, 1]):
        rng = np.random.default_rng(7)
        options = OPTIONS.validate_python({"kind": "gaussian_distance"}).model_dump(exclude={"kind"})
        MASKS["gaussian_distance"](scene(p, [box]), rng, **options)
        states.append(rng.bit_generator.state)
    assert states[0] == states[1]


def test_share_hidden_counts_the_picture_only() -> None:
    inside = np.zeros((4, 4), dtype=np.bool_)
    inside[:2] = True
    keep = ~inside
    keep[0, :2] = True
    assert share_hidden(keep, inside) == 0.75
