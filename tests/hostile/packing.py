"""Good archives, and the means to spoil them."""

import io
import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

YAML = b"names: [cat, dog]\ntrain: images/train\nval: images/train\n"
LABEL = b"0 0.5 0.5 0.2 0.2\n"
XML = b"""<annotation><filename>a.png</filename><size><width>24</width><height>16</height><depth>3</depth></size>
<object><name>cat</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>8</xmax><ymax>8</ymax></bndbox></object></annotation>"""
XML_LAUGHTER = (
    b"<!DOCTYPE a [<!ENTITY a 'lol'>"
    + b"".join(b"<!ENTITY %c '%s'>" % (c, b"&%c;" % (c - 1) * 9) for c in range(98, 108))
    + b"]>"
    + XML.replace(b"cat", b"&k;")
)
END = b"PK\x05\x06"
CENTRAL = b"PK\x01\x02"


def picture(form: str = "PNG", size: tuple[int, int] = (24, 16), **options: Any) -> bytes:
    pixels = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


PNG, JPEG = picture(), picture("JPEG")
GOOD = {"data.yaml": YAML, "images/train/a.png": PNG, "labels/train/a.txt": LABEL}
"""One labelled image: the smallest set that is taken."""


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytearray:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return bytearray(out.getvalue())


def with_member(name: str, data: bytes = b"x", mode: int = 0, method: int = zipfile.ZIP_STORED) -> bytearray:
    """GOOD and a member whose name is written as it is."""
    out = io.BytesIO(packed(GOOD))
    info = zipfile.ZipInfo("placeholder")
    info.filename, info.compress_type = name, method
    info.external_attr = mode << 16
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(info, data)
    return bytearray(out.getvalue())


def special(kind: int) -> bytearray:
    return with_member("labels/train/evil.txt", b"/etc/passwd", kind | 0o644)


def label(data: bytes) -> bytearray:
    """GOOD with other labels."""
    return packed(GOOD | {"labels/train/a.txt": data})


def stored(data: bytes) -> bytearray:
    """The same, not compressed, so that it looks like no bomb."""
    return packed(GOOD | {"labels/train/a.txt": data}, zipfile.ZIP_STORED)


def described(data: bytes) -> bytearray:
    """GOOD with another data.yaml."""
    return packed(GOOD | {"data.yaml": data})


def image(data: bytes, name: str = "images/train/a.png") -> bytearray:
    """GOOD with another image."""
    return packed({"data.yaml": YAML, "labels/train/a.txt": LABEL, name: data})


def document(**changes: dict[str, Any]) -> bytes:
    """A COCO document of one labelled image, with other fields in its image, annotation or category."""
    records = {
        "image": {"id": 1, "file_name": "a.png", "width": 24, "height": 16},
        "annotation": {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 8, 8]},
        "category": {"id": 1, "name": "cat"},
    }
    lists = {"image": "images", "annotation": "annotations", "category": "categories"}
    return json.dumps({lists[key]: [record | changes.get(key, {})] for key, record in records.items()}).encode()


def coco(data: bytes) -> bytearray:
    return packed({"annotations/instances_train.json": data, "train/a.png": PNG}, zipfile.ZIP_STORED)


def voc(data: bytes) -> bytearray:
    return packed({"Annotations/a.xml": data, "JPEGImages/a.png": PNG}, zipfile.ZIP_STORED)


def entity(url: str) -> bytes:
    """An annotation whose class is what lies at `url`."""
    return b'<!DOCTYPE a [<!ENTITY e SYSTEM "%s">]>' % url.encode() + XML.replace(b"cat", b"&e;")


def entry(data: bytearray, name: str) -> int:
    """Where the member's entry in the table of contents begins."""
    return data.rindex(name.encode()) - 46


def patched(data: bytearray, name: str, **fields: int) -> bytearray:
    """Other numbers in a member's entry: flags, method, crc, packed, size, extra, offset."""
    places = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<L"), "packed": (20, "<L"), "size": (24, "<L")}
    places |= {"extra": (30, "<H"), "offset": (42, "<L")}
    for field, value in fields.items():
        place, form = places[field]
        struct.pack_into(form, data, entry(data, name) + place, value)
    return data


