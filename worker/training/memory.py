"""How much a prior remembers: are its samples nearer to its training pictures than real new pictures are?

The space is fixed: pictures as 32 x 32 grey averages, in grey levels; the distance of two is the root of their mean
squared difference. It finds copies, mirrored ones too; it does not find copied details.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
PERCENTILE = 5
"""A sample is near if it is nearer to a training picture than this share, in %, of held-out pictures are."""


def check(
    samples: NDArray[np.uint8], training: NDArray[np.uint8], held_out: NDArray[np.uint8]
) -> dict[str, float | int]:
    """Numbers for a card, of pictures (N, 3, H, W): `near_share` is about 0.05 for a prior that copies nothing."""
    known = _small(np.concatenate([training, training[:, :, :, ::-1]]))
    ours, real = (nearest(_small(pictures), known) for pictures in (samples, held_out))
    limit = float(np.percentile(real, PERCENTILE))
    return {
        "samples": len(samples),
        "held_out": len(held_out),
        "near_share": float((ours < limit).mean()),
        "limit": limit,
        "median_of_samples": float(np.median(ours)),
        "median_of_held_out": float(np.median(real)),
    }


def nearest(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) distances of each of `some` (N, F) to the nearest of `others` (M, F)."""
    return np.array([np.sqrt(np.square(others - one).mean(axis=1).min()) for one in some])


def _small(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = pictures.mean(axis=1, dtype=np.float32)
    scaled = [np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BOX)).ravel() for one in grey]
    return np.stack(scaled)
