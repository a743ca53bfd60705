"""The pictures of a training: checked, put on squares, and some of them held out."""

import hashlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared import images
from shared.recipes import MIN_PICTURES, MULTIPLE, TrainingSettings
from worker.training.errors import CannotTrain

Loader = Callable[[], Image.Image]

LARGEST_SIDE = 192
NATIVE_SIDE = 128
HELD_OUT = 0.05
LEAST_HELD_OUT = 2

_CONTRAST = 2.0
"""In grey levels: a picture whose pixels differ by less, as their standard deviation, is empty."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures on squares of two sides: `large` (N, 3, S, S) for the autoencoder, `native` (N, 3, s, s) for the denoiser.

    All are 0 .. 255. `digests` are of the pixels as they were given. Rows of `held_out` are never trained on.
    """

    large: NDArray[np.uint8]
    native: NDArray[np.uint8]
    digests: tuple[str, ...]
    held_out: NDArray[np.bool_]

    @property
    def digest(self) -> str:
        """One hash of all the pictures, whatever their order."""
        return hashlib.sha256("\n".join(sorted(self.digests)).encode()).hexdigest()


def read(loaders: Sequence[Loader], settings: TrainingSettings) -> Pictures:
    """Decode, check and place all pictures, sorted by digest, so that their order is no matter.

    Equal pictures count once. Raises CannotTrain for too few pictures, one smaller than the crop, or no contrast in
    any; what a loader raises passes through.
    """
    sizes, found = [], {}
    for number, load in enumerate(loaders, start=1):
        picture = load()
        if max(picture.size) < settings.crop:
            raise CannotTrain(
                f"Picture {number} of {len(loaders)} is {picture.width} x {picture.height}, smaller than the crop of "
                f"{settings.crop} px. Leave it out, or train with a smaller crop."
            )
        sizes.append(max(picture.size))
        found[_digest(picture)] = load
    if len(found) < MIN_PICTURES:
        raise CannotTrain(f"{len(found)} different pictures are too few to train on; {MIN_PICTURES} are needed.")
    large_side, native_side = sides(sizes, settings)
    digests = tuple(sorted(found))
    large, native = (np.empty((len(digests), 3, side, side), np.uint8) for side in (large_side, native_side))
    for row, digest in enumerate(digests):
        picture = found[digest]()
        large[row], native[row] = (_on_square(picture, side) for side in (large_side, native_side))
    if large.reshape(len(large), -1).std(axis=1).max() < _CONTRAST:
        raise CannotTrain("No picture has any contrast: all of them are empty.")
    held_out = np.zeros(len(digests), np.bool_)
    held_out[: max(LEAST_HELD_OUT, round(HELD_OUT * len(digests)))] = True
    return Pictures(large, native, digests, held_out)


def sides(long_sides: Sequence[int], settings: TrainingSettings) -> tuple[int, int]:
    """The sides of both squares, as asked for or else from the pictures' long sides."""
    median = round(statistics.median(long_sides) / MULTIPLE) * MULTIPLE
    large = settings.image_side or max(settings.crop, min(median, LARGEST_SIDE))
    return large, settings.denoiser_side or min(large, NATIVE_SIDE)


def _digest(picture: Image.Image) -> str:
    header = f"{picture.mode} {picture.width} {picture.height}\n".encode()
    return hashlib.sha256(header + picture.tobytes()).hexdigest()


def _on_square(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    white = images.window(int(np.asarray(picture).max())) if picture.mode == "I;16" else 255
    x = images.to_canvas(picture, images.place(*picture.size, side, MULTIPLE), white)
    return np.rint((x + 1) * 127.5).astype(np.uint8)
