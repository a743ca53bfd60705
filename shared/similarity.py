"""Structural similarity where it is asked for only, since of most pictures no window is kept whole."""

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]

WINDOW = 8
FEWEST = 16
"""Pixels of a window that must count, or it does not."""
_RANGE = 2.0
_C1, _C2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2


def ssim(one: Grey, other: Grey, where: NDArray[np.bool_]) -> float:
    """SSIM (Wang et al., Image quality assessment, 2004) of two grey pictures (H, W) in [-1, 1], among the pixels of
    `where`: the mean over windows of 8 x 8 that do not overlap, each by how many of its pixels count, which are
    `FEWEST` at least. If no window has as many, all pixels are one window. `where` must not be empty.
    """
    rows, columns = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    w = _padded(where[part].astype(np.float32))
    x, y = _padded(one[part]) * w, _padded(other[part]) * w
    sums = [_windows(values) for values in (w, x, y, x * x, y * y, x * y)]
    counted = sums[0] >= FEWEST
    n, sx, sy, sxx, syy, sxy = (
        [values[counted] for values in sums] if counted.any() else [values.sum(keepdims=True) for values in sums]
    )
    mx, my = sx / n, sy / n
    vx, vy, cxy = np.maximum(sxx / n - mx * mx, 0), np.maximum(syy / n - my * my, 0), sxy / n - mx * my
    likeness = (2 * mx * my + _C1) * (2 * cxy + _C2) / ((mx * mx + my * my + _C1) * (vx + vy + _C2))
    return round(float((likeness * n).sum() / n.sum()), 4)


def _padded(values: Grey) -> Grey:
    """With zeros to whole windows."""
    return np.pad(values, [(0, -length % WINDOW) for length in values.shape])


def _windows(values: Grey) -> NDArray[np.float64]:
    """The sum over each window."""
    height, width = (length // WINDOW for length in values.shape)
    return np.asarray(values.reshape(height, WINDOW, width, WINDOW).sum(axis=(1, 3), dtype=np.float64))
