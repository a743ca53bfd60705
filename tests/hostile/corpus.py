"""What strangers upload: one archive a line, and what must be said of it."""

import io
import random
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from packing import (
    BLOCK,
    CENTRAL,
    DEVICE,
    END,
    GOOD,
    JPEG,
    LABEL,
    LINK,
    PIPE,
    PNG,
    SOCKET,
    XML,
    XML_LAUGHTER,
    YAML,
    chunk,
    coco,
    commented,
    cut,
    described,
    document,
    enclosing,
    entity,
    image,
    label,
    nested,
    packed,
    patched,
    picture,
    png,
    quine,
    several,
    sharing_bytes,
    special,
    spoiled,
    stored,
    voc,
    with_end,
    with_end64,
    with_extra,
    with_member,
    zip64,
)

MEMBERS = 300
ARCHIVE_BYTES = 40 * 2**20
UPLOAD_BYTES = 48 * 2**20
"""The limits in force."""


@dataclass(frozen=True)
class Case:
    """An archive, what becomes of it, and a pattern of what is said then: the member's name and the fault."""

    name: str
    said: str
    build: Callable[[], bytes]
    outcome: Literal["refused", "rejected", "ready"] = "rejected"


def _taken(name: str, build: Callable[[], bytes]) -> Case:
    """One that only looks strange, and is read right."""
    return Case(name, "", build, "ready")


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in GOOD.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _nul() -> bytes:
    return bytes(with_member("evilX.txt")).replace(b"evilX", b"evil\0")


def _large() -> bytes:
    """Bytes of chance, which no compression makes smaller, a little more than is taken."""
    part = random.Random(1).randbytes(ARCHIVE_BYTES // 20 + 1)
    return packed({f"{number}.bin": part for number in range(20)}, zipfile.ZIP_STORED)


A = "images/train/a.png"
T = r"labels/train/a\.txt"
J, X = "annotations/instances_train.json", r"Annotations/a\.xml"
ALL = 2**32 - 1
"""A number that says: see the 64-bit one."""
NFC, NFD = (f"images/train/{unicodedata.normalize(form, 'café.png')}" for form in ("NFC", "NFD"))
HALF_JPEG = picture("JPEG", (200, 100))[:3000]
BOMB = zlib.compress(bytes(2**26), 9)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
LAUGHTER = b"".join(
    b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9) if c > 97 else b"lol") for c in range(97, 107)
)

