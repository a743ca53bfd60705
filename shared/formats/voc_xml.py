"""One Pascal VOC annotation: its boxes, and its clone for another image."""

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from shared.formats.faults import Faults, shown
from shared.formats.samples import MAX_SIDE, Box, Size
from shared.formats.yolo_labels import NUMBER

TOLERANCE = 1.0
"""Pixels by which a box may reach over the image's edge, as those do that count from 0. It is clipped."""

CORNERS = ("xmin", "ymin", "xmax", "ymax")
FILE_NAME = re.compile(rb"(<filename[^>]*>)([^<]*)(</filename\s*>)")
PATH = re.compile(rb"(<path[^>]*>)([^<]*)(</path\s*>)")


class BadElement(ValueError):
    """What is wrong in an annotation: in which element, and in words."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(what)
        self.place, self.what = place, what


@dataclass(frozen=True, slots=True)
class Annotation:
    """`boxes` with the names of their classes; the boxes' own class is 0."""

    size: Size
    boxes: tuple[tuple[str, Box], ...]


def parse(data: bytes, where: str, faults: Faults) -> Annotation | None:
    """Check an annotation; None, and faults under `where`, if it cannot be used.

    Corners count pixels from 1, the last pixel included, as the VOC devkit has it: xmin 1 and xmax = width is an
    image's whole width. What reaches up to TOLERANCE over the edge is clipped.
    """
    root = _root(data, where, faults)
    if root is None:
        return None
    boxes = []
    try:
        size = Size(_side(root, "width"), _side(root, "height"), f"{where}: size")
    except BadElement as e:
        faults.add(f"{where}: {e.place}", e.what)
        return None
    before = faults.count
    for number, element in enumerate(root.findall("object"), start=1):
        try:
            boxes.append((_name(element), _box(element, size)))
        except BadElement as e:
            faults.add(f"{where}: object[{number}]{e.place}", e.what)
    return Annotation(size, tuple(boxes)) if faults.count == before else None


def renamed(data: bytes, name: str) -> bytes:
    """The annotation of an image called `name` that is labelled alike: only the file's name in it is another."""
    ours = escape(name).encode("ascii", "xmlcharrefreplace")
    old = FILE_NAME.search(data)
    if old is None:
        return data

    def path(m: re.Match[bytes]) -> bytes:
        folder, slash, file = m[2].rpartition(b"/")
        return m[1] + folder + slash + ours + m[3] if file.strip() == old[2].strip() else m[0]

    clone = data[: old.start(2)] + ours + data[old.end(2) :]
    return PATH.sub(path, clone, count=1)


def _root(data: bytes, where: str, faults: Faults) -> ET.Element | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:
        faults.add(where, "is UTF-16 or UTF-32 text; save it as UTF-8")
        return None
    try:
        root: ET.Element = fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        faults.add(where, "declares a document type or entities, which are not read here")
    except ET.ParseError as e:
        line, column = e.position
        faults.add(f"{where}:{line}", f"is no well-formed XML (column {column}: {shown(str(e.msg).partition(':')[0])})")
    except (ValueError, LookupError) as e:  # an encoding that there is not
        faults.add(where, f"is no readable XML ({shown(str(e))})")
    else:
        if root.tag == "annotation":
            return root
        faults.add(where, f"is no annotation but <{shown(root.tag)}>")
    return None


def _side(root: ET.Element, key: str) -> int:
    text = (root.findtext(f"size/{key}") or "").strip()
    if not text:
        raise BadElement(f"size/{key}", "is missing")
    value = float(text) if NUMBER.fullmatch(text) else 0.0
    if not 0 < value <= MAX_SIDE or value != int(value):
        raise BadElement(f"size/{key}", f"{shown(text)} is not a whole number from 1 on")
    return int(value)


def _name(element: ET.Element) -> str:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise BadElement("/name", "is missing")
    if not name.isprintable():
        raise BadElement("/name", f"{shown(name)} holds a character that cannot be shown")
    return name


def _box(element: ET.Element, size: Size) -> Box:
    bounds = element.find("bndbox")
    if bounds is None:
        raise BadElement("/bndbox", "is missing")
    xmin, ymin, xmax, ymax = (_corner(bounds, key) for key in CORNERS)
    if xmax < xmin or ymax < ymin:
        raise BadElement("/bndbox", f"ends before it begins ({xmin:g}, {ymin:g} to {xmax:g}, {ymax:g})")
    corners = xmin - 1, ymin - 1, xmax, ymax
    sides = size.width, size.height, size.width, size.height
    if any(not -TOLERANCE <= value <= side + TOLERANCE for value, side in zip(corners, sides, strict=True)):
        reach = ", ".join(f"{value:g}" for value in (xmin, ymin, xmax, ymax))
        raise BadElement("/bndbox", f"reaches out of its image ({reach} in {size.width} x {size.height})")
    x0, y0, x1, y1 = (min(max(value / side, 0.0), 1.0) for value, side in zip(corners, sides, strict=True))
    if x0 >= x1 or y0 >= y1:
        raise BadElement("/bndbox", "covers no area of the image")
    return Box(0, x0, y0, x1, y1)


def _corner(bounds: ET.Element, key: str) -> float:
    text = (bounds.findtext(key) or "").strip()
    if not text:
        raise BadElement(f"/bndbox/{key}", "is missing")
    value = float(text) if NUMBER.fullmatch(text) else float("nan")
    if not abs(value) < float("inf"):
        raise BadElement(f"/bndbox/{key}", f"{shown(text[:40])} is no finite number")
    return value
