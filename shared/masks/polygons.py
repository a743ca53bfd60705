"""Polygons to pixels."""

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6
"""Pixels by which an edge may miss the border between two pixels and still lie on it."""


def polygon_area(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """(height, width), True on each pixel that the polygon overlaps.

    `points` are (k, 2): x, y in pixels, pixel (row, column) being the square from (column, row) to (column + 1,
    row + 1). Where the polygon crosses itself the even-odd rule counts, as in OpenCV's fillPoly. A pixel is overlapped
    if its middle is inside, or if an edge passes through it.
    """
    area = np.zeros((height, width), dtype=np.bool_)
    starts, ends = points, np.roll(points, -1, axis=0)
    swap = starts[:, 1] > ends[:, 1]
    upper, lower = np.where(swap[:, None], ends, starts), np.where(swap[:, None], starts, ends)
    _fill(area, upper, lower)
    for (xa, ya), (xb, yb) in zip(upper, lower, strict=True):
        _trace(area, xa, ya, xb, yb)
    return area


def _fill(area: NDArray[np.bool_], upper: NDArray[np.float64], lower: NDArray[np.float64]) -> None:
    """Mark the pixels whose middle is inside: between each two crossings of the row's middle line and an edge."""
    height, width = area.shape
    first, last = max(int(upper[:, 1].min()), 0), min(int(lower[:, 1].max()) + 1, height)
    for row in range(first, last):
        middle = row + 0.5
        cut = (upper[:, 1] <= middle) & (middle < lower[:, 1])
        (xa, ya), (xb, yb) = upper[cut].T, lower[cut].T
        crossings = np.sort(xa + (middle - ya) / (yb - ya) * (xb - xa))
        columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)
        for start, end in zip(columns[0::2], columns[1::2], strict=True):
            area[row, start:end] = True


def _trace(area: NDArray[np.bool_], xa: float, ya: float, xb: float, yb: float) -> None:
    """Mark the pixels through which the edge from (xa, ya) down to (xb, yb) passes; along a border is not through."""
    height, width = area.shape
    first, last = max(int(np.floor(ya + ROUNDING)), 0), min(int(np.ceil(yb - ROUNDING)), height)
    rows = np.arange(first, last)
    # As a share of the edge's height, which may be next to nothing: a slope could be more than a number holds.
    if yb > ya:
        enters, leaves = (xa + (np.clip(at, ya, yb) - ya) / (yb - ya) * (xb - xa) for at in (rows, rows + 1))
    else:
        enters, leaves = np.full(len(rows), xa), np.full(len(rows), xb)
    left = np.clip(np.floor(np.minimum(enters, leaves) + ROUNDING), 0, width).astype(int)
    right = np.clip(np.ceil(np.maximum(enters, leaves) - ROUNDING), 0, width).astype(int)
    for row, start, end in zip(rows, left, right, strict=True):
        area[row, start:end] = True
