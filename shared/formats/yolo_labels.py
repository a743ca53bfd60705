"""The lines of a YOLO label file, as boxes."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from shared.formats.faults import Faults
from shared.formats.samples import Box

TOLERANCE = 1e-3
"""How far outside 0..1 a number may lie: what rounding to three digits does."""

MAX_CLASSES = 10_000
"""How many classes there can be where no list of names says it."""

MAX_LINE = 1_000_000
"""Characters of a line: an outline of fifty thousand points."""

MAX_LABELS = 100_000
"""Labels of one image."""

# float() would also take "nan", "1_0" and digits of other scripts. Digits are never given back (++): a long word that
# is nearly a number would take hours.
NUMBER = re.compile(r"[+-]?(\d++\.?\d*+|\.\d++)([eE][+-]?\d++)?", re.ASCII)
BOX_FIELDS = ("x centre", "y centre", "width", "height")


class BadLine(ValueError):
    """What is wrong in a line, in words."""


@dataclass(frozen=True, slots=True)
class LabelFile:
    """What one label file holds, and what trainers are known to stumble over."""

    boxes: tuple[Box, ...] = ()
    has_bom: bool = False
    has_confidence: bool = False
    mixes_polygons: bool = False
    counts: frozenset[int] = frozenset()
    """How many numbers its lines have."""


def kind(files: Iterable[LabelFile]) -> str:
    """What the labels of a set without key points are: decided for the set as a whole, never for a line.

    A polygon of four corners and an oriented box are both 9 numbers. Where a set has nothing else beside boxes, they
    are oriented boxes.
    """
    longer = frozenset[int]().union(*(file.counts for file in files)) - {5, 6}
    if not longer:
        return "boxes"
    return "oriented boxes" if longer == {9} else "polygons"


def parse(data: bytes, where: str, keypoint_numbers: int, classes: int | None, faults: Faults) -> LabelFile:
    """The boxes of one label file; each fault is added to `faults` under `where`:line.

    A line is a class index and then: 4 numbers, a box (centre, width, height); 5, a box and its confidence; 6 or more
    and even, a polygon or a turned rectangle: its corners are taken, and its bounding box, so that the two need not be
    told apart. With
    `keypoint_numbers` (pose sets) it is always 4 + keypoint_numbers; key points are only checked to be numbers, the
    box is the one that is written. `classes` is the number of classes, None if unknown.

    All numbers are shares of the image. Up to TOLERANCE outside 0..1 they pass. A box is clipped to the image without
    a fault, whether by rounding or because it hangs over the edge, unless nothing is left of it.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        faults.add(where, f"is not UTF-8 text (byte {e.start})")
        return LabelFile()
    boxes: list[Box] = []
    counts: set[int] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > MAX_LINE:
            faults.add(f"{where}:{number}", f"has {len(line)} characters; at most {MAX_LINE} are read")
            continue
        tokens = line.split()
        if not tokens:
            continue
        if len(boxes) == MAX_LABELS:
            faults.add(where, f"has more than {MAX_LABELS} labels")
            break
        counts.add(len(tokens))
        try:
            boxes.append(_box(tokens, keypoint_numbers, classes))
        except BadLine as e:
            faults.add(f"{where}:{number}", str(e))
    return LabelFile(
        boxes=tuple(boxes),
        has_bom=data.startswith(b"\xef\xbb\xbf"),
        has_confidence=not keypoint_numbers and 6 in counts,
        mixes_polygons=not keypoint_numbers and min(counts, default=0) < 7 <= max(counts, default=0),
        counts=frozenset(counts),
    )


def _box(tokens: list[str], keypoint_numbers: int, classes: int | None) -> Box:
    index = _class_index(tokens[0], classes)
    numbers = tokens[1:]
    if keypoint_numbers:
        if len(numbers) != 4 + keypoint_numbers:
            raise BadLine(f"has {len(tokens)} numbers; by kpt_shape in data.yaml it is {5 + keypoint_numbers}")
        for token in numbers[4:]:
            _number("key point", token)
        return _rectangle(index, numbers[:4])
    if len(numbers) in (4, 5):
        for token in numbers[4:]:
            _share("confidence", token)
        return _rectangle(index, numbers[:4])
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs = [_share(f"x of point {i}", token) for i, token in enumerate(numbers[0::2], start=1)]
        ys = [_share(f"y of point {i}", token) for i, token in enumerate(numbers[1::2], start=1)]
        points = (min(max(share, 0.0), 1.0) for point in zip(xs, ys, strict=True) for share in point)
        return replace(_clipped(index, (min(xs), min(ys), max(xs), max(ys))), outline=tuple(points))
    raise BadLine(f"has {len(tokens)} numbers; a box has 5 (6 with confidence), a polygon an odd number from 7 on")


def _class_index(token: str, classes: int | None) -> int:
    value = _number("class index", token)
    if value < 0 or not value.is_integer():
        raise BadLine(f"class index {token} is not a whole number from 0 on")
    if value >= (MAX_CLASSES if classes is None else classes):
        known = (
            f"data.yaml names {classes} classes, from 0" if classes is not None else "no data.yaml names the classes"
        )
        raise BadLine(f"class index {token} is too large: {known}")
    return int(value)


def _rectangle(index: int, tokens: list[str]) -> Box:
    x, y, width, height = (_share(what, token) for what, token in zip(BOX_FIELDS, tokens, strict=True))
    for what, token, value in (("width", tokens[2], width), ("height", tokens[3], height)):
        if value <= 0:
            raise BadLine(f"{what} {token} is not above 0")
    return _clipped(index, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))


def _clipped(index: int, corners: tuple[float, float, float, float]) -> Box:
    x0, y0, x1, y1 = (min(max(corner, 0.0), 1.0) for corner in corners)
    if x0 >= x1 or y0 >= y1:
        raise BadLine("covers no area of the image")
    return Box(index, x0, y0, x1, y1)


def _share(what: str, token: str) -> float:
    value = _number(what, token)
    if not -TOLERANCE <= value <= 1 + TOLERANCE:
        raise BadLine(f"{what} {token} is outside 0..1")
    return value


def _number(what: str, token: str) -> float:
    value = float(token) if NUMBER.fullmatch(token) else math.nan
    if not math.isfinite(value):
        raise BadLine(f"{what} {token[:40]!r} is not a finite number")
    return value
