"""What a data set is, whatever format it came in."""

from dataclasses import dataclass, field

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp"})


def is_image(path: str) -> bool:
    """By its extension, in upper or lower case."""
    _, dot, extension = path.rpartition(".")
    return bool(dot) and extension.lower() in IMAGE_EXTENSIONS


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled rectangle; `class_index` counts in `Contents.names`, x and y are shares of the image's width and
    height from its upper left corner: 0 <= x0 < x1 <= 1, 0 <= y0 < y1 <= 1. `outline` is the polygon it bounds, as x,
    y, x, y, ..., or None if the label is a rectangle itself."""

    class_index: int
    x0: float
    y0: float
    x1: float
    y1: float
    outline: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its labels.

    `image` and `label` are paths in the data set, `/` between folders, without folders that hold the whole archive;
    `member` is the image's name in the archive. `label` is None, and `label_bytes` with it, if there is no label file.
    `mask` is the name in the archive of the mask image that came with it, if one did.
    """

    split: str
    image: str
    member: str
    label: str | None
    label_bytes: bytes | None = field(repr=False)
    boxes: tuple[Box, ...]
    mask: str | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """A data set as it was uploaded.

    `layout` is the folder of a split's images, `{split}` standing for the split's name; without `{split}` there is one
    split, `train`. `names` are the classes in the upload's own order. `splits` are named as their folders are, in the
    archive's order. `header` is the file that describes the set, as it was. `warnings` are sentences for the user.
    """

    format: str
    layout: str
    names: tuple[str, ...]
    splits: tuple[str, ...]
    samples: tuple[Sample, ...] = field(repr=False)
    header: bytes | None = field(repr=False)
    warnings: tuple[str, ...]
