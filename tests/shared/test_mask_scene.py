"""Labels on a canvas: which pixels count as labelled."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_scenes import bounded, boxes, placements, polygons, scene, unhurried

from shared.images import Placement, place
from shared.masks import inside_area, labelled_area
from shared.masks.polygons import polygon_area

HERE = Placement(40, 50, 0, 0, 40, 50, 40, 50)


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
    labelled = labelled_area(scene(p, shares), margin)
    assert labelled[overlap > 1e-5].all()
    assert not labelled[overlap < -1e-5].any()


@unhurried
@given(placements)
def test_a_box_of_the_whole_image_labels_every_pixel_of_the_picture_and_none_of_the_padding(p: Placement) -> None:
    assert (labelled_area(scene(p, [[0, 0, 1, 1]]), 0.2) == inside_area(p)).all()


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
    labelled = labelled_area(scene(p, [[0.9, 0.9, 1, 1]]), margin)
    assert labelled[p.top + p.height - 1, p.left + p.width - 1]
    assert labelled[:, p.left + p.width - 1].sum() == (6 if margin else 3)


def test_a_box_that_ends_on_a_pixel_border_is_not_rounded_past_it() -> None:
    labelled = labelled_area(scene(place(100, 100, 100, 1), [[0.29, 0.57, 0.58, 0.58]]), 0)
    assert np.argwhere(labelled).min(axis=0).tolist() == [57, 29]
    assert np.argwhere(labelled).max(axis=0).tolist() == [57, 57]


def test_a_margin_is_a_share_of_the_long_side_in_both_directions() -> None:
    labelled = labelled_area(scene(place(100, 50, 100, 1), [[0.5, 0.5, 0.6, 0.6]]), 0.04)
    assert np.argwhere(labelled).min(axis=0).tolist() == [25 + 25 - 4, 50 - 4]
    assert np.argwhere(labelled).max(axis=0).tolist() == [25 + 30 + 4 - 1, 60 + 4 - 1]


@pytest.mark.parametrize("corner", [0.0, 0.5, 1.0])
def test_a_box_without_area_still_labels_a_pixel(corner: float) -> None:
    assert labelled_area(scene(place(16, 16, 16, 8), [[corner] * 4]), 0).sum() == 1


def test_no_boxes_label_nothing() -> None:
    assert not labelled_area(scene(place(16, 16, 16, 8)), 0.5).any()


@unhurried
@given(placements, polygons, st.sampled_from([0.0, 0.04, 0.3]))
def test_a_polygon_labels_some_of_its_box_and_nothing_beside_it(
    p: Placement, outline: np.ndarray, margin: float
) -> None:
    whole, filled = (labelled_area(bounded(p, outline), margin, keep) for keep in ("boxes", "polygons"))
    assert filled.any()
    assert not (filled & ~whole).any()


@unhurried
@given(placements, boxes)
def test_a_polygon_that_is_a_rectangle_labels_what_its_box_does(p: Placement, shares: np.ndarray) -> None:
    corners = tuple(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) for x0, y0, x1, y1 in shares)
    both = scene(p, shares, corners)
    assert (labelled_area(both, 0, "polygons") == labelled_area(both, 0, "boxes")).all()


def test_an_edge_that_falls_by_next_to_nothing_is_level() -> None:
    fallen, level = (polygon_area(np.array([(1.0, 0.0), (7.0, low), (4.0, 3.0)]), 4, 8) for low in (5e-324, 0.0))
    assert (fallen == level).all()
    assert level[0, 1:7].all()


def test_an_edge_along_the_border_of_pixels_takes_those_of_one_side_only() -> None:
    shares = np.array([(0.29, 0.57), (0.58, 0.57), (0.58, 0.7), (0.29, 0.7)])
    assert 0.29 * 100 < 29
    area = polygon_area(shares * 100, 100, 100)
    assert area[57:70, 29:58].all()
    assert area.sum() == 13 * 29


@unhurried
@given(polygons)
def test_a_pixel_is_the_polygons_if_a_point_well_within_both_exists(outline: np.ndarray) -> None:
    """Against a picture of the polygon 16 times as fine, each of whose pixels is one point."""
    points, fine = outline * (12, 9), 16
    area = polygon_area(points, 9, 12)
    y, x = (np.indices((9 * fine, 12 * fine)) + 0.5) / fine
    inside = np.zeros(y.shape, dtype=np.bool_)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for (xa, ya), (xb, yb) in zip(points, np.roll(points, -1, axis=0), strict=True):
            inside ^= ((ya <= y) != (yb <= y)) & (x < xa + (y - ya) / (yb - ya) * (xb - xa))
    touched = inside.reshape(9, fine, 12, fine).any(axis=(1, 3))
    assert area[touched].all()
    # What else is marked is only brushed by an edge: between two of the fine points.
    assert (area & ~touched).sum() <= 4 * sum(np.abs(np.diff(points, axis=0, append=points[:1])).sum(axis=1) + 2)


def test_a_polygons_corner_of_the_box_is_left_out_and_a_margin_rounds_it() -> None:
    triangle = np.array([(0.2, 0.2), (0.8, 0.2), (0.2, 0.8)])
    bare, grown = (labelled_area(bounded(HERE, triangle), margin, "polygons") for margin in (0, 0.1))
    assert bare[8, 10]
    assert not bare[31, 39]
    assert grown[8 - 5, 20]
    assert not grown[8 - 6, 20]
    assert not grown[31, 39]
    assert (grown & ~bare).any()


def test_a_polygon_at_the_border_reaches_the_last_row_and_column() -> None:
    filled = labelled_area(bounded(HERE, np.array([(1, 0.5), (1, 1), (0.5, 1)])), 0, "polygons")
    assert filled[39, 49]
    assert filled[39, 30]
    assert not filled[20, 25]


def test_labels_with_and_without_a_polygon_stand_side_by_side() -> None:
    triangle = np.array([(0.0, 0.0), (0.4, 0.0), (0.0, 0.4)])
    both = scene(HERE, [[0, 0, 0.4, 0.4], [0.6, 0.6, 1, 1]], (triangle, None))
    filled = labelled_area(both, 0, "polygons")
    assert filled[24:, 30:].all()
    assert not filled[15, 19]
