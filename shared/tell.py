"""The tell: how much sharper, against its surroundings, a labelled box is in a new image than it was in the original.

A box copied at full size into surroundings that were painted on a small canvas teaches a detector "sharp rectangle =
object". No distance between pixels shows that.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

Colours = NDArray[np.floating]
Energy = NDArray[np.float64]
"""(H, W): of each pixel how much it differs from its neighbours."""

_NARROWEST = 4


def box_tell(
    result: Colours, original: Colours, boxes: NDArray[np.float64], gap: float = 0, white: int = 255
) -> float | None:
    """The gradient energy inside a box over that of a ring around it, in `result` over the same in `original`.

    1 is no difference, 2 means that the surroundings lost half of their energy. Both images are (1 or 3, H, W) from 0
    to `white`. `boxes` are (n, 4): x0, y0, x1, y1 as
    shares of the image; the answer is the geometric mean over them. The ring begins `gap` pixels outside the box,
    where what was copied with the box has faded, is half as wide as the box's shorter side, at least 4 pixels, and
    leaves other boxes out. None if no box has pixels in it and around it to compare.

    The energy is the mean of the squared differences between neighbours, in rows and columns, of the mean of the
    colours; to it is added what rounding to one of 256 grey levels does, so that flat areas compare as equal.
    """
    return of_energies(energy(result, white), energy(original, white), boxes, gap)


def of_energies(new: Energy, old: Energy, boxes: NDArray[np.float64], gap: float = 0) -> float | None:
    """`box_tell` of two images whose `energy` is known."""
    height, width = old.shape
    pixels = [_outwards(box, width, height) for box in boxes]
    free = np.ones(old.shape, dtype=np.bool_)
    for x0, y0, x1, y1 in pixels:
        free[y0:y1, x0:x1] = False
    logs = []
    for x0, y0, x1, y1 in pixels:
        first = math.ceil(gap)
        last = first + max(min(x1 - x0, y1 - y0) // 2, _NARROWEST)
        outer, inner = ((slice(max(y0 - by, 0), y1 + by), slice(max(x0 - by, 0), x1 + by)) for by in (last, first))
        ring, inside = np.zeros_like(free), np.zeros_like(free)
        ring[outer] = free[outer]
        ring[inner] = False
        inside[y0:y1, x0:x1] = True
        ring, inside = _inner(ring), _inner(inside)
        if ring.any() and inside.any():
            logs.append(math.log(new[inside].mean() * old[ring].mean() / (old[inside].mean() * new[ring].mean())))
    return math.exp(sum(logs) / len(logs)) if logs else None


def seam(new: Energy, old: Energy, area: NDArray[np.bool_], reach: float) -> float | None:
    """How much steeper the steps between neighbours are, in the mean, where the pixels of `area` end: in `new` over the
    same in `old`, as roots of their `energy`.

    1 is no seam. The rim is what lies outside of `area` (H, W) and within `reach` pixels of it, diagonals included, and
    of `area` its outermost pixels. None where there is no rim.
    """
    rim = _grown(area, math.ceil(reach)) & _grown(~area, 1)
    return math.sqrt(float(new[rim].mean()) / float(old[rim].mean())) if rim.any() else None


def _grown(area: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    grown = area.view(np.uint8)
    for axis in (0, 1):
        grown = maximum_filter1d(grown, 2 * by + 1, axis=axis, mode="constant")
    return np.asarray(grown).view(np.bool_)


def energy(image: Colours, white: int = 255) -> Energy:
    """(height, width): of each pixel the squared differences to its right and lower neighbour, in 256ths of white."""
    grey = image.mean(axis=0, dtype=np.float64) * (255 / white)
    across, down = (np.diff(grey, axis=axis, append=np.take(grey, [-1], axis=axis)) for axis in (1, 0))
    # Rounding is an error of variance 1/12 in each of the four pixels that meet in the two differences.
    return np.asarray(across**2 + down**2 + 4 / 12)


def _inner(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those pixels whose right and lower neighbours are in `area` too: a difference across its edge is not its own."""
    inner = np.zeros_like(area)
    inner[:-1, :-1] = area[:-1, :-1] & area[1:, :-1] & area[:-1, 1:]
    return inner


def _outwards(box: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = box
    left, top = min(math.floor(x0 * width), width - 1), min(math.floor(y0 * height), height - 1)
    return left, top, max(math.ceil(x1 * width), left + 1), max(math.ceil(y1 * height), top + 1)
