"""One COCO document: its images, annotations and categories, checked."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.formats.faults import Faults, shown
from shared.formats.samples import MAX_SIDE, Box, Size

Id = int | str

TOLERANCE = 1.0
"""Pixels by which a box or a polygon may reach over the image's edge: what rounding does. It is clipped."""

MAX_CONTAINERS, MAX_VALUES = 8_000_000, 40_000_000
"""How many lists and objects, and how many values, a document may hold: in memory each is many times its bytes."""

LISTS = ("images", "annotations", "categories")


class BadRecord(ValueError):
    """What is wrong in a record: in which of its fields, "" for the whole, and in words."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(what)
        self.field, self.what = field, what


@dataclass(frozen=True, slots=True)
class Listed:
    """An image of a document: its record, those of its annotations, and their boxes with category ids as classes."""

    record: dict[str, Any]
    annotations: tuple[dict[str, Any], ...]
    boxes: tuple[tuple[Id, Box], ...]
    size: Size
    place: str


@dataclass(frozen=True, slots=True)
class Document:
    """`categories` are names by id, in the document's order; `frame` is the document with empty lists of images and
    annotations; `last` are the largest numbers among the ids of both, and `text` whether those are texts."""

    categories: Mapping[Id, str]
    images: tuple[Listed, ...]
    frame: dict[str, Any]
    last: dict[str, int]
    text: dict[str, bool]
    has_polygons: bool
    parts: int
    """Labels of several polygons, or of pixels."""


def load(data: bytes, where: str, faults: Faults) -> dict[str, Any] | None:
    """The JSON object in `data`; None, and a fault, if it is none."""
    containers, values = data.count(b"[") + data.count(b"{"), data.count(b",")
    if containers > MAX_CONTAINERS or values > MAX_VALUES:
        faults.add(where, f"holds {containers} lists and {values} values; {MAX_CONTAINERS} and {MAX_VALUES} are read")
        return None
    try:
        document = json.loads(data)
    except json.JSONDecodeError as e:
        faults.add(f"{where}:{e.lineno}", f"is no valid JSON ({e.msg}, column {e.colno})")
    except RecursionError:
        faults.add(where, "is nested too deeply")
    except ValueError as e:  # not UTF-8, or a number of thousands of digits
        faults.add(where, f"is no valid JSON ({shown(str(e))})")
    else:
        if isinstance(document, dict):
            return document
        faults.add(where, "is not a JSON object")
    return None


def is_coco(document: Mapping[str, Any]) -> bool:
    """Whether it has the lists of object labels; captions, for one, have no categories."""
    return all(isinstance(document.get(key), list) for key in LISTS)


def parse(document: dict[str, Any], where: str, faults: Faults) -> Document | None:
    """Check a document. Faults are added under `where`, with the place, such as annotations[17].bbox.

    A box or polygon up to TOLERANCE outside its image is clipped. Polygons of one part become outlines; labels of
    several parts, and those given as pixels (RLE), count by their box.
    """
    for key in LISTS:
        if not isinstance(document.get(key), list):
            faults.add(where, f"has no list of {key}")
            return None
    before = faults.count
    categories: dict[Id, str] = {}
    for place, record in _records(document, "categories", where, faults):
        with _At(place, faults):
            categories[_id(record, "id", categories)] = _name(record)
    sizes: dict[Id, Size] = {}
    of_image: dict[Id, tuple[str, dict[str, Any]]] = {}
    for place, record in _records(document, "images", where, faults):
        with _At(place, faults):
            number = _id(record, "id", sizes)
            sizes[number] = Size(_side(record, "width"), _side(record, "height"), place)
            of_image[number] = place, record
            if not isinstance(record.get("file_name"), str) or not record["file_name"]:
                raise BadRecord("file_name", "is no text" if "file_name" in record else "is missing")
    annotations: dict[Id, list[dict[str, Any]]] = {number: [] for number in of_image}
    boxes: dict[Id, list[tuple[Id, Box]]] = {number: [] for number in of_image}
    seen: dict[Id, str] = {}
    parts, polygons = 0, False
    for place, record in _records(document, "annotations", where, faults):
        with _At(place, faults):
            seen[_id(record, "id", seen)] = place
            image = _known(record, "image_id", sizes, "image")
            category = _known(record, "category_id", categories, "category")
            box = _box(record, sizes[image])
            parts += box.outline is None and bool(record.get("segmentation"))
            polygons |= box.outline is not None
            annotations[image].append(record)
            boxes[image].append((category, box))
    if faults.count > before:
        return None
    ids: dict[str, list[Id]] = {"images": list(of_image), "annotations": list(seen)}
    return Document(
        categories=categories,
        images=tuple(
            Listed(record, tuple(annotations[number]), tuple(boxes[number]), sizes[number], place)
            for number, (place, record) in of_image.items()
        ),
        frame=document | {"images": [], "annotations": []},
        last={key: max(map(_number, found), default=0) for key, found in ids.items()},
        text={key: bool(found) and all(isinstance(number, str) for number in found) for key, found in ids.items()},
        has_polygons=polygons,
        parts=parts,
    )


class _At:
    """What is wrong inside the block is a fault at `place`."""

    def __init__(self, place: str, faults: Faults) -> None:
        self._place, self._faults = place, faults

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, BadRecord):
            return False
        self._faults.add(f"{self._place}.{error.field}" if error.field else self._place, error.what)
        return True


def _records(document: Mapping[str, Any], key: str, where: str, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, record in enumerate(document[key]):
        place = f"{where}: {key}[{index}]"
        if not isinstance(record, dict):
            faults.add(place, "is not an object")
            continue
        try:
            json.dumps(record, allow_nan=False)
        except ValueError:
            # Its own fields say it better where they must be finite.
            if key != "annotations" or _finite(record.get("bbox")):
                faults.add(place, "holds NaN or an infinite number, which JSON cannot have")
                continue
        yield place, record


def _finite(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, int | float) and math.isfinite(_float(each)) for each in value
    )


def _id(record: Mapping[str, Any], key: str, taken: Mapping[Id, object]) -> Id:
    value = record.get(key)
    if value is None:
        raise BadRecord(key, "is missing")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadRecord(key, f"{shown(str(value))} is neither a whole number nor a text")
    if value in taken:
        raise BadRecord(key, f"{shown(str(value))} is there twice")
    return value


def _known(record: Mapping[str, Any], key: str, known: Mapping[Id, object], what: str) -> Id:
    value = record.get(key)
    if value is None:
        raise BadRecord(key, "is missing")
    if isinstance(value, bool) or not isinstance(value, int | str) or value not in known:
        raise BadRecord(key, f"there is no {what} {shown(str(value))}")
    return value


def _number(value: Id) -> int:
    if isinstance(value, int):
        return value
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0


def _name(record: Mapping[str, Any]) -> str:
    name = record.get("name")
    if not isinstance(name, str) or not name:
        raise BadRecord("name", "is no text" if name is not None else "is missing")
    if not name.isprintable():
        raise BadRecord("name", f"{shown(name)} holds a character that cannot be shown")
    return name


def _side(record: Mapping[str, Any], key: str) -> int:
    value = record.get(key)
    if value is None:
        raise BadRecord(key, "is missing")
    if not _finite([value]) or isinstance(value, bool) or not 0 < value <= MAX_SIDE or value != int(value):
        raise BadRecord(key, f"{shown(str(value))} is not a whole number from 1 on")
    return int(value)


def _box(record: Mapping[str, Any], size: Size) -> Box:
    """The box in shares of the image; its class is left at 0."""
    numbers = _numbers(record.get("bbox"), "bbox")
    if len(numbers) != 4:
        raise BadRecord("bbox", f"has {len(numbers)} numbers, not 4 (x, y, width, height)")
    x, y, width, height = numbers
    if width <= 0 or height <= 0:
        raise BadRecord("bbox", f"its width and height, {width:g} and {height:g}, are not above 0")
    corners = x, y, x + width, y + height
    sides = size.width, size.height, size.width, size.height
    if any(not -TOLERANCE <= value <= side + TOLERANCE for value, side in zip(corners, sides, strict=True)):
        reach = ", ".join(f"{value:g}" for value in corners)
        raise BadRecord("bbox", f"reaches out of its image ({reach} in {size.width} x {size.height})")
    x0, y0, x1, y1 = (min(max(value / side, 0.0), 1.0) for value, side in zip(corners, sides, strict=True))
    if x0 >= x1 or y0 >= y1:
        raise BadRecord("bbox", "covers no area of the image")
    return Box(0, x0, y0, x1, y1, _outline(record.get("segmentation"), size))


def _outline(segmentation: object, size: Size) -> tuple[float, ...] | None:
    """The polygon of a label that is one, in shares of the image; None for what only its box stands for."""
    if not isinstance(segmentation, list):
        if segmentation is None or isinstance(segmentation, dict):
            return None
        raise BadRecord("segmentation", "is neither a list of polygons nor pixels (RLE)")
    polygons = []
    for index, polygon in enumerate(segmentation):
        field = f"segmentation[{index}]"
        points = _numbers(polygon, field)
        if len(points) < 6 or len(points) % 2:
            raise BadRecord(field, f"has {len(points)} numbers; a polygon has an even number from 6 on")
        sides = (size.width, size.height) * (len(points) // 2)
        if any(not -TOLERANCE <= value <= side + TOLERANCE for value, side in zip(points, sides, strict=True)):
            raise BadRecord(field, f"reaches out of its image ({size.width} x {size.height})")
        polygons.append(tuple(min(max(v / side, 0.0), 1.0) for v, side in zip(points, sides, strict=True)))
    return polygons[0] if len(polygons) == 1 else None


def _numbers(value: object, field: str) -> list[float]:
    if value is None:
        raise BadRecord(field, "is missing")
    if not isinstance(value, list):
        raise BadRecord(field, "is no list of numbers")
    for each in value:
        if isinstance(each, bool) or not isinstance(each, int | float) or not math.isfinite(_float(each)):
            raise BadRecord(field, f"{shown(str(each))} is no finite number")
    return [float(each) for each in value]


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