# fmt: off
CASES = [
    # No archive, or half of one.
    Case("nothing at all", "The file is empty", lambda: b"", "refused"),
    Case("more than the limit", "the limit is", lambda: bytes(UPLOAD_BYTES + 1), "refused"),
    Case("a word", "This is not a zip", lambda: b"hello"),
    Case("a picture", "This is not a zip", lambda: PNG),
    Case("a compressed tar", "This is not a zip", _tar),
    Case("an empty zip", "no image", lambda: packed({})),
    Case("empty files", "no image", lambda: packed({"a": b"", "b/c": b"", "b/": b""})),
    Case("an empty set", "labels: there are none", lambda: packed(dict.fromkeys(GOOD, b"") | {"data.yaml": YAML})),
    Case("no end", "not a zip", lambda: cut(packed(GOOD), lambda d: d.rindex(END), len)),
    Case("no beginning", "no readable header", lambda: cut(packed(GOOD), lambda _: 0, lambda _: 40)),
    Case("half a table", "not a zip", lambda: cut(packed(GOOD), lambda d: d.index(CENTRAL) + 60, lambda d: d.rindex(END))),
    Case("only a table", "no readable header", lambda: cut(packed(GOOD), lambda _: 0, lambda d: d.index(CENTRAL))),
    Case("a table of 4 GiB", "not a zip", lambda: with_end(packed(GOOD), size=0xFFFFFFF0)),
    Case("a table past the end", "not a zip|no readable header", lambda: with_end(packed(GOOD), offset=0x7FFFFFFF)),
    # Where it leads.
    Case("a way out", r"\.\./evil\.txt: leads out of its folder", lambda: with_member("../evil.txt")),
    Case("a way out within", "leads out of its folder", lambda: with_member("images/train/../../../evil.png")),
    Case("a way out of Windows", "leads out of its folder", lambda: with_member(r"images\..\..\evil.txt")),
    Case("an absolute path", r"/tmp/regrow-evil\.txt: has an absolute path", lambda: with_member("/tmp/regrow-evil.txt")),
    Case("a drive", r"C:/evil\.txt: has an absolute path", lambda: with_member("C:/evil.txt")),
    Case("a drive without a folder", r"c:evil\.txt: has an absolute path", lambda: with_member("c:evil.txt")),
    Case("a share", "absolute path", lambda: with_member(r"\\server\share\evil.txt")),
    Case("a backslash", "has a backslash in its name", lambda: with_member(r"images\evil.png")),
    Case("a path of dots", "single dot", lambda: with_member("./images/./evil.png")),
    Case("a folder without a name", "empty folder name", lambda: with_member("images//evil.png")),
    Case("a long name", "has a name of 3004 characters", lambda: with_member("n" * 3000 + ".txt")),
    Case("a long folder", "folder name over 100", lambda: with_member("f" * 200 + "/evil.txt")),
    Case("an end in a name", r"evil\\x00\.txt: has a control character", _nul),
    Case("a line in a name", r"evil\\n\.txt: has a control character", lambda: with_member("evil\n.txt")),
    Case("an order to the terminal", r"\\x1b\[2Jevil: has a control", lambda: with_member("\x1b[2Jevil")),
    # What it is.
    Case("a link", r"evil\.txt: is a symbolic link", lambda: special(LINK)),
    Case("a device", r"evil\.txt: is a device", lambda: special(DEVICE)),
    Case("a disk", r"evil\.txt: is a device", lambda: special(BLOCK)),
    Case("a pipe", r"evil\.txt: is a device or another", lambda: special(PIPE)),
    Case("a socket", r"evil\.txt: is a device or another", lambda: special(SOCKET)),
    Case("a password", f"{A}: is encrypted", lambda: patched(packed(GOOD), A, flags=0x1)),
    Case("a strong password", f"{A}: is encrypted", lambda: patched(packed(GOOD), A, flags=0x41)),
    Case("a hidden table", f"{A}: is encrypted", lambda: patched(packed(GOOD), A, flags=0x2000)),
    Case("a patch", f"{A}: is compressed by method|not a zip", lambda: patched(packed(GOOD), A, flags=0x20)),
    Case("bzip2", r"evil\.txt: is compressed by method 12", lambda: with_member("evil.txt", method=zipfile.ZIP_BZIP2)),
    Case("LZMA", r"evil\.txt: is compressed by method 14", lambda: with_member("evil.txt", method=zipfile.ZIP_LZMA)),
    Case("AES", f"{A}: is compressed by method 99", lambda: patched(packed(GOOD), A, method=99)),
    # Twice the same.
    Case("a name twice", f"{A}: is there twice", lambda: with_member(A)),
    Case("a name in capitals", f"A.PNG: is the same file as {A}", lambda: with_member("images/train/A.PNG")),
    Case("a name in two codings", "is the same file as images/train/caf", lambda: packed(GOOD | {NFC: PNG, NFD: PNG})),
    Case("a sharp s", "is the same file as", lambda: packed(GOOD | {"straße.txt": b"", "STRASSE.txt": b""})),
    Case("a file that is a folder", "a.png/: is the same file", lambda: with_member(f"{A}/", b"")),
    # Bombs.
    Case("bytes shared", f"images/train/b.png: overlaps with {A}", sharing_bytes),
    Case("bytes enclosed", r"images/train/b\.png: overlaps with labels/train/x\.txt", enclosing),
    Case("an archive within itself", r"r\.zip: reaches into|overlaps with images/train/r\.zip", quine),
    Case("a bomb", r"bomb\.png: unpacks to more than 200", lambda: with_member("bomb.png", bytes(2**24), method=8)),
    Case("many small bombs", "archive: unpacks to more than 200", lambda: packed({f"{n}.png": bytes(2**20) for n in range(20)})),
    Case("zips in zips", "no image", lambda: packed({"a.zip": nested(3, 4)}, zipfile.ZIP_STORED)),
    Case("zips in zips called picture", f"{A}: not a readable", lambda: image(nested(2, 3))),
    Case("a set in a zip", "no image", lambda: packed({"set.zip": bytes(packed(GOOD))})),
    Case("too many members", f"more than {MEMBERS} members", lambda: packed({f"{n}.txt": b"" for n in range(MEMBERS + 1)})),
    Case("too many bytes", f"archive: unpacks to .* at most {ARCHIVE_BYTES}", _large),
    # Numbers that lie.
    Case("a size too small", f"{A}: (is damaged|holds)", lambda: patched(packed(GOOD), A, size=10)),
    Case("a size too large", f"{A}: (is damaged|holds)", lambda: patched(packed(GOOD), A, size=5000)),
    Case("a huge size", f"{A}: unpacks to 4294967280 bytes", lambda: patched(packed(GOOD), A, size=0xFFFFFFF0)),
    Case("packed past the end", f"{A}: reaches into", lambda: patched(packed(GOOD), A, packed=0x7FFFFFFF)),
    Case("another checksum", f"{A}: is damaged", lambda: patched(packed(GOOD), A, crc=1)),
    Case("another name inside", f"{A}: is damaged", lambda: spoiled(packed(GOOD), A, 0, b"IMAGES")),
    Case("bytes that are no deflate", f"{A}: is damaged", lambda: spoiled(packed(GOOD), A, len(A), b"\xff" * 9)),
    Case("a member in the table", f"{A}: has no readable header", lambda: patched(packed(GOOD), A, offset=0xFFFFFFF0)),
    Case("a member between members", f"{A}: has no readable header", lambda: patched(packed(GOOD), A, offset=7)),
    Case("64-bit sizes of a planet", f"{A}: (unpacks to|reaches into)", lambda: zip64(2**60, 2**60, size=ALL, packed=ALL)),
    Case("a 64-bit place below zero", f"{A}: has no readable header", lambda: zip64(2**64 - 1, offset=ALL)),
    Case("64-bit numbers cut short", "not a zip", lambda: with_extra(packed(GOOD), A, b"\1\0\x08\0abc", size=ALL)),
    Case("64-bit numbers missing", "not a zip", lambda: zip64(size=ALL)),
    Case("a 64-bit table of a planet", "not a zip|table of contents", lambda: with_end64(packed(GOOD), size=2**62)),
    _taken("a 64-bit table at no place", lambda: with_end64(packed(GOOD), at=2**63)),
    _taken("a 64-bit table at a wrong place", lambda: with_end64(packed(GOOD), at=0)),
    _taken("2**63 members of 64 bits", lambda: with_end64(packed(GOOD), count=2**63)),
    # Pictures that are none.
    Case("a picture of a town", f"{A}: .*pixels", lambda: image(png(60_000, 60_000))),
    Case("a picture of a country", f"{A}: ", lambda: image(png(2**31 - 1, 2**31 - 1))),
    Case("a row of a country", f"{A}: .*pixels", lambda: image(png(2**31 - 1, 1))),
    Case("a JPEG of a town", f"{A}: .*pixels", lambda: image(JPEG.replace(b"\0\x10\0\x18", b"\xff\xdc\xff\xdc", 1))),
    Case("a picture without pixels", f"{A}: ", lambda: image(png(0, 0))),
    Case("a picture without its data", f"{A}: damaged", lambda: image(png(500, 500))),
    Case("half a JPEG", r"a\.jpg: damaged or cut off", lambda: image(HALF_JPEG, "images/train/a.jpg")),
    Case("the head of a JPEG", r"a\.jpg: not a readable", lambda: image(JPEG[:20], "images/train/a.jpg")),
    Case("half a PNG", f"{A}: damaged or cut off", lambda: image(PNG[: len(PNG) // 2])),
    Case("half a WebP", f"{A}: ", lambda: image(picture("WEBP")[:60])),
    Case("half a TIFF", f"{A}: ", lambda: image(picture("TIFF")[:60])),
    Case("half a BMP", f"{A}: damaged", lambda: image(picture("BMP")[:200])),
    Case("a PNG with another checksum", f"{A}: damaged", lambda: image(PNG.replace(PNG[-20:-12], b"\0" * 8))),
    Case("a text of a gigabyte in a PNG", f"{A}: ", lambda: image(png(9, 9, chunk(b"zTXt", b"a\0\0" + BOMB)))),
    Case("a profile of a gigabyte in a PNG", f"{A}: ", lambda: image(png(9, 9, chunk(b"iCCP", b"a\0\0" + BOMB)))),
    Case("a moving GIF", f"{A}: not a readable", lambda: image(several("GIF"))),
    Case("a moving WebP", f"{A}: holds several pictures", lambda: image(several("WEBP"))),
    Case("a moving PNG", f"{A}: holds several pictures", lambda: image(several("PNG"))),
    Case("a TIFF of pages", f"{A}: holds several pictures", lambda: image(several("TIFF"))),
    Case("PostScript", f"{A}: not a readable", lambda: image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) run\n")),
    Case("a PDF", f"{A}: not a readable", lambda: image(b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF")),
    Case("an SVG", f"{A}: not a readable", lambda: image(SVG)),
    Case("a page", f"{A}: not a readable", lambda: image(b"<html><script>alert(1)</script></html>")),
    Case("a picture's list of files", f"{A}: not a readable", lambda: image(b"#EXTM3U\nconcat:http://example.com|/etc/passwd")),
    # A description that describes something else.
    Case("laughter", r"data\.yaml:2: references", lambda: described(LAUGHTER)),
    Case("a merge of itself", r"data\.yaml:\d: references", lambda: described(b"a: &a\n  <<: *a\nnames: [cat]\n")),
    Case("a tag that runs", r"data\.yaml:1: ", lambda: described(b"names: !!python/object/apply:os.system ['touch evil']\n")),
    Case("a tag of its own", r"data\.yaml:1: ", lambda: described(b"names: !evil [cat]\n")),
    Case("a deep description", r"data\.yaml: is nested too deeply", lambda: described(b"[" * 100_000)),
    Case("a long description", r"data\.yaml: has 300012 bytes", lambda: described(b"names: [cat]" + b" " * 300_000)),
    Case("a list for a description", r"data\.yaml: is not a list of keys", lambda: described(b"- cat\n")),
    Case("an empty description", r"data\.yaml: is empty", lambda: described(b"")),
    Case("no text", r"data\.yaml: is no valid YAML", lambda: described(bytes(range(128, 256)))),
    Case("an end in a description", r"data\.yaml: is no valid YAML", lambda: described(b"names: [c\0t]\n")),
    Case("a name in latin-1", r"data\.yaml: is no valid YAML", lambda: described("names: [Käfer]\n".encode("latin-1"))),
    Case("a number of 9,000 digits", r"data\.yaml: is no valid YAML", lambda: described(b"nc: " + b"9" * 9000)),
    Case("a day that never was", r"data\.yaml: is no valid YAML", lambda: described(b"names: [2001-99-99]\n")),
    Case("names that are none", r"data\.yaml: names: is neither", lambda: described(b"names: [[cat], [dog]]\n")),
    Case("names of other numbers", r"data\.yaml: names: the keys", lambda: described(b"names: {1: cat, 2: dog}\n")),
    Case("another number of names", r"data\.yaml: nc is 3", lambda: described(b"nc: 3\nnames: [cat, dog]\n")),
    Case("key points without number", r"data\.yaml: kpt_shape", lambda: described(b"names: [cat]\nkpt_shape: [.inf, 3]\n")),
    Case("half a letter in a name", r"data\.yaml: names: ", lambda: described(b'names: ["\\ud800", dog]\n')),
    Case("an end in a class's name", r"data\.yaml: names: ", lambda: described(b'names: ["c\\0t", dog]\n')),
    _taken("half a letter in a folder", lambda: described(b'names: [cat, dog]\ntrain: "\\udc80/train"\nval: "\\udc80"\n')),
    _taken("half a letter for a key", lambda: described(b'names: [cat, dog]\n"\\udc80": 5\n')),
    Case("half a letter for a number", "nc is", lambda: described(b'names: [cat]\nnc: "\\udc80"\n')),
    Case("two descriptions", r"more than one data\.yaml", lambda: packed({f"{n}/{k}": d for n in "ab" for k, d in GOOD.items()})),
    # Labels.
    Case("no number", f"{T}:1: x centre 'nan' is not a finite number", lambda: label(b"0 nan 0.5 0.2 0.2\n")),
    Case("an endless box", f"{T}:1: width 'inf' is not a finite number", lambda: label(b"0 0.5 0.5 inf 0.2\n")),
    Case("beyond numbers", f"{T}:1: x centre '1e999'", lambda: label(b"0 1e999 0.5 0.2 0.2\n")),
    Case("a width below nothing", f"{T}:2: width -0.2 is", lambda: label(LABEL + b"0 0.5 0.5 -0.2 0.2\n")),
    Case("a box of no height", f"{T}:1: height 0 is not above 0", lambda: label(b"0 0.5 0.5 0.2 0\n")),
    Case("a box outside", f"{T}:1: x centre 1.5 is outside", lambda: label(b"0 1.5 0.5 0.2 0.2\n")),
    Case("a box in pixels", f"{T}:1: x centre 120 is outside", lambda: label(b"0 120 80 30 20\n")),
    Case("a polygon outside", f"{T}:1: x of point 2 -3 is outside", lambda: label(b"0 0.1 0.1 -3 0.2 0.3 0.3\n")),
    Case("a polygon of no area", f"{T}:1: covers no area", lambda: label(b"0 0.1 0.1 0.1 0.2 0.1 0.3\n")),
    Case("a class below nothing", f"{T}:1: class index -1", lambda: label(b"-1 0.5 0.5 0.2 0.2\n")),
    Case("a class nobody named", f"{T}:1: class index 2 is too large", lambda: label(b"2 0.5 0.5 0.2 0.2\n")),
    Case("a class beyond numbers", f"{T}:1: class index 1e300 is too large", lambda: label(b"1e300 0.5 0.5 0.2 0.2\n")),
    Case("half a class", f"{T}:1: class index 0.5 is not", lambda: label(b"0.5 0.5 0.5 0.2 0.2\n")),
    Case("numbers missing", f"{T}:1: has 4 numbers", lambda: label(b"0 0.5 0.5 0.2\n")),
    Case("words", f"{T}:1: class index 'a' is not", lambda: label(b"a small cat\n")),
    Case("digits of another script", f"{T}:1: .* is not a finite number", lambda: label("0 ٠.٥ 0.5 0.2 0.2\n".encode())),
    Case("a Python number", f"{T}:1: .* is not a finite number", lambda: label(b"0 0.0_5 0.5 0.2 0.2\n")),
    Case("labels in latin-1", f"{T}: is not UTF-8 text", lambda: label(b"0 0.5 0.5 0.2 0.2 # K\xe4fer\n")),
    Case("labels in UTF-16", f"{T}: is not UTF-8 text", lambda: label(LABEL.decode().encode("utf-16"))),
    Case("labels of zeros", f"{T}:1: ", lambda: label(bytes(1000))),
    Case("a line of 10 MB", f"{T}:1: has .* characters", lambda: stored(b"0" + b" 0.5" * 2_600_000)),
    Case("a word of 10 MB", f"{T}:1: has .* characters", lambda: stored(b"7" * 10 * 2**20)),
    Case("a word that is nearly a number", f"{T}:1: .* is not a finite number", lambda: stored(b"7" * 900_000 + b"x")),
    Case("labels of 17 MB", f"{T}: has 17825792 bytes", lambda: stored(b"\n" * 17 * 2**20)),
    Case("a million boxes", f"{T}: has more than 100000 labels", lambda: stored(LABEL * 800_000)),
    Case("a fault in each of many lines", "and \\d+ more|faults in all|nan", lambda: stored(b"0 nan 0.5 0.2 0.2\n" * 50_000)),
    Case("no label at all", "labels: there are none", lambda: label(b"")),
    Case("a number without end", f"{T}:1: x centre 1[.]50+[.][.][.]", lambda: stored(b"0 1.5" + b"0" * 900_000 + b" 0.5 0.2 0.2\n")),
    # COCO.
    Case("no JSON", f"{J}:1: is no valid JSON", lambda: coco(b"{'images': []}")),
    Case("half a JSON", f"{J}:1: is no valid JSON", lambda: coco(document()[:-5])),
    Case("an empty JSON", f"{J}:1: is no valid JSON", lambda: coco(b"")),
    Case("a JSON list", f"{J}: is not a JSON object", lambda: coco(b"[]")),
    Case("a deep JSON", f"{J}: is nested too deeply", lambda: coco(b'{"images": ' + b"[" * 200_000)),
    Case("a JSON of 9,000 digits", f"{J}: is no valid JSON", lambda: coco(b'{"images": ' + b"9" * 9000 + b"}")),
    Case("a JSON in latin-1", f"{J}: is no valid JSON", lambda: coco(document(category={"name": "K"}).replace(b'"K"', b'"K\xe4fer"'))),
    Case("a JSON of empty lists", r"images\[0\]: is not an object", lambda: coco(b'{"annotations": [], "categories": [], "images": [' + b"[]," * 2_000_000 + b"[]]}")),
    Case("records that are none", r"images\[0\]: is not an object", lambda: coco(b'{"images": [1], "annotations": ["a"], "categories": [[]]}')),
    Case("an annotation of no image", r"annotations\[0\]\.image_id: there is no image 7", lambda: coco(document(annotation={"image_id": 7}))),
    Case("an annotation of no category", r"annotations\[0\]\.category_id: there is no category 7", lambda: coco(document(annotation={"category_id": 7}))),
    Case("an id that is a list", r"annotations\[0\]\.image_id: there is no image", lambda: coco(document(annotation={"image_id": [1]}))),
    Case("an image that is nowhere", r"None of the 1 listed images", lambda: coco(document(image={"file_name": "b.png"}))),
    Case("an image elsewhere", r"None of the 1 listed images", lambda: coco(document(image={"file_name": "../../../etc/passwd"}))),
    Case("a COCO box of no number", r"annotations\[0\]\.bbox: .* is no finite number", lambda: coco(document(annotation={"bbox": [2, 2, float("nan"), 4]}))),
    Case("a COCO box without end", r"annotations\[0\]\.bbox: .* is no finite number", lambda: coco(document(annotation={"bbox": [2, 2, float("inf"), 4]}))),
    Case("a COCO box beyond numbers", r"annotations\[0\]\.bbox: .* is no finite number", lambda: coco(document(annotation={"bbox": [2, 2, 10**400, 4]}))),
    Case("a COCO box below nothing", r"annotations\[0\]\.bbox: .* are not above 0", lambda: coco(document(annotation={"bbox": [9, 9, -4, 4]}))),
    Case("a COCO box outside", r"annotations\[0\]\.bbox: reaches out", lambda: coco(document(annotation={"bbox": [90, 9, 4, 4]}))),
    Case("a COCO box of three", r"annotations\[0\]\.bbox: has 3 numbers", lambda: coco(document(annotation={"bbox": [1, 2, 3]}))),
    Case("a COCO box of texts", r"annotations\[0\]\.bbox: ", lambda: coco(document(annotation={"bbox": ["1", "2", "3", "4"]}))),
    Case("no COCO box", r"annotations\[0\]\.bbox: is missing", lambda: coco(document(annotation={"bbox": None}))),
    Case("a COCO polygon outside", r"segmentation\[0\]: reaches out", lambda: coco(document(annotation={"segmentation": [[1, 1, 900, 1, 1, 9]]}))),
    Case("a COCO image of no size", r"images\[0\]\.width: ", lambda: coco(document(image={"width": -24}))),
    Case("a COCO image of another size", "a.png: .*24 x 16", lambda: coco(document(image={"width": 48, "height": 99}))),
    Case("a COCO name of half a letter", r"categories\[0\]\.name: ", lambda: coco(document(category={"name": "\ud800"}))),
    # Pascal VOC.
    Case("entities that laugh", f"{X}: declares a document type", lambda: voc(XML_LAUGHTER)),
    Case("an entity that is a file", f"{X}: declares a document type", lambda: voc(entity("file:///etc/passwd"))),
    Case("an entity that is a page", f"{X}: declares a document type", lambda: voc(entity("http://127.0.0.1:9/evil"))),
    Case("a type elsewhere", f"{X}: declares a document type", lambda: voc(b'<!DOCTYPE annotation SYSTEM "http://127.0.0.1:9/evil.dtd">' + XML)),
    Case("half an XML", f"{X}:\\d+: is no well-formed XML", lambda: voc(XML[:-9])),
    Case("an XML in no coding", f"{X}: is no readable XML|{X}:1: is no well-formed", lambda: voc(b'<?xml version="1.0" encoding="evil"?>' + XML)),
    Case("a deep XML", f"{X}:|{X}: size", lambda: voc(b"<annotation>" + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</annotation>")),
    Case("an XML of UTF-16", f"{X}: is UTF-16", lambda: voc(XML.decode().encode("utf-16"))),
    Case("a VOC box of no number", r"object\[1\]/bndbox/xmin: nan is no finite number", lambda: voc(XML.replace(b"<xmin>2<", b"<xmin>nan<"))),
    Case("a VOC box without end", r"object\[1\]/bndbox/xmin: 1e999 is no finite number", lambda: voc(XML.replace(b"<xmin>2<", b"<xmin>1e999<"))),
    Case("a VOC number that is nearly one", r"object\[1\]/bndbox/xmin: 7+ is no finite number", lambda: voc(XML.replace(b"<xmin>2<", b"<xmin>" + b"7" * 900_000 + b"x<"))),
    Case("a VOC box that ends first", r"object\[1\]/bndbox: ends before", lambda: voc(XML.replace(b"<xmin>2<", b"<xmin>9<"))),
    Case("a VOC box outside", r"object\[1\]/bndbox: reaches out", lambda: voc(XML.replace(b"<xmax>8<", b"<xmax>900<"))),
    Case("a VOC box without a corner", r"object\[1\]/bndbox/ymax: is missing", lambda: voc(XML.replace(b"<ymax>8</ymax>", b""))),
    Case("a VOC image of no size", f"{X}: size/width: ", lambda: voc(XML.replace(b"<width>24<", b"<width>0<"))),
    Case("a VOC image of another size", "a.png: .*24 x 16", lambda: voc(XML.replace(b"<width>24<", b"<width>99<"))),
    # What only looks strange.
    _taken("a good COCO set", lambda: coco(document())),
    _taken("a COCO set behind a byte order mark", lambda: coco(b"\xef\xbb\xbf" + document())),
    _taken("half a letter in a COCO note", lambda: coco(document(annotation={"note": "\ud800"}))),
    _taken("a good VOC set", lambda: voc(XML)),
    _taken("a VOC set in latin-1", lambda: voc(b'<?xml version="1.0" encoding="latin-1"?>' + XML.replace(b"cat", b"K\xe4fer"))),
    _taken("a VOC set with lines of Windows", lambda: voc(XML.replace(b">", b">\r\n"))),
    _taken("the good one", lambda: packed(GOOD)),
    _taken("lines of Windows", lambda: packed(GOOD | {"labels/train/a.txt": LABEL.replace(b"\n", b"\r\n"), "data.yaml": YAML.replace(b"\n", b"\r\n")})),
    _taken("lines of old Macs", lambda: label(LABEL.replace(b"\n", b"\r") * 2)),
    _taken("byte order marks", lambda: packed(GOOD | {"labels/train/a.txt": b"\xef\xbb\xbf" + LABEL, "data.yaml": b"\xef\xbb\xbf" + YAML})),
    _taken("a description in UTF-16", lambda: described(YAML.decode().encode("utf-16"))),
    _taken("empty lines and spaces", lambda: label(b"\n\n \t \n  0  0.5\t0.5 0.2 0.2  \n\n")),
    _taken("an empty label", lambda: packed(GOOD | {"images/train/b.png": PNG, "labels/train/b.txt": b""})),
    _taken("a box over the edge", lambda: label(b"0 0.95 0.5 0.2 0.2\n")),
    _taken("names of many scripts", lambda: packed(GOOD | {"images/train/Käfer 甲虫.png": PNG, "labels/train/Käfer 甲虫.txt": LABEL})),
    _taken("an archive behind a program", lambda: b"#!/bin/sh\nexit\n" * 99 + packed(GOOD)),
    _taken("an archive with a remark", lambda: commented(packed(GOOD), b"a remark of 40 characters, no more no less")),
    _taken("what systems leave behind", lambda: packed(GOOD | {"__MACOSX/images/train/._a.png": b"x", ".DS_Store": b"x"})),
]
# fmt: on
