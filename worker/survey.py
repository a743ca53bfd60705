"""What is seen in a dataset beside its counts: the report its owner reads before paying for a job."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared.datasets import NewImage
from shared.errors import Fault
from shared.formats.faults import shown, some
from shared.formats.samples import Contents
from shared.growth import examples
from shared.images import Examined


@dataclass(frozen=True, slots=True)
class Look:
    """What is noted of an image, a few dozen bytes: `pixels` is a hash of them, `deepest` the largest value where they
    have 16 bits."""

    pixels: bytes
    metadata: frozenset[str]
    upright: bool
    deepest: int


def look(examined: Examined) -> Look:
    image = examined.image
    # The fastest there is; who makes two pictures collide on purpose gets a wrong warning.
    pixels = hashlib.sha1(f"{image.mode} {image.size}".encode(), usedforsecurity=False)
    pixels.update(image.tobytes())
    deepest = int(np.asarray(image).max()) if image.mode == "I;16" else 0
    return Look(pixels.digest(), examined.metadata, examined.upright, deepest)


@dataclass
class Survey:
    """Collects what is seen, image by image: a few dozen bytes for each."""

    _by_pixels: dict[bytes, list[int]] = field(default_factory=dict)
    _metadata: Counter[str] = field(default_factory=Counter)
    _turned: int = 0
    deepest: int = 0
    """The largest value of all 16-bit images; 0 if there are none."""
    plain: list[str] = field(default_factory=list)
    """The mask images that keep everything or nothing."""

    def note(self, number: int, seen: Look) -> None:
        """Note image `number` in the order of the rows."""
        self._by_pixels.setdefault(seen.pixels, []).append(number)
        self._metadata.update(seen.metadata)
        self._turned += not seen.upright
        self.deepest = max(self.deepest, seen.deepest)

    def report(
        self, found: Contents, images: Sequence[NewImage], skipped: Sequence[Fault]
    ) -> tuple[dict[str, Any], list[str]]:
        """The report, as JSON, and the warnings that follow from it."""
        within, across = self._duplicates(images)
        groups = _groups(images)
        report = {
            "why": found.why,
            "labels": found.labels,
            "without_labels": dict(Counter(image.split for image in images if not image.boxes)),
            "sizes": _sizes(images),
            "metadata": dict(sorted(self._metadata.items())),
            "duplicates": {"within": examples(within), "across": examples(across)},
            "groups": groups,
            "unpaired": examples([shown(name) for name in found.unpaired]),
            "skipped": examples([{"where": fault.where, "what": fault.what} for fault in skipped]),
        }
        return report, list(self._warnings(skipped, within, across, groups))

    def _duplicates(self, images: Sequence[NewImage]) -> tuple[list[list[str]], list[list[str]]]:
        """Images of the same pixels, whatever their bytes: those of one split, and those of several."""
        within, across = list[list[str]](), list[list[str]]()
        for numbers in self._by_pixels.values():
            if len(numbers) > 1:
                splits = {images[number].split for number in numbers}
                (across if len(splits) > 1 else within).append([images[number].path for number in numbers])
        return within, across

    def _warnings(
        self,
        skipped: Sequence[Fault],
        within: Sequence[list[str]],
        across: Sequence[list[str]],
        groups: Mapping[str, Any] | None,
    ) -> list[str]:
        said = []
        if skipped:
            named = some([fault.where for fault in skipped])
            said.append(f"{len(skipped)} images cannot be used and are left out: {named}.")
        if across:
            said.append(
                f"{len(across)} images are in several splits, pixel by pixel, such as {some(across[0])}: a detector is "
                "judged on what it has learned from."
            )
        if within:
            said.append(f"{len(within)} images are there several times in one split, such as {some(within[0])}.")
        if self.plain:
            said.append(
                f"{len(self.plain)} mask images are all white or all black, such as {some(self.plain)}: with the mask "
                "`uploaded` nothing can be made of their images."
            )
        if self._turned:
            said.append(
                f"{self._turned} images are turned by EXIF, but their labels are for the pixels as they are stored: "
                "they are taken that way."
            )
        if groups and groups["across"]["count"]:
            said.append(
                f"Groups in several splits: {groups['across']['count']} ({some(groups['across']['examples'])})."
            )
        if groups and groups["without"]:
            said.append(f"group_pattern finds nothing in the paths of {groups['without']} images.")
        return said


def _sizes(images: Sequence[NewImage]) -> dict[str, list[int]]:
    """Width and height of the smallest, the median and the largest image, by their area."""
    ordered = sorted((image.width * image.height, image.width, image.height) for image in images)
    at = {"smallest": 0, "median": len(ordered) // 2, "largest": len(ordered) - 1}
    return {name: list(ordered[index][1:]) for name, index in at.items()}


def _groups(images: Sequence[NewImage]) -> dict[str, Any] | None:
    splits: dict[str, set[str]] = {}
    for image in images:
        if image.group is not None:
            splits.setdefault(image.group, set()).add(image.split)
    without = sum(image.group is None for image in images)
    if not splits and without == len(images):
        return None
    return {
        "count": len(splits),
        "without": without,
        "across": examples([group for group, its in splits.items() if len(its) > 1]),
    }
