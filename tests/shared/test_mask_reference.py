"""The geometry `reference`: the masks that the authors' own code drew, given what it drew them from."""

from pathlib import Path

import numpy as np
import pytest
from mask_scenes import draw, scene
from pydantic import ValidationError

from shared.images import Placement, place
from shared.masks import MASKS, Scene, inside_area, labelled_area
from shared.masks.options import EraseInBoxes, GaussianDistance, GaussianDistanceAll, OutsideBoxes

GOLDEN = Path(__file__).resolve().parents[3] / "shared/golden/masks.npz"
SIDE = 96
SQUARE = Placement(SIDE, SIDE, 0, 0, SIDE, SIDE, SIDE, SIDE)
SCENES = ["one_centre", "two_small", "border", "large", "full", "none"]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    if not GOLDEN.exists():
        pytest.skip(f"the masks that the authors' code drew are not at {GOLDEN}")
    with np.load(GOLDEN) as stored:
        return dict(stored)


class Recorded:
    """Gives what was drawn before, as a Generator would."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.left = numbers

    def normal(self, loc: float, scale: float, size: tuple[int, ...]) -> np.ndarray:
        assert (loc, scale, size) == (0, 0.32, self.left.shape)
        return self.left

    def random(self, size: tuple[int, ...]) -> np.ndarray:
        (count,) = size
        given, self.left = self.left[:count], self.left[count:]
        return given


def golden_scene(rows: np.ndarray) -> Scene:
    x, y, width, height = rows[:, 1:].T
    return scene(SQUARE, np.column_stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2]))


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize(
    ("options", "drawn"),
    [
        (GaussianDistance(geometry="reference"), "noise"),
        (GaussianDistanceAll(geometry="reference"), "noise"),
        (OutsideBoxes(geometry="reference"), None),
        (EraseInBoxes(geometry="reference"), "uniforms"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_with_the_authors_draws_the_mask_is_the_authors(
    golden: dict[str, np.ndarray], name: str, options: GaussianDistance, drawn: str | None
) -> None:
    case = f"{name}/{options.kind}"
    if f"{case}/mask" not in golden:
        assert case == "none/erase_in_boxes"
        pytest.skip("the authors' code draws no such mask for an image without boxes")
    recorded = Recorded(golden[f"{case}/{drawn}"] if drawn else np.empty(0))
    keep = MASKS[options.kind](golden_scene(golden[f"{name}/boxes"]), recorded, **options.model_dump(exclude={"kind"}))
    np.testing.assert_array_equal(keep, golden[f"{case}/mask"].astype(bool))


def test_its_boxes_never_reach_the_last_row_and_column_and_padding_is_kept() -> None:
    p = place(60, 100, 64, 16)
    whole = scene(p, [[0, 0, 1, 1]])
    expected = np.zeros((p.canvas_height, p.canvas_width), dtype=np.bool_)
    expected[p.top : p.top + p.height - 1, p.left : p.left + p.width - 1] = True
    np.testing.assert_array_equal(labelled_area(whole, 0.04, geometry="reference"), expected)
    assert draw(whole, "outside_boxes", geometry="reference")[~inside_area(p)].all()


def test_its_margin_is_sixteen_pixels_of_any_canvas() -> None:
    for side in (64, 128):
        p = place(10, 10, side, 16)
        labelled = labelled_area(scene(p, [[0.5, 0.5, 0.5, 0.5]]), 0.04, geometry="reference")
        assert labelled.sum() == 32 * 32


def test_without_boxes_its_phantom_is_above_the_pictures_corner_not_the_canvas() -> None:
    p = place(64, 32, 64, 64)
    keep = draw(scene(p), "gaussian_distance", geometry="reference", sigma=1e-9, mu=0.05)
    kept = np.argwhere(keep & inside_area(p))
    reach = 0.05 * np.hypot(32, 63)
    assert kept.tolist() == [[p.top + y, x] for y in range(9) for x in range(9) if np.hypot(y + 1, x) < reach]


@pytest.mark.parametrize("options", [{"margin": 0.1}, {"keep": "polygons"}])
def test_what_the_reference_geometry_has_no_choice_in_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="reference"):
        GaussianDistance(geometry="reference", **options)
