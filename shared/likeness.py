"""What a picture looks like from afar, small enough to be compared with a hundred thousand others.

A likeness is a grey picture of 16 x 16 pixels with its mean taken away, in 256 signed bytes. Neither exposure nor
contrast counts in it, nor what a 16-bit image calls white.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16

Rows = NDArray[np.float32]
"""(n, SIDE * SIDE): likenesses of length 1, or 0 where a picture is flat."""


def likeness(image: Image.Image) -> bytes:
    """Of an image in any mode of `shared.images`; all zeros if it is flat."""
    grey = image.convert("L") if image.mode != "I;16" else Image.fromarray(np.asarray(image).astype(np.float32))
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0), dtype=np.float32)
    centred = small - small.mean()
    largest = float(np.abs(centred).max())
    # Rounding to bytes would make a picture of the noise of a flat one.
    signed: NDArray[np.int8] = np.rint(centred * (127 / largest) if largest > 0.5 else 0 * centred).astype(np.int8)
    return signed.tobytes()


def rows(likenesses: Sequence[bytes]) -> Rows:
    """Likenesses as rows that can be compared."""
    signed = np.frombuffer(b"".join(likenesses), dtype=np.int8).reshape(-1, SIDE * SIDE).astype(np.float32)
    length = np.linalg.norm(signed, axis=1, keepdims=True)
    return np.asarray(signed / np.maximum(length, 1))


def distances(one: bytes, others: Rows) -> NDArray[np.float32]:
    """From one picture to each of some: 0 is the same, 1 nothing in common, 2 the negative."""
    return np.asarray(np.maximum(1 - others @ rows([one])[0], 0))
