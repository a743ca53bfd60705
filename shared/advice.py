"""What can be said of a job before anything runs: why it cannot work, and what its owner should know."""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

import numpy as np
from numpy.typing import NDArray

from shared import foreseen
from shared.errors import Invalid
from shared.foreseen import Foreseen
from shared.formats import places
from shared.images import can_hold
from shared.plan import USELESS
from shared.spec import PRESETS, ExpansionSpec, ResolvedSpec

_ENOUGH_FROM_NOISE = 100
"""Steps; with fewer most images do not converge, and with so many some (docs/method.md)."""


@dataclass(frozen=True, slots=True)
class Source:
    """An image of a dataset, as far as it matters to a job: a part of what its row takes, as there may be many.

    `boxes` holds five numbers a box, one behind the other, as `models.Image` has them; `white` is the grey value of it
    that is shown as white.
    """

    id: int
    path: str
    sha256: str
    label_sha256: str
    mask_sha256: str | None
    upright: bool
    format: str
    mode: str
    width: int
    height: int
    size: int
    white: int
    boxes: "array[float]"

    @property
    def corners(self) -> NDArray[np.float64]:
        """(n, 4): x0, y0, x1, y1 of each box, as shares of the image."""
        return np.reshape(self.boxes, (-1, 5))[:, 1:]


def flat(boxes: Iterable[Iterable[float]]) -> "array[float]":
    """Boxes as a `Source` has them."""
    return array("d", chain.from_iterable(boxes))


def chosen(spec: ExpansionSpec, found: Sequence[Source]) -> list[Source]:
    """Those of the images that the spec expands, in their order. With `max_images` each class has its turn, so that a
    few images show all classes; what is chosen for a smaller number is chosen for a larger one too."""
    wanted = [image for image in found if image.boxes or spec.unlabelled != "skip"]
    if spec.max_images is None or len(wanted) <= spec.max_images:
        return wanted
    by_class: dict[float, list[int]] = {}
    for number, image in enumerate(wanted):
        for index in set(image.boxes[::5]) or {-1.0}:  # without a label is a class too
            by_class.setdefault(index, []).append(number)
    in_turn = chain.from_iterable(zip_longest(*(by_class[index] for index in sorted(by_class))))
    turns = dict.fromkeys(number for number in in_turn if number is not None)
    return [wanted[number] for number in sorted(islice(turns, spec.max_images))]


def refuse(resolved: ResolvedSpec, images: Sequence[Source]) -> None:
    """Raises Invalid if a job on `images` is certain to fail: the file format cannot hold them, a mask is missing, or
    it is useless for all of them."""
    wanted = resolved.image_format
    unfit = [image for image in images if wanted != "same" and not can_hold(wanted.upper(), image.mode)]
    if unfit:
        raise Invalid(
            f"output.image_format: {wanted} cannot hold {len(unfit)} of the images, such as {unfit[0].path} of mode "
            f"{unfit[0].mode}. Choose png or same."
        )
    if resolved.mask is not None and resolved.mask.kind == "uploaded":
        without = [image for image in images if image.mask_sha256 is None and not _copied(resolved, image)]
        if without:
            raise Invalid(
                f"operator.mask: `uploaded` needs a mask image for each image, and {len(without)} of {len(images)} "
                f"have none, the first being {without[0].path}. It belongs in a folder `masks` laid out as `labels` "
                "is, as a PNG of the same name."
            )
    useless = _useless(resolved, images)
    if len(useless) == len(images):
        _, reason = useless[0]
        raise Invalid(f"operator.mask: nothing can be made of any image: {reason.why}. {USELESS[reason.kind]}")


def refuse_conversion(wanted: str, stored: Sequence[str]) -> None:
    """Raises Invalid if labels cannot be converted: those of images, given by their paths, that EXIF turns and their
    labels do not. The readers of another format would turn the originals."""
    if stored:
        raise Invalid(
            f"output.format: {wanted} is not possible: the labels of {len(stored)} images, such as {stored[0]}, are "
            "for pixels as they are stored, and its readers turn images by EXIF. Turn the images, or choose same."
        )


