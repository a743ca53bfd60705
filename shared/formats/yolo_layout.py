"""Where the images and labels of a YOLO set lie in its archive."""

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.errors import BadArchive
from shared.formats.faults import some
from shared.formats.places import role
from shared.formats.samples import is_image
from shared.formats.yolo_yaml import Description

EXPECTED = """Expected, also inside other folders, is for example:
  data.yaml
  images/train/a.jpg
  images/val/b.jpg
  labels/train/a.txt
  labels/val/b.txt
or train/images, train/labels and so on."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """`splits` gives each image's split by its member name, in the archive's order; `top` is the folder around
    everything, as a prefix of member names; `layout` is as in Contents; `outside` are images that do not lie in it."""

    layout: str
    top: str
    splits: dict[str, str]
    warnings: tuple[str, ...]
    outside: tuple[str, ...]


def label_path(image: str) -> str:
    """Where Ultralytics looks for an image's labels: the last folder `images` becomes `labels`, the extension .txt."""
    return _beside(image, "labels", ".txt")


def mask_path(image: str) -> str:
    """Where an image's keep mask is looked for: as `label_path`, in `masks`, with the extension .png."""
    return _beside(image, "masks", ".png")


def masks(members: Iterable[str]) -> frozenset[str]:
    """The members that are keep masks of others."""
    members = frozenset(members)
    images = (name for name in members if is_image(name) and "images" in name.split("/")[:-1])
    return frozenset(map(mask_path, images)) & members


def _beside(image: str, folder: str, extension: str) -> str:
    folders, _, name = image.rpartition("/")
    before, images, after = f"/{folders}/".rpartition("/images/")
    if not images:
        raise ValueError(f"{image}: lies in no folder called images")
    return f"{before}/{folder}/{after}".lstrip("/") + name.rpartition(".")[0] + extension


def find(members: Sequence[str], description: Description, described_in: str) -> Arrangement:
    """Find the images; a mask of another image is none. `described_in` is the data.yaml that `description` was read
    from, "" if there is none.

    Raises BadArchive, saying what was found and what is expected, if there are no images or it is not clear which of
    several arrangements is meant.
    """
    keep_masks = masks(members)
    images = [name for name in members if is_image(name) and name not in keep_masks]
    declared = _declared(images, description, posixpath.dirname(described_in))
    layout = _choose(images, declared)
    splits = {name: split for name in images if (split := _split(layout, name)) is not None}
    warnings = list(_disagreements(splits, layout, declared, description))
    outside = [name for name in images if name not in splits]
    if outside:
        warnings.append(f"{len(outside)} images lie outside {layout} and are left out: {some(outside)}.")
    if "train" not in {role(split) for split in splits.values()}:
        warnings.append("No folder is called train: a job must name the splits that it expands.")
    top = _top(members, layout)
    return Arrangement(layout.removeprefix(top), top, splits, tuple(warnings), tuple(outside))


def _layout(image: str) -> str | None:
    """The arrangement an image seems to lie in: .../images/{split}, .../{split}/images, or .../images."""
    folders = image.split("/")[:-1]
    if "images" not in folders:
        return None
    at = len(folders) - 1 - folders[::-1].index("images")
    before, after = folders[:at], folders[at + 1 :]
    if after and role(after[0]):
        return "/".join([*before, "images", "{split}"])
    if before and role(before[-1]):
        return "/".join([*before[:-1], "{split}", "images"])
    return "/".join([*before, "images"])


def _split(layout: str, image: str) -> str | None:
    """The split of an image in this layout; None if it lies outside."""
    if "{split}" not in layout:
        return "train" if image.startswith(layout + "/") else None
    before, after = layout.split("{split}")
    match = re.match(re.escape(before) + "([^/]+)" + re.escape(after) + "/", image)
    return match[1] if match else None


def _choose(images: Sequence[str], declared: dict[str, list[str]]) -> str:
    """The one layout that is meant: with split folders before without, then the one that data.yaml points to."""
    if not images:
        raise BadArchive(f"The archive holds no image. {EXPECTED}")
    by_layout: dict[str, list[str]] = {}
    for image in images:
        if layout := _layout(image):
            by_layout.setdefault(layout, []).append(image)
    if not by_layout:
        found = f"{len(images)} images ({some(list(images), 2)}), none in a folder called images"
        raise BadArchive(f"The archive holds {found}. {EXPECTED}")
    layouts = [layout for layout in by_layout if "{split}" in layout] or list(by_layout)
    if len(layouts) > 1:
        folders = tuple(f"{folder}/" for found in declared.values() for folder in found)
        layouts = [layout for layout in layouts if any(i.startswith(folders) for i in by_layout[layout])] or layouts
    if len(layouts) > 1:
        found = ", ".join(f"{len(by_layout[layout])} in {layout}" for layout in layouts[:5])
        raise BadArchive(
            f"Images lie in more than one arrangement ({found}). Upload one data set at a time. {EXPECTED}"
        )
    return layouts[0]


def _declared(images: Iterable[str], description: Description, beside: str) -> dict[str, list[str]]:
    """The folders data.yaml gives for train, val and test, as far as they are found in the archive."""
    folders = {image[:end] for image in images for end, c in enumerate(image) if c == "/"}
    declared: dict[str, list[str]] = {}
    for key, entries in description.folders.items():
        for written in entries:
            entry = written.replace("\\", "/")
            inside = re.sub(r"^(\.{1,2}/)+", "", entry)
            # As written, relative to the yaml, and, for exports that point one folder too high, without `../`.
            places = [
                entry,
                f"{beside}/{description.root}/{entry}",
                f"{beside}/{entry}",
                f"{beside}/{inside}",
            ]
            found = (posixpath.normpath(place.lstrip("/")) for place in places)
            declared.setdefault(key, []).extend([folder for folder in found if folder in folders][:1])
    return declared


def _disagreements(
    splits: dict[str, str], layout: str, declared: dict[str, list[str]], description: Description
) -> Iterable[str]:
    """Where data.yaml divides the images otherwise than the folders do. Raises BadArchive if only data.yaml does."""
    advice = "Put the images of each part into a folder called train, val or test."
    flat = "{split}" not in layout
    for key, entries in description.folders.items():
        if lists := [entry for entry in entries if entry.endswith(".txt")]:
            if flat:
                raise BadArchive(f"data.yaml divides {layout} by lists of images ({some(lists)}). {advice}")
            yield f"data.yaml lists images in {some(lists)}; the folders count, not the lists."
        for folder in declared.get(key, []):
            if flat and not f"{layout}/".startswith(f"{folder}/"):
                raise BadArchive(f"data.yaml takes {folder} for {key}, which its name does not tell. {advice}")
            found = {split for image, split in splits.items() if image.startswith(f"{folder}/")}
            if not flat and any(role(split) != key for split in found):
                yield f"data.yaml takes {folder} for {key}; the folder's name counts: {', '.join(sorted(found))}."


def _top(members: Sequence[str], layout: str) -> str:
    """The folders that hold the whole archive and are no part of the layout, as a prefix."""
    common = posixpath.commonpath([posixpath.dirname(name) for name in members]).split("/")
    own = 2 if "{split}" in layout else 1
    shared = common[: len(layout.split("/")) - own]
    return "".join(f"{folder}/" for folder in shared if folder)
