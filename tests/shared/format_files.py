"""Data sets as files in memory, for the tests of the formats."""

import io
import zipfile
from collections.abc import Iterable, Mapping

from shared import formats
from shared.formats.samples import Contents, Entry, Output
from shared.formats.zips import SafeZip


def zipped(files: Mapping[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer


def read(files: Mapping[str, bytes], kind: str | None = None) -> Contents:
    with SafeZip(zipped(files)) as opened:
        return formats.read(opened, kind)


def originals(contents: Contents) -> list[Entry]:
    """What the set is written from."""
    sizes = {sample.image: sample.size for sample in contents.samples}
    return [
        Entry(
            image=sample.image,
            split=sample.split,
            label=sample.label,
            record=sample.label_bytes,
            source=sample.image,
            boxes=sample.boxes,
            width=size.width if (size := sizes[sample.image]) else 100,
            height=size.height if size else 100,
        )
        for sample in contents.samples
    ]


def variant(contents: Contents, of: Entry, suffix: str = "_rg1", extension: str = "png") -> Entry:
    image, label = formats.FORMATS[contents.format].variant_paths(of.image, of.label, suffix, extension)
    return Entry(image, of.split, label if of.record is not None else None, of.record, of.source, of.boxes)


def written(contents: Contents, entries: Iterable[Entry]) -> dict[str, bytes]:
    """A set's files, images included: an image's bytes are its source's path."""
    entries = list(entries)
    splits = tuple(dict.fromkeys(entry.split for entry in entries))
    output = Output(contents.layout, contents.names, splits, contents.header, entries)
    files = dict(formats.FORMATS[contents.format].files(output))
    return files | {entry.image: entry.source.encode() for entry in entries}
