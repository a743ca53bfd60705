"""The pictures of a training: checked, put on squares, and some of them held out."""

import hashlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from shared import images
from shared.recipes import MIN_PICTURES, MULTIPLE, TrainingSettings
from worker.training.errors import CannotTrain

Loader = Callable[[], Image.Image]
Classes = tuple[str, ...]

LARGEST_SIDE = 320
"""Of the larger square where nothing is said: beyond it, memory (0.4 MB a picture at this side) outgrows what its
detail teaches."""
NATIVE_SIDE = 128
HELD_OUT = 0.05
LEAST_HELD_OUT = 2

_BLOCKS = 8
"""A square is hidden in blocks of this part of its side."""
_OPAQUE = 0.98
"""Alpha on the scale from -1 to 1: at edges of what is hidden, scaling mixes it into its neighbours."""

_CONTRAST = 2.0
"""In grey levels: a picture whose pixels differ by less, as their standard deviation, is empty."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures on squares: `large` (N, 3, S, S) for the autoencoder and `native` (N, 3, s, s) for the denoiser.

    Values are 0 .. 255. `known_large` (N, S, S) and `known_native` (N, s, s) are True where a pixel may be learned;
    elsewhere it has the value of the nearest one that may, and what was there is nowhere in memory. `digests` are of
    the pixels as they were given. Rows of `held_out` are never trained on.
    """

    large: NDArray[np.uint8]
    native: NDArray[np.uint8]
    known_large: NDArray[np.bool_]
    known_native: NDArray[np.bool_]
    digests: tuple[str, ...]
    held_out: NDArray[np.bool_]
    classes: tuple[Classes, ...] = ()
    """Of each picture what it shows, where that is to be learned by name."""

    @property
    def combinations(self) -> list[Classes]:
        """What pictures show together, each once."""
        return sorted(set(self.classes))

    @property
    def digest(self) -> str:
        """One hash of all the pictures, whatever their order."""
        return hashlib.sha256("\n".join(sorted(self.digests)).encode()).hexdigest()


def read(
    loaders: Sequence[Loader],
    settings: TrainingSettings,
    native: int = NATIVE_SIDE,
    classes: Sequence[Classes] | None = None,
) -> Pictures:
    """Decode, check and place all pictures, sorted by digest, so that their order is no matter.

    `native` is the most that the denoiser's side is where the settings leave it open. Equal pictures count once. Of
    `classes`, what each picture shows, the recipe textual_inversion learns; it leaves out those that show none.
    Raises CannotTrain for too few pictures, one smaller than the crop, or no contrast in any; what a loader raises
    passes through.
    """
    shown = dict(enumerate(classes or [], start=1)) if settings.recipe == "textual_inversion" else None
    sizes, found, named = [], {}, {}
    for number, load in enumerate(loaders, start=1):
        if shown is not None and not shown.get(number):
            continue
        picture = load()
        if max(picture.size) < settings.crop:
            raise CannotTrain(
                f"Picture {number} of {len(loaders)} is {picture.width} x {picture.height}, smaller than the crop of "
                f"{settings.crop} px. Leave it out, or train with a smaller crop."
            )
        sizes.append(max(picture.size))
        digest = _digest(picture)
        found[digest] = load
        if shown is not None:
            named[digest] = tuple(sorted(set(shown[number])))
    if shown is not None and len(found) < MIN_PICTURES:
        raise CannotTrain(
            f"{len(found)} different pictures show a labelled class, too few to learn words from; {MIN_PICTURES} are "
            "needed."
        )
    if len(found) < MIN_PICTURES:
        raise CannotTrain(f"{len(found)} different pictures are too few to train on; {MIN_PICTURES} are needed.")
    large_side, native_side = sides(sizes, settings, native)
    digests = tuple(sorted(found))
    squares = [np.empty((len(digests), 3, side, side), np.uint8) for side in (large_side, native_side)]
    known = [np.ones((len(digests), side, side), np.bool_) for side in (large_side, native_side)]
    for row, digest in enumerate(digests):
        picture = found[digest]()
        for square, area in zip(squares, known, strict=True):
            square[row] = _on_square(picture, square.shape[-1])
            if settings.recipe == "ambient":
                area[row] = _known(picture, square.shape[-1], settings.hidden, digest)
                square[row] = _filled(square[row], area[row])
    if squares[0].reshape(len(digests), -1).std(axis=1).max() < _CONTRAST:
        raise CannotTrain("No picture has any contrast: all of them are empty.")
    held_out = np.zeros(len(digests), np.bool_)
    held_out[: max(LEAST_HELD_OUT, round(HELD_OUT * len(digests)))] = True
    kept = tuple(named[digest] for digest in digests) if shown is not None else ()
    return Pictures(squares[0], squares[1], known[0], known[1], digests, held_out, kept)


def sides(long_sides: Sequence[int], settings: TrainingSettings, native: int = NATIVE_SIDE) -> tuple[int, int]:
    """The sides of both squares, as asked for or else from the pictures' long sides. Raises CannotTrain."""
    if settings.adapts:  # the autoencoder is not trained, so its pictures need be no larger
        side = settings.denoiser_side or native
        return settings.image_side or side, side
    median = round(statistics.median(long_sides) / MULTIPLE) * MULTIPLE
    large = settings.image_side or max(settings.crop, min(median, LARGEST_SIDE))
    small = settings.denoiser_side or min(large, native)
    if small > large:
        raise CannotTrain(f"The denoiser's side of {small} px is larger than the autoencoder's of {large} px.")
    return large, small


def _digest(picture: Image.Image) -> str:
    header = f"{picture.mode} {picture.width} {picture.height}\n".encode()
    return hashlib.sha256(header + picture.tobytes()).hexdigest()


def _on_square(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    white = images.window(int(np.asarray(picture).max())) if picture.mode == "I;16" else 255
    x = images.to_canvas(picture, images.place(*picture.size, side, MULTIPLE), white)
    values: NDArray[np.uint8] = np.rint((x + 1) * 127.5).astype(np.uint8)
    return values


def _known(picture: Image.Image, side: int, hidden: float, digest: str) -> NDArray[np.bool_]:
    """(side, side): where the square shows what is opaque, less `hidden` of its blocks, always the same ones."""
    placement = images.place(*picture.size, side, MULTIPLE)
    if "A" in picture.mode:
        alpha = images.to_canvas(picture.getchannel("A"), placement)[0]
        known: NDArray[np.bool_] = alpha > _OPAQUE
        p = placement
        inside = np.zeros_like(known)
        inside[p.top : p.top + p.height, p.left : p.left + p.width] = True
        known |= ~inside  # padding is black for all to see
    else:
        known = np.ones((side, side), np.bool_)
    order = np.random.default_rng(int(digest[:16], 16)).permutation(_BLOCKS**2)
    kept = (order >= round(hidden * _BLOCKS**2)).reshape(_BLOCKS, _BLOCKS)
    known &= kept.repeat(side // _BLOCKS, axis=0).repeat(side // _BLOCKS, axis=1)
    if not known.any():
        raise CannotTrain("A picture is hidden completely. Leave it out, or hide a smaller share.")
    return known


def _filled(square: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The square with each unknown pixel as the nearest known one."""
    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled: NDArray[np.uint8] = square[:, rows, columns]
    return filled
