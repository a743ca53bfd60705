"""Pictures to train on, from files: those in a folder, or those of a data set's split `train`."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from shared import disk, images
from shared.formats import read
from shared.formats.samples import Sample
from shared.formats.zips import Limits, SafeZip
from worker.training.pictures import Loader

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_LIMITS = Limits(members=100_000, bytes=2**36)


@dataclass(frozen=True, slots=True)
class Source:
    """An image file: the hash of its bytes, how to decode it, and what it shows."""

    sha256: str
    load: Loader
    classes: tuple[str, ...] = ()


def sources(path: Path) -> Iterator[Source]:
    """Of a folder, with those below it, or of a data set's archive. What reading it raises passes through."""
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES):
            yield Source(disk.sha256(file), partial(_from_file, file))
        return
    with SafeZip(path, _LIMITS) as archive:
        contents = read(archive)
        for sample in contents.samples:
            if sample.split == "train":
                data = archive.read(sample.member)
                shown = tuple(contents.names[index] for index in sorted({box.class_index for box in sample.boxes}))
                yield Source(hashlib.sha256(data).hexdigest(), partial(_from_zip, path, sample), shown)


def _from_file(path: Path) -> Image.Image:
    return images.open_image(path.read_bytes(), str(path))


def _from_zip(path: Path, sample: Sample) -> Image.Image:
    with SafeZip(path, _LIMITS) as archive:
        return images.open_image(archive.read(sample.member), sample.image)
