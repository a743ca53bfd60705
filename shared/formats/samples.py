"""What a data set is, whatever format it came in."""

from collections.abc import Sequence
from dataclasses import dataclass, field

IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp"})
MAX_SIDE = 2**31 - 1
"""Of an image, in pixels, as a label file may have it; the image itself has limits of its own."""


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
class Size:
    """What a label file says of its image's size, in pixels; `where` names the place."""

    width: int
    height: int
    where: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its labels.

    `image` and `label` are paths in the data set, `/` between folders, without folders that hold the whole archive;
    `member` is the image's name in the archive. `label` is the file its labels are in, None if there is none.
    `label_bytes`, the image's record, is that file, or of a file that many images share what belongs to this one, in a
    form of the format's own; None if there is none.
    `mask` is the name in the archive of the mask image that came with it, if one did. `size` is None where the labels
    do not say it. `identity` is what of the record makes the labels what they are, where that is not all of it.
    """

    split: str
    image: str
    member: str
    label: str | None
    label_bytes: bytes | None = field(repr=False)
    boxes: tuple[Box, ...]
    mask: str | None = None
    size: Size | None = None
    identity: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Contents:
    """A data set as it was uploaded.

    `layout` is the folder of a split's images, or where a format has none, that of its label files, `{split}` standing
    for the split's name; without `{split}` the folders do not tell splits apart. `names` are the classes in the
    upload's own order. `splits` are named as in the upload. `header` is what describes the set as a whole, in a form of
    the format's own. `warnings` are sentences for the user. `labels` says in a word what the labels are; `why` in a
    sentence why the set was taken for this format. `unpaired` are files that say something of images that are not
    there, and images that no label file speaks of where it would have to.
    """

    format: str
    layout: str
    names: tuple[str, ...]
    splits: tuple[str, ...]
    samples: tuple[Sample, ...] = field(repr=False)
    header: bytes | None = field(repr=False)
    warnings: tuple[str, ...]
    labels: str = "boxes"
    why: str = ""
    unpaired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a set that is written: an original, or a variant of one. `source` is the original's path, `record`
    its `label_bytes`; `width` and `height` are its size in pixels, `depth` how
    many channels it has."""

    image: str
    split: str
    label: str | None
    record: bytes | None = field(repr=False)
    source: str
    boxes: tuple[Box, ...] = field(repr=False, default=())
    width: int = 0
    height: int = 0
    depth: int = 3

    @property
    def is_variant(self) -> bool:
        return self.image != self.source


@dataclass(frozen=True, slots=True)
class Output:
    """A set that is written; `layout`, `names`, `splits` and `header` as in Contents."""

    layout: str
    names: Sequence[str]
    splits: Sequence[str]
    header: bytes | None = field(repr=False)
    entries: Sequence[Entry] = field(repr=False)

    @property
    def has_originals(self) -> bool:
        return any(not entry.is_variant for entry in self.entries)
