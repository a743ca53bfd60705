"""A contact sheet: what went in, what was hidden, what came out and where it differs, for many images at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

DIFFERENCE_FACTOR = 4
_COLUMNS = ("original", "mask: hidden in blue", "regrown", f"difference x {DIFFERENCE_FACTOR}")
_BACKGROUND, _INK, _TITLE = (24, 24, 26), (225, 225, 225), (160, 160, 165)
_HIDDEN, _BOX = (62, 92, 148), (255, 196, 0)
_MARGIN = 12


@dataclass(frozen=True, slots=True)
class Row:
    """One image of the sheet. `mask` is white where the original was kept; `boxes` are x0, y0, x1, y1 as shares.

    The pictures may differ in size: `mask` and `regrown` are stretched to `original`.
    """

    original: Image.Image
    mask: Image.Image
    regrown: Image.Image
    boxes: Sequence[tuple[float, float, float, float]]
    title: str


@dataclass(frozen=True, slots=True)
class Tried:
    """The same of an image that was regrown in several ways."""

    original: Image.Image
    mask: Image.Image
    regrown: Sequence[Image.Image]
    boxes: Sequence[tuple[float, float, float, float]]
    title: str


def contact_sheet(rows: Sequence[Row], cell: int = 256) -> Image.Image:
    """An RGB picture with a heading and, for each row, a title and four pictures that fit `cell` x `cell` pixels.

    16-bit pictures are shown from black to the brightest value of their original.
    """
    return _sheet(_COLUMNS, [(row.title, _pictures(row, cell)) for row in rows], cell)


def pilot_sheet(rows: Sequence[Tried], names: Sequence[str], cell: int = 256) -> Image.Image:
    """The same with a column for each of the ways, which have `names`, and no difference."""
    bands = []
    for row in rows:
        each = [_pictures(Row(row.original, row.mask, image, row.boxes, row.title), cell) for image in row.regrown]
        bands.append((row.title, [*each[0][:2], *(pictures[2] for pictures in each)]))
    return _sheet((*_COLUMNS[:2], *names), bands, cell)


def _sheet(columns: Sequence[str], bands: Sequence[tuple[str, Sequence[Image.Image]]], cell: int) -> Image.Image:
    size = max(10, cell // 20)
    heading, small, line = ImageFont.load_default(round(1.3 * size)), ImageFont.load_default(size), round(1.8 * size)
    width = _MARGIN + len(columns) * (cell + _MARGIN)
    height = 2 * _MARGIN + line + sum(line + pictures[0].height + _MARGIN for _, pictures in bands)
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    lefts = range(_MARGIN, width, cell + _MARGIN)
    for left, name in zip(lefts, columns, strict=True):
        pen.text((left + cell / 2, _MARGIN), name, font=heading, fill=_INK, anchor="ma")
    y = 2 * _MARGIN + line
    for title, pictures in bands:
        pen.text((_MARGIN, y), _fitting(title, small, width - 2 * _MARGIN), font=small, fill=_TITLE, anchor="la")
        y += line
        for left, picture in zip(lefts, pictures, strict=True):
            sheet.paste(picture, (left + (cell - picture.width) // 2, y))
        y += pictures[0].height + _MARGIN
    return sheet


def _pictures(row: Row, cell: int) -> list[Image.Image]:
    """The four pictures of a row, all of one size."""
    brightest = _brightest(row.original)
    original, regrown = (_shown(image, brightest) for image in (row.original, row.regrown))
    regrown = regrown.resize(original.size, Image.Resampling.BICUBIC)
    kept = row.mask.convert("L").resize(original.size, Image.Resampling.NEAREST)
    tinted = Image.blend(original, Image.new("RGB", original.size, _HIDDEN), 0.75)
    difference = ImageChops.difference(original, regrown)
    pictures = [
        ImageOps.contain(picture, (cell, cell), Image.Resampling.BICUBIC)
        for picture in (original, Image.composite(original, tinted, kept), regrown, difference)
    ]
    for picture in pictures[:3]:
        _draw_boxes(picture, row.boxes)
    pictures[3] = pictures[3].point([min(255, DIFFERENCE_FACTOR * level) for level in range(256)] * 3)
    return pictures


def _brightest(image: Image.Image) -> float:
    if not image.mode.startswith("I"):
        return 255
    _, highest = cast("tuple[float, float]", image.getextrema())  # one channel: one pair
    return max(1, highest)


def _shown(image: Image.Image, brightest: float) -> Image.Image:
    """As 8-bit RGB, without alpha."""
    if image.mode.startswith("I"):
        image = image.convert("F").point(lambda level: level * (255 / brightest) + 0).convert("L")
    return image.convert("RGB")


def _draw_boxes(picture: Image.Image, boxes: Sequence[tuple[float, float, float, float]]) -> None:
    """Frames one pixel outside the boxes, so that nothing in them is covered."""
    pen = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in boxes:
        left, top = round(x0 * picture.width) - 1, round(y0 * picture.height) - 1
        pen.rectangle((left, top, round(x1 * picture.width), round(y1 * picture.height)), outline=_BOX)


def _fitting(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The title, its beginning left out if it is too long: the file name is at the end."""
    if font.getlength(title) <= width:
        return title
    start = next(cut for cut in range(len(title) + 1) if font.getlength("..." + title[cut:]) <= width)
    return "..." + title[start:]
