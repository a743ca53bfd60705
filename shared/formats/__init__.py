"""Data sets in the formats people keep them in: read from an archive, and written by cloning the source's labels."""

from shared.errors import BadArchive
from shared.formats import yolo
from shared.formats.faults import shown
from shared.formats.samples import Contents
from shared.formats.zips import SafeZip

__all__ = ["read"]


def read(archive: SafeZip) -> Contents:
    """Read a data set in whatever format it is.

    A label file or a data.yaml makes it YOLO, whatever else lies beside. Raises BadArchive, saying what was found, for
    a format that is not read, and what the format's own `read` raises.
    """
    if not any(_is_yolo(name) for name in archive.members):
        for looks_like, is_sign in (("COCO", _is_coco), ("Pascal VOC", _is_voc)):
            if sign := next((name for name in archive.members if is_sign(name)), None):
                raise BadArchive(f"This looks like {looks_like} ({shown(sign)}); only YOLO is read so far.")
    return yolo.read(archive)


def _is_yolo(name: str) -> bool:
    *folders, file = name.split("/")
    return file.lower() in ("data.yaml", "data.yml") or (file.endswith(".txt") and "labels" in folders)


def _is_coco(name: str) -> bool:
    *folders, file = name.split("/")
    return file.endswith(".coco.json") or (file.endswith(".json") and "annotations" in folders)


def _is_voc(name: str) -> bool:
    return name.endswith(".xml")
