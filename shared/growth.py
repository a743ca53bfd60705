"""What a dataset has that the one it grew from has not, and the other way round.

An image is known by its bytes. The items of a job are known by the same (`spec.work_key`), so what counts here as
unchanged or moved is what a job with the same spec takes over.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.datasets import Contents, NewImage
from shared.models import Dataset, Image
from shared.states import DatasetState

LISTED = 20
"""How many examples are given of each thing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An image as it is compared. `labels` is equal of two images whose labels say the same."""

    path: str
    split: str
    sha256: str
    labels: tuple[object, ...]


def compared(session: Session, parent_id: str | None, contents: Contents) -> Contents:
    """The contents of an upload, with what its parent has not in their report; as they are if it named none."""
    if parent_id is None:
        return contents
    parent = session.get(Dataset, parent_id)
    if parent is None or parent.state != DatasetState.READY:
        said = f"Its parent {parent_id} was deleted meanwhile: nothing is compared."
        return replace(contents, warnings=[*contents.warnings, said])
    rows = session.scalars(select(Image).where(Image.dataset_id == parent_id).order_by(Image.id)).yield_per(1000)
    old = [_seen(row, parent.classes) for row in rows]
    new = [_seen(image, contents.classes) for image in contents.images]
    found = {"parent": parent_id, **difference(old, new)}
    return replace(contents, report={**contents.report, "difference": found})


def difference(old: Iterable[Seen], new: Iterable[Seen]) -> dict[str, Any]:
    """How `new` differs from `old`, as JSON.

    Images are paired by path and bytes, what is left by bytes alone, in order. A pair with other labels is
    `relabelled`; with the same labels but another path or split `moved`, else `unchanged`. What has no pair was
    `added`, or `removed`.
    """
    left = {image.path: image for image in old}
    pairs, fresh = list[tuple[Seen, Seen]](), list[Seen]()
    for image in new:
        was = left.get(image.path)
        if was is not None and was.sha256 == image.sha256:
            pairs.append((left.pop(image.path), image))
        else:
            fresh.append(image)
    by_bytes: dict[str, list[Seen]] = {}
    for was in left.values():
        by_bytes.setdefault(was.sha256, []).append(was)
    added = []
    for image in fresh:
        copies = by_bytes.get(image.sha256)
        if copies:
            was = next((copy for copy in copies if copy.labels == image.labels), copies[0])
            copies.remove(was)
            pairs.append((left.pop(was.path), image))
        else:
            added.append(image.path)
    same = [(was, image) for was, image in pairs if was.labels == image.labels]
    moved = [(was.path, image.path) for was, image in same if (was.path, was.split) != (image.path, image.split)]
    return {
        "unchanged": len(same) - len(moved),
        "moved": examples(moved),
        "relabelled": examples([image.path for was, image in pairs if was.labels != image.labels]),
        "added": examples(added),
        "removed": examples(list(left)),
    }


def _seen(image: Image | NewImage, classes: Sequence[str]) -> Seen:
    # The same numbers may be other classes by now.
    names = tuple(classes[int(index)] for index, *_ in image.boxes)
    labels = image.label_sha256, image.mask_sha256, image.upright, names
    return Seen(image.path, image.split, image.sha256, labels)


def examples(found: Sequence[Any]) -> dict[str, Any]:
    """How many there are, and the first of them, at most `LISTED`."""
    return {"count": len(found), "examples": list(found[:LISTED])}
