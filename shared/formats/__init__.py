"""Data sets in the formats people keep them in: read from an archive, and written by cloning the source's labels.

A format is a module of FORMATS:

- `sign(members)`: the member by which an archive is known to be of this format, or None.
- `read(archive)`: the set, as Contents.
- `variant_paths(image, label, stem_suffix, extension)`: where a variant of an image lies, and its labels.
- `without(header, gone, kept)`: a header that no longer names images that were taken out; both are splits by paths.
- `files(output)`: everything but the images of a set that is written: labels, cloned, and what describes the whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from shared.errors import BadArchive
from shared.formats import coco, darknet, voc, yolo
from shared.formats.faults import shown
from shared.formats.samples import Contents, Output
from shared.formats.zips import FOLDER_LENGTH, SafeZip

__all__ = ["FORMATS", "TITLES", "Format", "read"]


class Format(Protocol):
    """What a format's module can do."""

    def sign(self, members: Sequence[str]) -> str | None: ...
    def read(self, archive: SafeZip) -> Contents: ...
    def variant_paths(
        self, image: str, label: str | None, stem_suffix: str, extension: str, /
    ) -> tuple[str, str | None]: ...
    def without(self, header: bytes | None, gone: Mapping[str, str], kept: Mapping[str, str], /) -> bytes | None: ...
    def files(self, output: Output) -> Iterator[tuple[str, bytes]]: ...


# In the order in which an archive is asked: label files of YOLO make it YOLO, whatever else lies beside.
FORMATS: Mapping[str, Format] = MappingProxyType({"yolo": yolo, "coco": coco, "voc": voc, "darknet": darknet})
TITLES = {"yolo": "YOLO", "coco": "COCO", "voc": "Pascal VOC", "darknet": "YOLO with labels beside the images"}


def read(archive: SafeZip, kind: str | None = None) -> Contents:
    """Read a data set in whatever format it is, or in the one of FORMATS that `kind` names.

    An archive without any label is read as YOLO. Raises BadArchive, saying what was found and what is expected, and
    BadLabels, as the format's own `read` does.
    """
    signs = {name: sign for name, format in FORMATS.items() if (sign := format.sign(archive.members))}
    chosen = kind or next(iter(signs), "yolo")
    contents = FORMATS[chosen].read(archive)
    if long := next((split for split in contents.splits if len(split) > FOLDER_LENGTH), None):
        raise BadArchive(f"A split's name has {FOLDER_LENGTH} characters at most, and a split is called {shown(long)}.")
    return replace(contents, why=_why(signs, chosen, forced=kind is not None))


def _why(signs: Mapping[str, str], chosen: str, *, forced: bool) -> str:
    if forced:
        return f"{TITLES[chosen]}, as was asked for."
    if chosen not in signs:
        return f"{TITLES[chosen]}, since nothing points to another format."
    others = [f"{TITLES[name]} ({shown(sign)})" for name, sign in signs.items() if name != chosen]
    also = f" Not read, though also there: {', '.join(others)}." if others else ""
    return f"{TITLES[chosen]}, because of {shown(signs[chosen])}.{also}"
