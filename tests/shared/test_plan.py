"""What an item keeps and gets back."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_scenes import unhurried
from PIL import Image

from shared.errors import Invalid
from shared.images import at_source_size, colours, encode, from_canvas
from shared.masks import inside_area, labelled_area, share_hidden
from shared.plan import UNIFORM_SHARE, USELESS, Labels, blend, is_copied, keep_mask, protected, useless
from shared.spec import ExpansionSpec, ResolvedSpec, resolve
from shared.tell import box_tell

WIDTH, HEIGHT = 90, 60
LABELS = Labels([[0, 0.3, 0.3, 0.55, 0.6], [1, 0.8, 0.7, 1.0, 1.0]])
NONE = Labels([])
TRIANGLE = Labels([[0, 0.2, 0.2, 0.8, 0.8]], [[0.2, 0.2, 0.8, 0.2, 0.2, 0.8]])
LOSSLESS = [
    ("PNG", "L"),
    ("PNG", "RGB"),
    ("PNG", "I;16"),
    ("PNG", "RGBA"),
    ("TIFF", "I;16"),
    ("WEBP", "RGB"),
    ("BMP", "L"),
]
CHANGING = ["random_inside_boxes", "erase_in_boxes", "boxes_regrown"]


def resolved(mask: dict[str, Any] | None = None, long_side: int = 64, **asked: Any) -> ResolvedSpec:
    operator = {"operator": {"kind": "inpaint", "mask": mask}} if mask else {}
    grain = {"grain": False}  # so that what is not copied can be told from it; tests of grain ask for it
    canvas = {"long_side": long_side}
    spec = ExpansionSpec.model_validate({"dataset_id": "d", "canvas": canvas, **operator, **grain, **asked})
    return resolve(spec, prior_sha256="", native_size=128, multiple=16, images_side=128)


def picture(mode: str, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 4096, (HEIGHT, WIDTH), dtype=np.uint16))
    return Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, len(mode)), dtype=np.uint8).squeeze())


def made(
    spec: ResolvedSpec, labels: Labels, original: Image.Image, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, Any]:
    """What was made of an original from a canvas of noise, without blending and with it; and the mask."""
    keep, p = keep_mask(spec, labels, WIDTH, HEIGHT, seed)
    x = np.random.default_rng(seed).uniform(-1, 1, (3, p.canvas_height, p.canvas_width)).astype(np.float32)
    white = 4095 if original.mode == "I;16" else 255
    image = blend(x, keep, p, original, labels, spec, white, seed=seed)
    return np.asarray(from_canvas(x, p, original, white)), np.asarray(image), (keep, p)


@pytest.mark.parametrize(("image_format", "mode"), LOSSLESS)
@pytest.mark.parametrize("how", ["boxes", "known"])
@pytest.mark.parametrize(("long_side", "grain"), [(32, False), (32, True), (64, True), (128, True)])
def test_protected_pixels_are_equal_integers_in_a_lossless_file(
    image_format: str, mode: str, how: str, long_side: int, grain: bool
) -> None:
    spec, original = resolved(blend=how, long_side=long_side, grain=grain), picture(mode)
    _, blended, (keep, p) = made(spec, LABELS, original)
    written = np.asarray(Image.open(io.BytesIO(encode(Image.fromarray(blended), image_format))))
    assert written.dtype == np.asarray(original).dtype
    area = protected(keep, p, LABELS, spec)
    assert area[int(0.3 * HEIGHT) : int(0.6 * HEIGHT), int(0.3 * WIDTH) : int(0.55 * WIDTH)].all()
    assert area[-1, -1]
    assert not area.all()
    assert (written[area] == np.asarray(original)[area]).all()
    if how == "known":
        assert (written[at_source_size(keep, p)] == np.asarray(original)[at_source_size(keep, p)]).all()


def test_with_none_nothing_is_copied_and_there_is_no_grain() -> None:
    spec = resolved(blend="none", grain=True)
    bare, blended, (keep, p) = made(spec, LABELS, picture("RGB"))
    assert (bare == blended).all()
    assert not protected(keep, p, LABELS, spec).any()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("how", ["boxes", "known"])
def test_grain_makes_a_soft_canvas_as_sharp_as_the_original_and_comes_from_the_items_seed(mode: str, how: str) -> None:
    original, white = picture(mode), 4095 if mode == "I;16" else 255
    bare, grown = (resolved(blend=how, grain=on) for on in (False, True))
    keep, p = keep_mask(grown, LABELS, WIDTH, HEIGHT, 1)
    grey = np.zeros((3, p.canvas_height, p.canvas_width), dtype=np.float32)
    soft, first, again, other = (
        blend(grey, keep, p, original, LABELS, spec, white, seed=seed)
        for spec, seed in ((bare, 1), (grown, 1), (grown, 1), (grown, 2))
    )
    corners = np.array(LABELS.boxes)[:1, 1:]
    tells = [box_tell(colours(each), colours(original), corners, gap=1, white=white) or 0 for each in (soft, first)]
    assert tells[0] > 1.3 * tells[1]
    assert tells[1] < 2.2  # what is left is the rest of this noise, which is white
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    if mode in ("LA", "RGBA"):
        assert np.array_equal(np.asarray(first)[..., -1], np.asarray(original)[..., -1])


def test_known_copies_more_than_boxes_and_leaves_what_is_far_from_kept_pixels() -> None:
    bare, boxes, (keep, p) = made(resolved(blend="boxes", long_side=32), LABELS, picture("L"))
    _, known, _ = made(resolved(blend="known", long_side=32), LABELS, picture("L"))
    original = np.asarray(picture("L"))
    kept = at_source_size(keep, p)
    assert (boxes[kept] != original[kept]).any()
    assert (known[kept] == original[kept]).all()
    assert (known == bare)[~kept].mean() > 0.2


@unhurried
@given(seed=st.integers(0, 2**62))
@pytest.mark.parametrize("kind", CHANGING)
def test_what_a_mask_hides_of_a_label_on_purpose_is_not_copied_back(kind: str, seed: int) -> None:
    spec = resolved({"kind": kind}, blend="boxes", long_side=32)
    bare, blended, (keep, p) = made(spec, LABELS, picture("L"), seed)
    area = protected(keep, p, LABELS, spec)
    hidden = ~at_source_size(keep, p)
    assert hidden.any()
    assert not area[hidden].any()
    original = np.asarray(picture("L"))
    assert (blended[area] == original[area]).all()
    if kind == "boxes_regrown":
        assert (blended[hidden] == bare[hidden]).mean() > 0.2


@pytest.mark.parametrize("keep", ["boxes", "polygons"])
def test_a_polygon_is_copied_as_its_filled_area_if_so_asked(keep: str) -> None:
    spec = resolved({"kind": "gaussian_distance", "keep": keep})
    _, _, (mask, p) = made(spec, TRIANGLE, picture("L"))
    area = protected(mask, p, TRIANGLE, spec)
    assert area[13, 20]
    assert area[46, 70] == (keep == "boxes")


def test_labels_that_chance_hides_are_copied_all_the_same() -> None:
    spec = resolved({"kind": "gaussian_distance_all"})
    original = picture("L")
    _, blended, (keep, p) = made(spec, LABELS, original)
    area = protected(keep, p, LABELS, spec)
    assert not at_source_size(keep, p)[area].all()
    assert (blended[area] == np.asarray(original)[area]).all()


def test_an_unlabelled_image_has_a_random_mask_with_uniform_and_all_of_it_with_keep() -> None:
    with pytest.raises(Invalid, match="unlabelled"):
        keep_mask(resolved(), NONE, 900, 600, 1)
    keep, p = keep_mask(resolved(unlabelled="uniform", long_side=512), NONE, 900, 600, 1)
    assert 1 - share_hidden(keep, inside_area(p)) == pytest.approx(UNIFORM_SHARE, abs=0.005)
    spec = resolved(unlabelled="keep")
    assert keep_mask(spec, NONE, 900, 600, 1)[0].all()
    assert is_copied(spec, NONE)
    assert not is_copied(spec, LABELS)


def test_a_mask_that_needs_no_label_is_drawn_as_it_was_asked_for() -> None:
    asked = resolved({"kind": "random", "share": 0.6}, unlabelled="uniform", long_side=512)
    keep, p = keep_mask(asked, NONE, 900, 600, 1)
    assert share_hidden(keep, inside_area(p)) == pytest.approx(0.4, abs=0.01)


def test_labelled_images_do_not_care_about_unlabelled() -> None:
    masks = [keep_mask(resolved(unlabelled=how), LABELS, 90, 60, 5)[0] for how in ("skip", "uniform", "keep")]
    assert (masks[0] == masks[1]).all()
    assert (masks[0] == masks[2]).all()


def test_an_uploaded_mask_is_stretched_to_the_picture() -> None:
    half = np.zeros((10, 30), dtype=np.uint8)
    half[:, 15:] = 255
    keep, p = keep_mask(resolved({"kind": "uploaded"}), LABELS, 90, 60, 1, Image.fromarray(half))
    expected = ~inside_area(p)
    expected[:, 32:] = True
    assert (keep == expected).all()


def test_a_mask_that_keeps_all_or_nothing_is_named_and_another_is_not() -> None:
    whole = Labels([[0, 0, 0, 1, 1]])
    assert useless(*keep_mask(resolved({"kind": "outside_boxes"}), whole, 90, 60, 1)) == "nothing_hidden"
    assert useless(*keep_mask(resolved({"kind": "boxes_regrown"}), whole, 90, 60, 1)) == "nothing_kept"
    assert useless(*keep_mask(resolved(), LABELS, 90, 60, 1)) is None
    assert set(USELESS) == {"nothing_hidden", "nothing_kept"}


def test_the_uniform_share_is_the_default_masks_mean_on_real_labels(fracatlas: Any) -> None:
    shares = []
    for file in sorted((fracatlas / "labels" / "train").glob("*.txt"))[:150]:
        rows = np.array([line.split() for line in file.read_text().splitlines()], dtype=float)
        if not len(rows):
            continue
        _, x, y, w, h = rows.T
        (image,) = (fracatlas / "images" / "train").glob(f"{file.stem}.*")
        corners = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 1).T
        with Image.open(image) as opened:
            keep, p = keep_mask(resolved(long_side=128), Labels([[0, *box] for box in corners]), *opened.size, 1)
        shares.append(1 - share_hidden(keep, inside_area(p)))
    assert len(shares) > 50
    assert np.mean(shares) == pytest.approx(UNIFORM_SHARE, abs=0.015)


def test_the_labelled_area_of_the_source_is_that_of_its_boxes_rounded_outwards() -> None:
    spec = resolved()
    _, _, (keep, p) = made(spec, LABELS, picture("L"))
    assert protected(keep, p, LABELS, spec).sum() == 23 * 18 + 18 * 18
    assert labelled_area(LABELS.scene(p), 0).any()
