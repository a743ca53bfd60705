"""What a mask is drawn around: a picture on its canvas, and what is labelled in it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from shared.masks.polygons import polygon_area

Area = NDArray[np.bool_]

Geometry = Literal["exact", "reference"]
"""`reference` is that of the code of Prairie et al.; see `_reference_pixels`."""

REFERENCE_MARGIN = 16
"""Pixels by which the authors' code grows every box, whatever the size of the picture."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture and its labels.

    `boxes` are (n, 4): x0, y0, x1, y1 as shares of the picture. `outlines` has for each box the polygon (k, 2: x, y,
    shares too) that it bounds, or None; it is empty where there are no polygons. `uploaded` is the mask that came with
    the picture, on the canvas, if one did.
    """

    placement: Placed
    boxes: NDArray[np.float64]
    outlines: tuple[NDArray[np.float64] | None, ...] = ()
    uploaded: Area | None = None


def inside_area(placement: Placed) -> Area:
    """True on the picture, False on the padding."""
    p = placement
    inside = np.zeros((p.canvas_height, p.canvas_width), dtype=np.bool_)
    inside[p.top : p.top + p.height, p.left : p.left + p.width] = True
    return inside


def labelled_area(
    scene: Scene, margin: float, keep: Literal["boxes", "polygons"] = "boxes", geometry: Geometry = "exact"
) -> Area:
    """True on the pixels that any label touches.

    Each box is grown on all sides by `margin` times the picture's long side on the canvas, rounded outwards and
    clipped to the picture. A box labels at least one pixel. With `keep="polygons"` only those of its pixels count that
    its polygon, if it has one, overlaps or is `margin` away from.
    """
    p = scene.placement
    labelled = np.zeros((p.canvas_height, p.canvas_width), dtype=np.bool_)
    outlines = scene.outlines if keep == "polygons" and scene.outlines else (None,) * len(scene.boxes)
    for (rows, columns), outline in zip(rectangles(scene, margin, geometry), outlines, strict=True):
        if outline is None:
            labelled[rows, columns] = True
        else:
            labelled[rows, columns] |= _outlined(outline, p, margin)[rows, columns]
    return labelled


def rectangles(scene: Scene, margin: float, geometry: Geometry = "exact") -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the canvas that each box takes, grown by `margin` as in `labelled_area`.

    In the `reference` geometry they can be empty.
    """
    p = scene.placement
    grow = margin * max(p.height, p.width)
    for x0, y0, x1, y1 in scene.boxes:
        if geometry == "reference":
            yield (
                _reference_pixels(y0, y1, p.top, p.height),
                _reference_pixels(x0, x1, p.left, p.width),
            )
        else:
            yield (
                _pixels(y0 * p.height - grow, y1 * p.height + grow, p.top, p.height),
                _pixels(x0 * p.width - grow, x1 * p.width + grow, p.left, p.width),
            )


def _pixels(start: float, end: float, offset: int, size: int) -> slice:
    """The pixels from `start` to `end`, rounded outwards; a millionth of a pixel is a rounding error."""
    first = min(max(math.floor(start + 1e-6), 0), size - 1)
    last = min(max(math.ceil(end - 1e-6), first + 1), size)
    return slice(offset + first, offset + last)


def _reference_pixels(start: float, end: float, offset: int, size: int) -> slice:
    """As the authors' code has it: both ends truncated towards zero, and the last pixel is never reached.

    Theirs starts from centre and side as the label file has them, and where an end falls on a border between pixels,
    the rounding of that arithmetic decides. Twelve decimals bring the file's own numbers back.
    """
    centre, side = round((start + end) / 2, 12) * size, round(end - start, 12) * size
    first = max(int(centre - side / 2) - REFERENCE_MARGIN, 0)
    last = min(int(centre + side / 2) + REFERENCE_MARGIN, size - 1)
    return slice(offset + first, offset + max(last, first))


def _outlined(outline: NDArray[np.float64], p: Placed, margin: float) -> Area:
    """True on the canvas where the polygon is, or less than `margin` away, rounded outwards."""
    area = np.zeros((p.canvas_height, p.canvas_width), dtype=np.bool_)
    picture = area[p.top : p.top + p.height, p.left : p.left + p.width]
    picture[:] = polygon_area(outline * (p.width, p.height), p.height, p.width)
    if not picture.any():
        # So thin that it lies between two pixels: its box says where.
        return ~area
    grow = math.ceil(margin * max(p.height, p.width) - 1e-6)
    return area if grow <= 0 else np.asarray(distance_transform_edt(~area) <= grow)