def warnings(
    spec: ExpansionSpec, resolved: ResolvedSpec, found: Sequence[Source], images: Sequence[Source]
) -> list[str]:
    """Sentences about a job on `images`, chosen from those that were `found` in its splits."""
    mask = resolved.mask
    said = []
    unlabelled = sum(not image.boxes for image in found)
    if unlabelled and spec.unlabelled == "skip":
        said.append(f"{unlabelled} images without a label are not expanded.")
    if mask is not None and mask.changes_labels:
        said.append(
            f"The mask `{mask.kind}` hides what is labelled, and labels are copied all the same: they may be wrong. "
            "Look at the new images before you train on them."
        )
    if useless := _useless(resolved, images):
        image, reason = useless[0]
        said.append(f"{len(useless)} images will fail, such as {image.path}: {reason.why}. {USELESS[reason.kind]}")
    wanted = spec.output.image_format
    lossy = sum((image.format if wanted == "same" else wanted.upper()) == "JPEG" for image in images)
    if lossy and resolved.blend != "none":
        said.append(
            f"{lossy} images are written as JPEG, which changes the pixels copied from the originals a little: see "
            "`largest_difference` of the items. `output.image_format: png` keeps them exactly."
        )
    return said + _of_the_boxes(resolved, images) + _of_the_sampler(resolved, images)


def known_to_the_prior(images: Iterable[tuple[str, str]], learned: Set[str]) -> list[str]:
    """Sentences about images, given as split and hash, that are kept apart from training and yet trained the prior."""
    known = Counter(split for split, sha256 in images if sha256 in learned and places.role(split) != "train")
    return [
        f"{count} of your {split} images trained this prior: it may draw them from memory, and what a detector scores "
        "on them is too good."
        for split, count in sorted(known.items())
    ]


def _of_the_boxes(resolved: ResolvedSpec, images: Sequence[Source]) -> list[str]:
    """What becomes of labelled boxes in their new surroundings."""
    if not any(image.boxes for image in images):
        return []
    if resolved.blend == "none":
        return [
            "`blend: none` copies nothing from the originals: what is labelled is drawn anew too, and labels may no "
            "longer fit. See `psnr_boxes` of the items; `blend: boxes` keeps labelled pixels as they are."
        ]
    if resolved.grain:
        return []
    return [
        "`grain: false` leaves labelled boxes sharper than what is regrown around them, a hint that a detector can "
        "learn: expect a `box_tell` of 2 and more, where 1 is none."
    ]


def _of_the_sampler(resolved: ResolvedSpec, images: Sequence[Source]) -> list[str]:
    said = []
    shrunk = [image for image in images if max(image.width, image.height) > 1.5 * resolved.long_side]
    if shrunk:
        grain = "with noise in place of detail" if resolved.grain else "which a detector can learn as a hint"
        softer = "blurred, labelled or not" if resolved.blend == "none" else f"softer than the labelled boxes, {grain}"
        helps = min(max(max(image.width, image.height) for image in shrunk), 2048) // resolved.multiple
        said.append(
            f"{len(shrunk)} images are more than 1.5 times larger than the {resolved.long_side}-px canvas: what is "
            f"regrown will be {softer}. `canvas.long_side: {helps * resolved.multiple}` "
            "makes it sharper; the time of an image grows with its pixels."
        )
    enough = PRESETS[resolved.preset.partition("@")[0]].steps if resolved.enter < 1 else _ENOUGH_FROM_NOISE
    if resolved.steps < enough:
        said.append(
            f"{resolved.steps} steps are few, {enough} would be better: many images will not converge, and come out "
            "grey and blurred. Look at `psnr_kept` of the first items."
        )
    return said


def _copied(resolved: ResolvedSpec, image: Source) -> bool:
    return resolved.unlabelled == "keep" and not image.boxes


def _useless(resolved: ResolvedSpec, images: Sequence[Source]) -> list[tuple[Source, Foreseen]]:
    """Those that are certain to fail by their mask."""
    found = ((image, foreseen.useless(resolved, image.corners, image.width, image.height)) for image in images)
    return [(image, reason) for image, reason in found if reason is not None]
