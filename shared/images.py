"""Images from strangers: opened safely, put on the model's canvas and back at their own size, depth and mode.

An open image is in one of five modes: L and RGB, the same with alpha (LA, RGBA), and I;16 (16-bit grey). Alpha is
never shown to the model: it is put back, unchanged, on what comes out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.ndimage import distance_transform_edt

from shared.errors import BadImage, Invalid

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485
"""Pillow's own limit, about 9,400 pixels square: a quarter of a gigabyte as RGB."""

_STRIP = 512
_COLOURS = {"L": 1, "LA": 1, "I;16": 1, "RGB": 3, "RGBA": 3}
_WRITERS: dict[str, tuple[frozenset[str], dict[str, Any]]] = {
    "JPEG": (frozenset({"L", "RGB"}), {"quality": 95, "subsampling": 0}),
    "PNG": (frozenset(_COLOURS), {}),
    "BMP": (frozenset({"L", "RGB"}), {}),
    "TIFF": (frozenset(_COLOURS), {"compression": "tiff_deflate"}),
    "WEBP": (frozenset({"L", "LA", "RGB", "RGBA"}), {"lossless": True, "exact": True}),
}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies on its canvas, in pixels: the inner rectangle is `height` x `width` at (`top`, `left`)."""

    canvas_height: int
    canvas_width: int
    top: int
    left: int
    height: int
    width: int
    source_height: int
    source_width: int


def place(width: int, height: int, long_side: int, multiple: int) -> Placement:
    """Scale a `width` x `height` picture to `long_side`, aspect kept, in the middle of a square canvas.

    The canvas' side is the next multiple of `multiple`. Square, since priors are trained on (padded) squares: on a
    narrower canvas one paints the dark bands it expects into the picture.
    """
    if min(width, height, long_side, multiple) < 1:
        raise ValueError(f"sizes are at least 1, not {width} x {height} at {long_side} in multiples of {multiple}")
    scale = long_side / max(width, height)
    inner_width, inner_height = (max(1, round(side * scale)) for side in (width, height))
    side = math.ceil(long_side / multiple) * multiple
    return Placement(
        canvas_height=side,
        canvas_width=side,
        top=(side - inner_height) // 2,
        left=(side - inner_width) // 2,
        height=inner_height,
        width=inner_width,
        source_height=height,
        source_width=width,
    )


@dataclass(frozen=True, slots=True)
class Examined:
    """An image that was decoded once to be judged: as `open_image` gives it with this `upright`; `metadata` says what
    it tells beside its pixels: some of exif, xmp and text."""

    image: Image.Image
    upright: bool
    metadata: frozenset[str]


def examine(
    data: bytes,
    name: str,
    max_pixels: int = MAX_PIXELS,
    declared: tuple[int, int] | None = None,
    declared_in: str = "its labels",
) -> Examined:
    """Decode an untrusted image, and decide by its `declared` width and height whether EXIF turns it.

    Labels are shares of the picture that whoever made them saw. If the size they declare is that of the pixels as they
    are stored, and not that of the upright picture, EXIF was not heeded. A size that tells nothing, as of a square or
    a picture turned by half, counts as upright.

    Raises BadImage as `open_image` does, and where the size is neither.
    """
    stored = _decoded(data, name, max_pixels)
    upright = _turned(stored, name)
    metadata = frozenset(kind for kind, holds in _METADATA.items() if holds(stored))
    if declared is None or declared == upright.size:
        return Examined(_in_known_mode(upright, stored, name), True, metadata)
    if declared == stored.size:
        return Examined(_in_known_mode(stored, stored, name), False, metadata)
    sizes = " x ".join(map(str, declared)), " x ".join(map(str, upright.size))
    raise BadImage(f"{name}: has {sizes[1]} pixels, and in {declared_in} it has {sizes[0]}")


def count_pixels(data: bytes) -> int:
    """How many pixels an untrusted image says that it has; 0 if it cannot be read. Nothing is decoded."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            return image.width * image.height
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (given hostile bytes, a parser raises whatever it likes)
        return 0


def open_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS, *, upright: bool = True) -> Image.Image:
    """Decode an untrusted image completely, and unless `upright` is refused turn it as EXIF says, as viewers and
    detectors see it.

    Kept: L, LA, RGB, RGBA and I;16. Converted: bilevel to L; palette to RGB, or RGBA where it has transparency; a
    transparent colour to an alpha channel; other colour spaces to RGB; big-endian 16 bit to I;16, and 32-bit
    integers too if they fit. Pillow itself reads colour of 16 bits a channel as 8. `format` is one of FORMATS.

    Raises BadImage, whose detail begins with `name`, for anything else: an unknown format, more than `max_pixels`
    (decided from the header, before decoding, and never more than Pillow's own limit), a cut or damaged file, several
    pictures in one file, floating-point pixels.
    """
    stored = _decoded(data, name, max_pixels)
    return _in_known_mode(_turned(stored, name) if upright else stored, stored, name)


