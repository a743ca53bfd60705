"""What an item keeps, hides and gets back: decided here once, for the worker, the API and `python -m worker.psld`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import Conflict
from shared.grain import grain
from shared.images import (
    Placement,
    at_source_size,
    colours,
    from_canvas,
    mask_on_canvas,
    paste,
    place,
    with_noise,
)
from shared.masks import MASKS, Area, Scene, inside_area, labelled_area, share_hidden
from shared.spec import ResolvedSpec

Boxes = Sequence[Sequence[float]]

FEATHER = 0.01
"""Width of the rim in which a labelled box fades into its new surroundings, in shares of the image's long side."""

UNIFORM_SHARE = 0.17
"""What `unlabelled: uniform` keeps: the default mask's own mean over the 454 labelled train images of FracAtlas."""

USELESS = {
    "nothing_hidden": "The mask keeps every pixel, so there is nothing to regrow.",
    "nothing_kept": "The mask hides every pixel, so nothing of the image would be left.",
}
"""What an item cannot be made with."""


@dataclass(frozen=True, slots=True)
class Labels:
    """An image's labels: `boxes` are rows of [class index, x0, y0, x1, y1] in shares of it, `outlines` has for each of
    them its polygon as x, y, x, y, ... in shares, or None, and is empty where there is no polygon."""

    boxes: Boxes
    outlines: Sequence[Sequence[float] | None] = ()

    def scene(self, placement: Placement, uploaded: Area | None = None) -> Scene:
        """The labels on a canvas."""
        outlines = tuple(None if o is None else np.reshape(o, (-1, 2)).astype(np.float64) for o in self.outlines)
        return Scene(placement, corners(self.boxes), outlines, uploaded)


def corners(boxes: Boxes) -> NDArray[np.float64]:
    """(n, 4) x0, y0, x1, y1 in shares of the image, from rows of [class index, x0, y0, x1, y1]."""
    return np.array(boxes, dtype=np.float64).reshape(-1, 5)[:, 1:]


def is_copied(resolved: ResolvedSpec, labels: Labels) -> bool:
    """Whether an item is its source, unchanged: `unlabelled: keep`, and it has no label."""
    return resolved.unlabelled == "keep" and not labels.boxes


def keep_mask(
    resolved: ResolvedSpec, labels: Labels, width: int, height: int, seed: int, uploaded: Image.Image | None = None
) -> tuple[Area, Placement]:
    """The keep mask (True = kept) of an item whose source is `width` x `height`, and where the picture lies in it.

    `uploaded` is the mask image that came with the source. It depends on nothing but its arguments; the sampler's noise
    comes from another stream of the same seed. Raises Conflict where the operator is none with a mask, and Invalid if
    this kind of mask cannot be drawn for this image.
    """
    mask = resolved.mask
    if mask is None:
        raise Conflict(f"The operator {resolved.operator.kind} hides no pixels, so there is no mask.")
    placement = place(width, height, resolved.long_side, resolved.multiple)
    if is_copied(resolved, labels):
        return np.ones((placement.canvas_height, placement.canvas_width), dtype=np.bool_), placement
    scene = labels.scene(placement, None if uploaded is None else mask_on_canvas(uploaded, placement))
    kind, options = mask.kind, mask.model_dump(exclude={"kind"})
    if resolved.unlabelled == "uniform" and mask.needs_labels and not labels.boxes:
        kind, options = "random", {"share": UNIFORM_SHARE, "keep_labels": False, "margin": 0, "keep": "boxes"}
    return MASKS[kind](scene, np.random.default_rng([seed, 0]), **options), placement


def useless(keep: Area, placement: Placement) -> str | None:
    """The key of USELESS that says why no item can be made with a mask; None if one can."""
    hidden = share_hidden(keep, inside_area(placement))
    return {0.0: "nothing_hidden", 1.0: "nothing_kept"}.get(hidden)


def protected(keep: Area | None, placement: Placement, labels: Labels, resolved: ResolvedSpec) -> Area:
    """(source_height, source_width): True where the result has the original's own pixels.

    `keep` is the mask on the canvas, None where the operator has none.
    """
    if resolved.blend == "none":
        return np.zeros((placement.source_height, placement.source_width), dtype=np.bool_)
    area = _labelled(keep, placement, labels, resolved)
    return area if keep is None or resolved.blend == "boxes" else area | at_source_size(keep, placement)


def blend(
    x: NDArray[np.float32],
    keep: Area | None,
    placement: Placement,
    original: Image.Image,
    labels: Labels,
    resolved: ResolvedSpec,
    white: int = 255,
    *,
    seed: int,
) -> Image.Image:
    """The picture on canvas `x` (3, H, W) at the original's size and mode, with the pixels that `protected` names.

    Outside of them the original fades out: over FEATHER around labels; over one pixel of the canvas around pixels that
    were kept by chance, since those lie everywhere and a wider rim would leave nothing regrown. `seed` is the item's:
    its grain, if the spec wants any, is drawn from a stream of its own.
    """
    image = from_canvas(x, placement, original, white)
    narrow = _canvas_pixel(placement)
    if resolved.blend == "known" and keep is not None:
        image = paste(image, original, at_source_size(keep, placement), narrow)
    if resolved.grain and resolved.blend != "none":
        regrown = ~protected(keep, placement, labels, resolved)
        noise = grain(colours(image), colours(original), regrown, np.random.default_rng([seed, 1]))
        image = with_noise(image, noise, white)
    if resolved.blend != "none":
        rim = narrow if _hides_labels(resolved) else FEATHER * max(image.size)
        image = paste(image, original, _labelled(keep, placement, labels, resolved), rim)
    return image


def feather(placement: Placement, resolved: ResolvedSpec) -> float:
    """Width in pixels of the rim in which most of what `protected` names fades out."""
    by_chance = resolved.blend == "known" or _hides_labels(resolved)
    size = placement.source_width, placement.source_height
    return _canvas_pixel(placement) if by_chance else FEATHER * max(size)


def _canvas_pixel(placement: Placement) -> float:
    """How many pixels of the source one of the canvas is."""
    return max(placement.source_width, placement.source_height) / max(placement.width, placement.height)


def _hides_labels(resolved: ResolvedSpec) -> bool:
    return resolved.mask is not None and resolved.mask.changes_labels


def _labelled(keep: Area | None, placement: Placement, labels: Labels, resolved: ResolvedSpec) -> Area:
    """The labels at the source's size, without what of them the mask hides if that is its purpose."""
    p = placement
    own_size = Placement(p.source_height, p.source_width, 0, 0, *[p.source_height, p.source_width] * 2)
    area = labelled_area(labels.scene(own_size), 0, getattr(resolved.mask, "keep", "boxes"))
    return area if keep is None or not _hides_labels(resolved) else area & at_source_size(keep, p)
