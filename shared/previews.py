"""Small pictures of originals and of what was made of them, for people to look at: never larger than the original.

That of an original in the usual size is made when it is checked, from the pixels that are decoded anyway, and kept
beside it. It can always be made anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from shared import images
from shared.errors import BadImage
from shared.storage import Storage, preview_key, source_key

LONG_SIDE = 256
"""Pixels of the usual size."""
LARGEST = 2048

VERSION = 1
"""Of what is drawn: a new one tells browsers that a picture they have is not that of today."""

_Boxes = Sequence[Sequence[float]]
_Outlines = Sequence[Sequence[float] | None]

AMPLIFIED = 4
"""By how much a difference is amplified, unless asked otherwise."""

_QUALITY = 85
_GAP = 4
_COLOURS = ("#ffb000", "#00c2ff", "#ff4d6d", "#7ddf64", "#c38bff", "#ff8a3d", "#3ddbb8", "#f7f052")


@dataclass(frozen=True, slots=True)
class Made:
    """A new image and its source, as they lie in storage; the rest as `draw` takes it."""

    key: str
    source_sha256: str
    path: str
    upright: bool
    white: int
    labels: tuple[_Boxes, _Outlines]


def make(image: Image.Image) -> bytes | None:
    """The picture to keep of an opened image; None of 16 bits, whose white is not known before all are read."""
    if image.mode == "I;16":
        return None
    return _jpeg(_small(image if image.mode == "L" else image.convert("RGB"), LONG_SIDE))


def draw(
    storage: Storage,
    image_sha256: str,
    name: str,
    long_side: int,
    labels: tuple[_Boxes, _Outlines] = ((), ()),
    *,
    upright: bool,
    white: int,
) -> bytes:
    """A picture of at most `long_side` pixels, with `labels`, boxes and outlines as in `models.Image`, drawn on it.

    Raises FileNotFoundError if the original is needed and gone, BadImage if it cannot be decoded.
    """
    boxes, outlines = labels
    kept = _kept(storage, preview_key(image_sha256, upright=upright), name) if long_side <= LONG_SIDE else None
    if kept is not None and long_side == LONG_SIDE and not boxes:
        return kept[0]
    if kept is not None:
        picture = kept[1]
    else:
        original = images.open_image(storage.read(source_key(image_sha256)), name, upright=upright)
        picture = images.shown(original, white)
    small = _small(picture, long_side)
    return _jpeg(_labelled(small, boxes, outlines) if boxes else small)


def variant(storage: Storage, made: Made, long_side: int, *, labels: bool = False) -> bytes:
    """A JPEG of a new image, as `draw` makes it of an original."""
    return _jpeg(_shown(_opened(storage, made), made, long_side, labels=labels))


def original(storage: Storage, made: Made, long_side: int, *, labels: bool = False) -> bytes:
    """A JPEG of the source, made in every way as `variant` makes that of the new image."""
    return _jpeg(_shown(_source(storage, made), made, long_side, labels=labels))


def pair(storage: Storage, made: Made, long_side: int, *, labels: bool = False) -> bytes:
    """A JPEG of the source and, to its right, the new image, each at most `long_side` pixels long."""
    sides = [_shown(each, made, long_side, labels=labels) for each in (_source(storage, made), _opened(storage, made))]
    (left, right), height = sides, sides[0].height
    both = Image.new("RGB", (left.width + _GAP + right.width, height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + _GAP, 0))
    return _jpeg(both)


def difference(storage: Storage, made: Made, long_side: int | None = None, factor: float = AMPLIFIED) -> Image.Image:
    """Where a new image differs from its source, as a grey picture: black where it does not, white where the mean of
    the colours' differences is a `factor`-th of white or more. At the source's size, or at most `long_side` long."""
    old, new = (images.colours(each) for each in (_source(storage, made), _opened(storage, made)))
    levels = np.abs(new - old).mean(axis=0) * (255 * factor / made.white)
    picture = Image.fromarray(np.clip(np.ceil(levels), 0, 255).astype(np.uint8))
    return picture if long_side is None else _small(picture, long_side)


def _opened(storage: Storage, made: Made) -> Image.Image:
    return images.open_image(storage.read(made.key), made.path)


def _source(storage: Storage, made: Made) -> Image.Image:
    return images.open_image(storage.read(source_key(made.source_sha256)), made.path, upright=made.upright)


def _shown(image: Image.Image, made: Made, long_side: int, *, labels: bool) -> Image.Image:
    small = _small(images.shown(image, made.white), long_side)
    return _labelled(small, *made.labels) if labels else small


def _kept(storage: Storage, key: str, name: str) -> tuple[bytes, Image.Image] | None:
    try:
        data = storage.read(key)
        return data, images.open_image(data, name)
    except (FileNotFoundError, BadImage):
        return None


def _small(picture: Image.Image, long_side: int) -> Image.Image:
    scale = long_side / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    # Halved by whole pixels first: a third of the time, and nobody sees it.
    return picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0)


def _labelled(picture: Image.Image, boxes: _Boxes, outlines: _Outlines) -> Image.Image:
    picture = picture.convert("RGB")
    drawing = ImageDraw.Draw(picture)
    sides = picture.width - 1, picture.height - 1
    line = max(1, max(picture.size) // 256)
    for number, (index, *corners) in enumerate(boxes):
        outline = outlines[number] if number < len(outlines) else None
        colour = _COLOURS[int(index) % len(_COLOURS)]
        if outline is None:
            drawing.rectangle([value * sides[k % 2] for k, value in enumerate(corners)], outline=colour, width=line)
        else:
            drawing.polygon([value * sides[k % 2] for k, value in enumerate(outline)], outline=colour, width=line)
    return picture


def _jpeg(picture: Image.Image) -> bytes:
    out = BytesIO()
    # Without what the original tells of itself beside its pixels.
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
