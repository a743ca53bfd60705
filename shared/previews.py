"""Small pictures of originals, for people to look at: JPEGs, never larger than the original.

That of the usual size is made when an original is checked, from the pixels that are decoded anyway, and kept beside it.
It can always be made anew.
"""

from collections.abc import Sequence
from io import BytesIO

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

_QUALITY = 85
_COLOURS = ("#ffb000", "#00c2ff", "#ff4d6d", "#7ddf64", "#c38bff", "#ff8a3d", "#3ddbb8", "#f7f052")


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
