"""The finest detail, which no canvas and no autoencoder carries, given back as noise.

What is regrown is softer than the original, the more so the smaller the canvas: a labelled box copied into it stands
out by its sharpness alone (`shared.tell`). Grain as strong as that of the original makes up for it.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

Colours = NDArray[np.floating]

FINEST = 1.0
"""Detail is what a Gaussian of this many pixels takes away. Narrower, and surroundings stay soft; wider, and the steps
of bones' edges, which are no noise, count as such and come back as snow: docs/method.md has the measurement."""

WINDOW = 0.05
"""Side of the square in which the strength of detail is measured, in shares of the long side: about a small box."""


def grain(new: Colours, old: Colours, where: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise (H, W) that, added to every colour of `new`, gives it as much of the finest detail as `old` has.

    Both are (1 or 3, H, W) in one unit; detail is compared as the mean of the colours, locally, among pixels of `where`
    (H, W) alone, and the noise is 0 elsewhere: what is copied from the original must neither change nor count. Where
    `new` has more detail than `old` there is no noise.
    """
    side = max(3, round(WINDOW * max(where.shape)))
    counted = where.astype(np.float32)
    share = _smooth(counted, side)
    lacks = _smooth((_detail(old) ** 2 - _detail(new) ** 2) * counted, side) / np.maximum(share, 1e-3)
    noise = _detail(rng.standard_normal((1, *where.shape), dtype=np.float32))
    strength = np.sqrt(np.maximum(lacks, 0) / noise.var())
    return np.where(where, strength * noise, 0).astype(np.float32)


def _detail(colours: Colours) -> NDArray[np.float32]:
    grey = colours.mean(axis=0, dtype=np.float32)
    return np.asarray(grey - gaussian_filter(grey, FINEST))


def _smooth(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The mean of the neighbourhood, twice, so that it begins and ends softly; its cost does not grow with `side`."""
    return np.asarray(uniform_filter(uniform_filter(values, side), side))
