"""Boxes to keep masks: 1 = kept.

A mask is a boolean (canvas_height, canvas_width) array, True where the pixel is known to the sampler and False where it
is hidden and will be regrown. Padding is kept always, so that nothing is spent on it, and counts in no share.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from shared.errors import Invalid

Area = NDArray[np.bool_]


class Placed(Protocol):
    """A picture on a canvas, in pixels: the inner rectangle is `height` x `width` at (`top`, `left`)."""

    @property
    def canvas_height(self) -> int: ...
    @property
    def canvas_width(self) -> int: ...
    @property
    def top(self) -> int: ...
    @property
    def left(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...


def inside_area(placement: Placed) -> Area:
    """True on the picture, False on the padding."""
    p = placement
    inside = np.zeros((p.canvas_height, p.canvas_width), dtype=np.bool_)
    inside[p.top : p.top + p.height, p.left : p.left + p.width] = True
    return inside


def labelled_area(boxes: NDArray[np.float64], placement: Placed, margin: float) -> Area:
    """True on the pixels that any of `boxes` (n, 4: x0, y0, x1, y1 as shares of the source) touches.

    Each box is grown on all sides by `margin` times the picture's long side on the canvas, rounded outwards and
    clipped to the picture. A box labels at least one pixel.
    """
    p = placement
    labelled = np.zeros((p.canvas_height, p.canvas_width), dtype=np.bool_)
    grow = margin * max(p.height, p.width)
    for x0, y0, x1, y1 in boxes:
        columns = _pixels(x0 * p.width - grow, x1 * p.width + grow, p.left, p.width)
        rows = _pixels(y0 * p.height - grow, y1 * p.height + grow, p.top, p.height)
        labelled[rows, columns] = True
    return labelled


def _pixels(start: float, end: float, offset: int, size: int) -> slice:
    """The pixels from `start` to `end`, rounded outwards; a millionth of a pixel is a rounding error."""
    first = min(max(math.floor(start + 1e-6), 0), size - 1)
    last = min(max(math.ceil(end - 1e-6), first + 1), size)
    return slice(offset + first, offset + last)


def gaussian_distance(labelled: Area, inside: Area, rng: np.random.Generator, *, mu: float, sigma: float) -> Area:
    """Keep what is labelled, and each other pixel where d < n: n ~ N(mu, sigma) is drawn anew for each pixel.

    d is the distance to the nearest labelled pixel over its maximum inside the picture, so P(keep | d) =
    Phi((mu - d) / sigma). As in Prairie et al., "Data Augmentation as an Inverse Problem". The noise is drawn for the
    whole canvas in one call: what is drawn depends on the generator and the canvas, not on the boxes.

    Raises Invalid if nothing is labelled.
    """
    noise = rng.normal(mu, sigma, inside.shape)
    return labelled | ~inside | (relative_distance(labelled, inside) < noise)


def relative_distance(labelled: Area, inside: Area) -> NDArray[np.float64]:
    """Distance to the nearest labelled pixel over its maximum inside: 0 where labelled, 1 at the farthest pixel."""
    if not labelled.any():
        raise Invalid("this mask is drawn around labels, and the image has none; choose what to do with `unlabelled`")
    distance = distance_transform_edt(~labelled)
    farthest = distance[inside].max()
    return np.asarray(distance / farthest if farthest > 0 else distance, dtype=np.float64)


def share_hidden(keep: Area, inside: Area) -> float:
    """The share of the picture's own pixels that `keep` hides, 0..1."""
    return 1 - float(keep[inside].mean())


MASKS: Mapping[str, Callable[..., Area]] = MappingProxyType({"gaussian_distance": gaussian_distance})
"""Each is called (labelled, inside, rng, **options) and gives a keep mask."""