# Tags that say how a TIFF's pixels are stored; Pillow gives them as EXIF too.
_LAYOUT_TAGS = frozenset(
    {254, 255, *range(256, 260), 262, 266, 273, *range(277, 285), 296, 317, 320, *range(322, 326), 338, 339}
)
_METADATA: dict[str, Callable[[Image.Image], bool]] = {
    "exif": lambda image: bool(set(image.getexif()) - _LAYOUT_TAGS),
    "xmp": lambda image: bool(image.info.keys() & {"xmp", "XML:com.adobe.xmp"}),
    "text": lambda image: "comment" in image.info or bool(getattr(image, "text", {}).keys() - {"XML:com.adobe.xmp"}),
}


def _decoded(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """The pixels as they are stored."""
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"{name}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # given hostile bytes, a parser raises whatever it likes
        raise BadImage(f"{name}: not a readable JPEG, PNG, BMP, TIFF or WebP image") from error
    limit = min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels)
    if image.width * image.height > limit:
        raise BadImage(f"{name}: {image.width} x {image.height} pixels; the limit is {limit:,}")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise BadImage(f"{name}: holds several pictures (an animation or pages); save the one you mean as a file")
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise BadImage(f"{name}: damaged or cut off ({error})") from error
    return image


def _turned(image: Image.Image, name: str) -> Image.Image:
    """The picture as EXIF says that it is to be held."""
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise BadImage(f"{name}: damaged or cut off ({error})") from error


def _in_known_mode(image: Image.Image, stored: Image.Image, name: str) -> Image.Image:
    result = _converted(image, name)
    # Phones add a preview to a JPEG and call it MPO; every JPEG reader sees the first picture only, and so do we.
    result.format = "JPEG" if stored.format == "MPO" else stored.format
    return result


