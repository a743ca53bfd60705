"""What an item keeps, hides and gets back: decided here once, for the worker, the API and `python -m worker.psld`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import Conflict
from shared.images import Placement, from_canvas, paste_boxes, place
from shared.masks import MASKS, Area, inside_area, labelled_area
from shared.spec import Inpaint, ResolvedSpec

Boxes = Sequence[Sequence[float]]

FEATHER = 0.01
"""Width of the rim in which a labelled box fades into its new surroundings, in shares of the image's long side."""


def corners(boxes: Boxes) -> NDArray[np.float64]:
    """(n, 4) x0, y0, x1, y1 in shares of the image, from rows of [class index, x0, y0, x1, y1]."""
    return np.array(boxes, dtype=np.float64).reshape(-1, 5)[:, 1:]


def keep_mask(resolved: ResolvedSpec, boxes: Boxes, width: int, height: int, seed: int) -> tuple[Area, Placement]:
    """The keep mask (True = kept) of an item whose source is `width` x `height`, and where the picture lies in it.

    It depends on nothing but its arguments; the sampler's noise comes from another stream of the same seed.
    Raises Conflict where the operator is none with a mask.
    """
    if not isinstance(resolved.operator, Inpaint):
        raise Conflict(f"The operator {resolved.operator.kind} hides no pixels, so there is no mask.")
    placement = place(width, height, resolved.long_side, resolved.multiple)
    mask = resolved.operator.mask
    labelled = labelled_area(corners(boxes), placement, mask.margin)
    options = mask.model_dump(exclude={"kind", "margin"})
    rng = np.random.default_rng([seed, 0])
    return MASKS[mask.kind](labelled, inside_area(placement), rng, **options), placement


def blend(
    x: NDArray[np.float32],
    placement: Placement,
    original: Image.Image,
    boxes: Boxes,
    resolved: ResolvedSpec,
    white: int = 255,
) -> Image.Image:
    """The picture on canvas `x` (3, H, W) at the original's size and mode, with its labelled pixels if so asked."""
    image = from_canvas(x, placement, original, white)
    if resolved.blend == "none":
        return image
    return paste_boxes(image, original, corners(boxes), FEATHER * max(image.size))
