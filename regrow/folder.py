"""A folder with a dataset in it, zipped to be sent."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from regrow.errors import FolderError

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
LABELS = frozenset({".txt", ".yaml", ".yml", ".json", ".xml", ".names", ".data"})
_TIME = (1980, 1, 1, 0, 0, 0)


@contextmanager
def zipped(path: Path) -> Iterator[Path]:
    """The path of a zip: `path` itself, or where that is a folder a temporary one of the images and label files in it.

    What begins with a dot stays out, and links to folders are not followed. Raises FolderError if there is no image.
    """
    if not path.is_dir():
        yield path
        return
    files = list(_files(path))
    if not any(file.suffix.lower() in IMAGES for file in files):
        raise FolderError(f"{path}: holds no image")
    with NamedTemporaryFile(prefix="regrow-", suffix=".zip") as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for file in files:
                with (
                    file.open("rb") as source,
                    archive.open(_member(file.relative_to(path)), "w", force_zip64=True) as to,
                ):
                    while chunk := source.read(2**20):
                        to.write(chunk)
        temporary.flush()
        yield Path(temporary.name)


def _files(folder: Path) -> Iterator[Path]:
    """In one order on every machine."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(at) / name
            if not name.startswith(".") and file.suffix.lower() in IMAGES | LABELS and file.is_file():
                yield file


def _member(path: Path) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(path.as_posix(), _TIME)
    member.external_attr = 0o644 << 16
    return member