def _converted(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise BadImage(f"{name}: 32-bit values from {values.min()} to {values.max()}; save it as 8 or 16 bit")
        return Image.fromarray(values.astype("<u2"))
    if image.mode == "F":
        raise BadImage(f"{name}: floating-point pixels; save it as 8 or 16 bit")
    if image.mode == "1":
        image = image.convert("L")
    grey = image.mode in {"L", "LA", "La"}
    if image.has_transparency_data:
        return image.convert("LA" if grey else "RGBA")
    return image.convert("L" if grey else "RGB")


def window(maximum: int) -> int:
    """The smallest 2^k - 1 that is at least `maximum`: `white` for 16-bit images, of which many hold 10 or 12 bits."""
    return (1 << max(1, maximum.bit_length())) - 1


def to_canvas(image: Image.Image, placement: Placement, white: int = 255) -> NDArray[np.float32]:
    """The image as float32 (3, canvas_height, canvas_width) in [-1, 1]: black is -1, `white` is +1, padding is black.

    Resized in floating point with antialiasing, clamped; grey is repeated on the three channels.
    """
    if image.size != (placement.source_width, placement.source_height):
        raise ValueError(f"the placement is for {placement.source_width} x {placement.source_height}, not {image.size}")
    p = placement
    canvas = np.full((3, p.canvas_height, p.canvas_width), -1, dtype=np.float32)
    planes = _resize(colours(image), p.width, p.height)
    canvas[:, p.top : p.top + p.height, p.left : p.left + p.width] = np.clip(planes * (2 / white) - 1, -1, 1)
    return canvas


def from_canvas(x: NDArray[np.float32], placement: Placement, like: Image.Image, white: int = 255) -> Image.Image:
    """The picture on canvas `x` (3, canvas_height, canvas_width) in [-1, 1], at the size and in the mode of `like`.

    The inverse of `to_canvas`: resized with antialiasing, clamped to [0, `white`], rounded. Grey is the mean of the
    channels; alpha is that of `like`.
    """
    p = placement
    planes = x[:, p.top : p.top + p.height, p.left : p.left + p.width].astype(np.float32)
    if _COLOURS[like.mode] == 1:
        planes = planes.mean(axis=0, keepdims=True)
    values = np.rint(np.clip((_resize(planes, *like.size) + 1) * (white / 2), 0, white))
    pixels = np.array(like)
    pixels.reshape(like.height, like.width, -1)[:, :, : len(values)] = np.moveaxis(values, 0, 2)
    return Image.fromarray(pixels)


def shown(image: Image.Image, white: int = 255) -> Image.Image:
    """The image as people look at it: 8-bit RGB without alpha, 16-bit grey from black to `white`."""
    if image.mode == "I;16":
        image = Image.fromarray(np.clip(np.asarray(image) * (255 / white), 0, 255).astype(np.uint8))
    return image.convert("RGB")


def colours(image: Image.Image) -> NDArray[np.float32]:
    """(1 or 3, H, W) without alpha, in grey levels."""
    pixels = np.asarray(image).reshape(image.height, image.width, -1)[:, :, : _COLOURS[image.mode]]
    return np.moveaxis(pixels, 2, 0).astype(np.float32)


def with_noise(image: Image.Image, noise: NDArray[np.float32], white: int = 255) -> Image.Image:
    """`image` with `noise` (height, width), in grey levels, added to each colour, clamped to [0, `white`] and rounded.

    Alpha stays, and so does every pixel where the noise is 0.
    """
    pixels = np.array(image)
    planes = pixels.reshape(image.height, image.width, -1)[:, :, : _COLOURS[image.mode]]
    changed = noise != 0
    planes[changed] = np.rint(np.clip(planes[changed] + noise[changed][:, None], 0, white))
    return Image.fromarray(pixels)


def _resize(planes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    resized = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
        for plane in np.ascontiguousarray(planes)
    ]
    return np.stack(resized)


def paste(result: Image.Image, original: Image.Image, area: NDArray[np.bool_], feather: float = 0) -> Image.Image:
    """`result` with the pixels of `area` (height, width) copied from `original` as integers.

    Over `feather` pixels around them, and never inside, the original fades linearly into the result, whose share
    reaches one at `feather` + 1. Both images have one size and mode, any of the five.
    """
    if (result.size, result.mode) != (original.size, original.mode):
        raise ValueError(f"a {original.mode} {original.size} cannot be pasted into a {result.mode} {result.size}")
    pixels, source = np.array(result), np.asarray(original)
    reach = math.ceil(feather) + 1
    # Strip by strip, because distances take 20 bytes a pixel.
    for top in range(0, result.height, _STRIP):
        end = min(top + _STRIP, result.height)
        first = max(top - reach, 0)
        near = area[first : end + reach]
        if not near.any():
            continue
        distance = distance_transform_edt(~near)[top - first : end - first]
        touched = distance < feather + 1
        w = (1 - distance[touched] / (feather + 1)).reshape(-1, *[1] * (pixels.ndim - 2))
        strip = pixels[top:end]
        strip[touched] = np.rint(w * source[top:end][touched] + (1 - w) * strip[touched])
    return Image.fromarray(pixels)


def mask_on_canvas(mask: Image.Image, placement: Placement) -> NDArray[np.bool_]:
    """An uploaded mask image of any size as a (canvas_height, canvas_width) area: bright is True, padding is not.

    Stretched to the picture's place with the nearest pixel; bright is the upper half of what the mode can hold.
    """
    p = placement
    picture = np.asarray(_grey(mask).resize((p.width, p.height), Image.Resampling.NEAREST)) >= 128
    area = np.zeros((p.canvas_height, p.canvas_width), dtype=np.bool_)
    area[p.top : p.top + p.height, p.left : p.left + p.width] = picture
    return area


def is_plain(mask: Image.Image) -> bool:
    """Whether an uploaded mask image is bright everywhere, or nowhere: nothing can be made with either."""
    bright = np.asarray(_grey(mask)) >= 128
    return bool(bright.all() or not bright.any())


def _grey(mask: Image.Image) -> Image.Image:
    """A mask image in 8 bits."""
    return Image.fromarray((np.asarray(mask) >> 8).astype(np.uint8)) if mask.mode == "I;16" else mask.convert("L")


def at_source_size(area: NDArray[np.bool_], placement: Placement) -> NDArray[np.bool_]:
    """What `area` says of the picture, stretched to (source_height, source_width) with the nearest pixel."""
    p = placement
    picture = Image.fromarray(area[p.top : p.top + p.height, p.left : p.left + p.width])
    return np.asarray(picture.resize((p.source_width, p.source_height), Image.Resampling.NEAREST))


def can_hold(image_format: str, mode: str) -> bool:
    """Whether files of one of FORMATS can hold images of a mode."""
    return mode in _WRITERS[image_format][0]


def encode(image: Image.Image, image_format: str) -> bytes:
    """The image as a file of one of FORMATS, pixels only: no EXIF, XMP, colour profile or text; deterministic.

    JPEG has quality 95 and full chroma; the rest is lossless. WebP has no grey: it reads back as RGB.
    Raises Invalid where the format cannot hold the image's mode (16 bit or alpha in a JPEG) or size.
    """
    if not can_hold(image_format, image.mode):
        raise Invalid(f"{image_format} cannot hold an image of mode {image.mode}; choose PNG")
    _, options = _WRITERS[image_format]
    # Pillow writes what it finds in `info`: a copy of the pixels alone has nothing to write.
    bare = Image.frombytes(image.mode, image.size, image.tobytes())
    out = BytesIO()
    try:
        bare.save(out, format=image_format, **options)
    except (OSError, ValueError) as error:  # such as a side longer than the format's 65,535
        raise Invalid(f"{image_format} cannot hold an image of {image.width} x {image.height}: {error}") from error
    return out.getvalue()
