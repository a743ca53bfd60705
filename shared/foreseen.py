"""What of a mask is certain before it is drawn: that it would keep everything of an image, or nothing."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from shared.masks import AnyMask
from shared.spec import ResolvedSpec

NEVER = 1e-9
"""A chance that no pixel of any canvas meets."""


class Foreseen(NamedTuple):
    """`kind` is a key of `plan.USELESS`; `why` the half of a sentence that says what of image or mask makes it so."""

    kind: str
    why: str


def useless(resolved: ResolvedSpec, boxes: NDArray[np.float64], width: int, height: int) -> Foreseen | None:
    """Why no variant of an image of so many pixels can be made, whatever is drawn; None where one may well be.

    `boxes` are (n, 4): x0, y0, x1, y1 as shares of it. That None is returned promises nothing: a mask that is drawn may
    still turn out to keep all or nothing.
    """
    mask = resolved.mask
    if mask is None or (not len(boxes) and (mask.needs_labels or resolved.unlabelled == "keep")):
        return None
    kind = _by_its_numbers(mask, labelled=bool(len(boxes)))
    if kind is not None:
        return Foreseen(kind, "the numbers of the mask leave nothing to chance")
    if mask.kind not in ("gaussian_distance", "outside_boxes", "boxes_regrown") or mask.keep == "polygons":
        return None
    if mask.kind != "boxes_regrown" and mask.geometry == "reference":
        return None  # Its boxes never reach the last row.
    if not _cover(boxes, mask.margin, width, height):
        return None
    return Foreseen("nothing_kept" if mask.changes_labels else "nothing_hidden", "a label covers the image whole")


def _by_its_numbers(mask: AnyMask, *, labelled: bool) -> str | None:
    kept, hidden = _chances(mask, labelled=labelled)
    if hidden < NEVER:
        return "nothing_hidden"
    return "nothing_kept" if kept < NEVER else None


def _chances(mask: AnyMask, *, labelled: bool) -> tuple[float, float]:
    """The greatest chance of any pixel of an image to be kept, and to be hidden, as far as numbers alone decide."""
    match mask.kind:
        case "gaussian_distance" | "gaussian_distance_all":
            # A label's own pixels are at distance 0, the farthest of all at 1.
            kept = ndtr(mask.mu / mask.sigma) if mask.kind == "gaussian_distance_all" else 1.0
            return kept, ndtr((1 - mask.mu) / mask.sigma)
        case "random":
            return 1.0 if mask.keep_labels and labelled else mask.share, 1 - mask.share
        case "random_inside_boxes":
            return 1.0, mask.share
        case "box":
            return float(mask.smallest < 1), 1.0
        case _:
            return 1.0, 1.0


def _cover(boxes: NDArray[np.float64], margin: float, width: int, height: int) -> bool:
    """Whether one of the boxes, grown by the margin, is the whole image."""
    sides = width, height
    grow = [margin * max(sides) / side for side in sides]
    start, end = boxes[:, :2] - grow, boxes[:, 2:] + grow
    return bool(((start <= 0) & (end >= 1)).all(axis=1).any())