def with_end(data: bytearray, **fields: int) -> bytearray:
    """Other numbers in the archive's last record: disk, here, count, size, offset."""
    places = {"disk": (4, "<H"), "here": (8, "<H"), "count": (10, "<H"), "size": (12, "<L"), "offset": (16, "<L")}
    for field, value in fields.items():
        place, form = places[field]
        struct.pack_into(form, data, data.rindex(END) + place, value)
    return data


def with_extra(data: bytearray, name: str, extra: bytes, **fields: int) -> bytearray:
    """A member's entry with an extra field, as the 64-bit numbers are written."""
    patched(data, name, extra=len(extra), **fields)
    after = entry(data, name) + 46 + len(name.encode())
    data[after:after] = extra
    end = data.rindex(END)
    struct.pack_into("<L", data, end + 12, struct.unpack_from("<L", data, end + 12)[0] + len(extra))
    return data


def zip64(*numbers: int, **fields: int) -> bytearray:
    """GOOD, in which an image's numbers are those of 64 bits."""
    extra = struct.pack(f"<HH{len(numbers)}Q", 1, 8 * len(numbers), *numbers)
    return with_extra(packed(GOOD), "images/train/a.png", extra, **fields)


def with_end64(data: bytearray, *, count: int = 3, size: int | None = None, at: int | None = None) -> bytearray:
    """The archive's last record in its 64-bit form before the plain one; `at` is where that is said to be."""
    end, offset = data.rindex(END), data.index(CENTRAL)
    size = end - offset if size is None else size
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end if at is None else at, 1)
    data[end:end] = record + locator
    return with_end(data, here=0xFFFF, count=0xFFFF, size=0xFFFFFFFF, offset=0xFFFFFFFF)


def spoiled(data: bytearray, name: str, place: int, other: bytes) -> bytearray:
    """Other bytes at `place` after a member's name in its own header."""
    start = data.index(name.encode()) + place
    data[start : start + len(other)] = other
    return data


def commented(data: bytearray, remark: bytes) -> bytearray:
    struct.pack_into("<H", data, data.rindex(END) + 20, len(remark))
    return data + remark


def chunk(kind: bytes, body: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def png(width: int, height: int, *more: bytes, data: bytes = b"") -> bytes:
    """A grey PNG of 8 bits that says it is so large."""
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def several(form: str, **options: Any) -> bytes:
    """A file of three pictures."""
    frames = [Image.new("RGB", (24, 16), (shade, 0, 0)) for shade in (0, 100, 200)]
    out = io.BytesIO()
    frames[0].save(out, form, save_all=True, append_images=frames[1:], **options)
    return out.getvalue()


def sharing_bytes() -> bytearray:
    """Two members whose bytes are the same ones (CVE-2024-0450)."""
    data = packed(GOOD | {"images/train/b.png": PNG}, zipfile.ZIP_STORED)
    first = struct.unpack_from("<L", data, entry(data, "images/train/a.png") + 42)[0]
    return patched(data, "images/train/b.png", offset=first)


def enclosing() -> bytearray:
    """A member that holds others, which are members of the archive too: each layer adds its whole content again."""
    inner = bytes(packed({"images/train/b.png": PNG}, zipfile.ZIP_STORED))
    inner = inner[: inner.index(CENTRAL)]
    data = packed(GOOD | {"labels/train/x.txt": inner, "images/train/b.png": PNG}, zipfile.ZIP_STORED)
    return patched(data, "images/train/b.png", offset=data.index(inner))


def quine() -> bytearray:
    """A member that is the archive itself, so that unpacking it has no end."""
    data = packed(GOOD | {"images/train/r.zip": b""}, zipfile.ZIP_STORED)
    return patched(data, "images/train/r.zip", offset=0, size=len(data), packed=len(data))


def nested(levels: int, width: int) -> bytes:
    """Zips in zips: width ** levels of ten megabytes of zeros."""
    data = bytes(packed({"0.bin": bytes(10 * 2**20)}))
    for _ in range(levels):
        data = bytes(packed({f"{number}.zip": data for number in range(width)}))
    return data


def cut(data: bytearray, start: Callable[[bytearray], int], stop: Callable[[bytearray], int]) -> bytearray:
    del data[start(data) : stop(data)]
    return data


LINK, DEVICE, BLOCK, PIPE, SOCKET = stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK
