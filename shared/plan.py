"""What an item keeps and what it hides: decided here once, for the worker that paints it and the API that shows it."""

from collections.abc import Sequence

import numpy as np

from shared.images import Placement, place
from shared.masks import MASKS, Area, inside_area, labelled_area
from shared.spec import ResolvedSpec

Boxes = Sequence[Sequence[float]]


def corners(boxes: Boxes) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(n, 4) x0, y0, x1, y1 in shares of the image, from rows of [class index, x0, y0, x1, y1]."""
    return np.array(boxes, dtype=np.float64).reshape(-1, 5)[:, 1:]


def keep_mask(resolved: ResolvedSpec, boxes: Boxes, width: int, height: int, seed: int) -> tuple[Area, Placement]:
    """The keep mask (True = kept) of an item whose source is `width` x `height`, and where the picture lies in it.

    It depends on nothing but its arguments; the sampler's noise comes from another stream of the same seed.
    """
    placement = place(width, height, resolved.long_side, resolved.multiple)
    mask = resolved.operator.mask
    labelled = labelled_area(corners(boxes), placement, mask.margin)
    options = mask.model_dump(exclude={"kind", "margin"})
    rng = np.random.default_rng([seed, 0])
    return MASKS[mask.kind](labelled, inside_area(placement), rng, **options), placement
