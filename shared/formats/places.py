"""Where the images of a set lie whose labels name them: found by what is written, in whatever folders they came."""

import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from shared.formats.samples import is_image

OWN_FOLDERS = frozenset(
    {"images", "labels", "masks", "annotations", "jpegimages", "imagesets", "obj_train_data", "obj_valid_data"}
)
"""Folders that are part of a set's layout, and not around it; in lower case."""

DEEPEST, MANY = 32, 1000
"""How many folders of a path are looked at, and how many images that end alike: enough, and never the square of all."""

ROLES = ("train", "val", "test")
# train, train2017, training; val, valid, validation_1; test, testing: whole words, since "valve" is no validation set.
ROLE_NAME = re.compile(r"(train|val|test)(ing|id|idation)?[-_ ]?\d*", re.ASCII | re.IGNORECASE)


def role(split: str) -> str | None:
    """What a split is for, by its name: one of ROLES, or None."""
    match = ROLE_NAME.fullmatch(split)
    return match[1].lower() if match else None


def top(members: Sequence[str]) -> str:
    """The folders that hold the whole archive and are no part of the set's layout, as a prefix of member names."""
    around = []
    for folder in posixpath.commonpath([posixpath.dirname(name) for name in members]).split("/"):
        if not folder or folder.lower() in OWN_FOLDERS or role(folder):
            break
        around.append(folder)
    return "".join(f"{folder}/" for folder in around)


def by_folder(image: str) -> str:
    """An image's split by the folders it lies in; `train` where none is called as one."""
    return next((folder for folder in reversed(image.split("/")[:-1]) if role(folder)), "train")


def layout(images: Iterable[tuple[str, str]], *, by_folder: bool) -> str:
    """The folder that images lie in, given with their splits: {split} in the split's place if that is `by_folder`."""
    patterns = set()
    for image, split in images:
        folders = image.split("/")[:-1]
        patterns.add("/".join("{split}" if by_folder and part == split else part for part in folders))
    return patterns.pop() if len(patterns) == 1 else posixpath.commonpath([f"./{each}" for each in patterns])[2:]


def mask_path(image: str) -> str:
    """Where an image's keep mask is looked for: its last folder `images` or `JPEGImages` becomes `masks`; where it lies
    in none, its folders lie in `masks`. The extension is .png."""
    stem, _, _ = image.rpartition(".")
    folders = stem.split("/")
    for at in range(len(folders) - 2, -1, -1):
        if folders[at] in ("images", "JPEGImages"):
            return "/".join([*folders[:at], "masks", *folders[at + 1 :]]) + ".png"
    return f"masks/{stem}.png"


def pictures(members: Sequence[str]) -> list[str]:
    """The images of an archive that are no other's keep mask."""
    keep_masks = frozenset(map(mask_path, filter(is_image, members)))
    return [name for name in members if is_image(name) and name not in keep_masks]


def without_train(splits: Iterable[str]) -> list[str]:
    """The warning for a set that has no split to be expanded."""
    if "train" in map(role, splits):
        return []
    return ["No split is called train, so nothing is expanded unless the job names another split."]


class Finder:
    """Finds the image that a label file means, by the end of its path."""

    def __init__(self, images: Iterable[str]) -> None:
        self._images = {_plain(image): image for image in images}
        self._by_end: dict[int, dict[str, list[str]]] = {}

    def find(self, written: str, beside: str, split: str) -> tuple[list[str], bool]:
        """The images that `written`, a path or a bare name, can mean, and whether all of it counted.

        `beside` is the folder of the file it is written in. The longest end of the path that fits decides, since it may
        be that of another machine; among those that fit alike, one below `beside`, then one in a folder called as the
        split. Several are returned where nothing tells them apart.
        """
        parts = [part for part in re.split(r"[\\/]", _plain(written)) if part not in ("", ".", "..")]
        path = "/".join(parts)
        exact = self._images.get(f"{_plain(beside)}/{path}" if beside else path)
        # A bare name says nothing of where it lies.
        exact = exact or (self._images.get(path) if len(parts) > 1 else None)
        if exact:
            return [exact], True
        for length in range(min(len(parts), DEEPEST), 0, -1):
            fits = self._ends(length).get("/".join(parts[-length:]), [])
            if fits:
                return _nearest(fits, split), length == len(parts)
        return [], False

    def _ends(self, length: int) -> Mapping[str, list[str]]:
        """The images by the last `length` parts of their paths, at most MANY of each."""
        if length not in self._by_end:
            ends: dict[str, list[str]] = {}
            for plain, image in self._images.items():
                parts = plain.split("/")
                if len(parts) >= length and len(found := ends.setdefault("/".join(parts[-length:]), [])) < MANY:
                    found.append(image)
            self._by_end[length] = ends
        return self._by_end[length]


def _nearest(fits: list[str], split: str) -> list[str]:
    for called in ({split}, {role(split)} - {None}):
        if len(fits) > 1:
            fits = [image for image in fits if called & _called(image)] or fits
    return fits


def _called(image: str) -> set[str | None]:
    """What the folders of an image are called, and the roles that such splits have."""
    folders = image.split("/")[:-1]
    return {*folders, *map(role, folders)} - {None}


def _plain(path: str) -> str:
    # macOS writes accents in two characters, what was written elsewhere has one.
    return unicodedata.normalize("NFC", path)
