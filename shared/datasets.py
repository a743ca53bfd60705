"""The life of a dataset: `checking` until a worker has read it, then `ready` or `rejected`, and so it stays."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import case, func, insert, literal, select
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from shared import leases, trash
from shared.db import chunks
from shared.errors import Conflict, Fault, Invalid, NotFound
from shared.leases import Claim
from shared.models import Dataset, Image, Upload
from shared.reading import Reading
from shared.states import DatasetState
from shared.storage import SOURCES, upload_key

_MAX_PROBLEMS = 200
TODO = Dataset.state == DatasetState.CHECKING


@dataclass(frozen=True, slots=True)
class NewImage:
    """A checked image, as it becomes a row; `boxes` are [class index, x0, y0, x1, y1] in shares of the image, and
    `outlines` their polygons, as in `models.Image`."""

    path: str
    split: str
    sha256: str
    format: str
    mode: str
    width: int
    height: int
    size: int
    boxes: list[list[float]]
    label_path: str | None
    label: bytes | None
    label_sha256: str
    outlines: list[list[float] | None] = field(default_factory=list)
    mask_sha256: str | None = None
    group: str | None = None
    upright: bool = True
    likeness: bytes | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found in an upload."""

    format: str
    layout: str
    header: bytes | None
    classes: Sequence[str]
    splits: Sequence[str]
    warnings: Sequence[str]
    white: int
    images: Sequence[NewImage]
    report: Mapping[str, Any] = field(default_factory=dict)


def create(
    session: Session, owner: str, dataset_id: str, name: str, size: int, reading: Reading | None = None
) -> Dataset:
    """Write the row of an upload of `size` bytes, which lies in storage already: a worker may take it at once."""
    options = (reading or Reading()).model_dump(exclude_defaults=True)
    dataset = Dataset(id=dataset_id, owner=owner, name=name, upload_size=size, options=options)
    session.add(dataset)
    session.flush()
    return dataset


def get(session: Session, owner: str, dataset_id: str) -> Dataset:
    """The dataset, if it is the owner's.

    Raises:
        NotFound: it is not there, or not theirs.
    """
    dataset = session.get(Dataset, dataset_id)
    if dataset is None or dataset.owner != owner:
        raise NotFound(f"There is no dataset {dataset_id!r}.")
    return dataset


def get_ready(session: Session, owner: str, dataset_id: str) -> Dataset:
    """The same, if jobs may be made of it.

    Raises:
        Conflict: it is still being checked.
        Invalid: it was rejected.
    """
    dataset = get(session, owner, dataset_id)
    if dataset.state == DatasetState.CHECKING:
        raise Conflict(f"Dataset {dataset_id} is still being checked. Ask again when its state is `ready`.")
    if dataset.state == DatasetState.REJECTED:
        raise Invalid(f"Dataset {dataset_id} was rejected; GET /v1/datasets/{dataset_id} lists why.")
    return dataset


def check_parent(session: Session, owner: str, parent: str | None) -> None:
    """See that a dataset that is being uploaded can have grown from `parent`. Raises what `get_ready` raises, saying
    that it is about the parent."""
    if parent is None:
        return
    try:
        get_ready(session, owner, parent)
    except (NotFound, Conflict, Invalid) as error:
        raise type(error)(f"parent: {error.detail}", [Fault("parent", error.detail)]) from None


def get_image(session: Session, owner: str, dataset_id: str, image_id: int) -> Image:
    """An image of the owner's dataset.

    Raises:
        NotFound: the dataset is not theirs, or has no such image.
    """
    get(session, owner, dataset_id)
    image = session.get(Image, image_id)
    if image is None or image.dataset_id != dataset_id:
        raise NotFound(f"Dataset {dataset_id} has no image {image_id}.")
    return image


def long_side(session: Session, dataset: Dataset) -> int:
    """Median long side of its images, in pixels; 0 if there are none.

    Of a dataset that grew, that of the oldest it grew from and that is there: so the canvas that follows it stays, and
    what was made for the smaller set is taken over.
    """
    mine = Image.dataset_id == _oldest(session, dataset).id
    middle = (session.scalar(select(func.count()).where(mine)) or 1) - 1
    side = case((Image.width > Image.height, Image.width), else_=Image.height)
    return session.scalar(select(side).where(mine).order_by(side).offset(middle // 2).limit(1)) or 0


def delete(session: Session, dataset: Dataset) -> None:
    """Remove a dataset and its images; no job may be left of it. A worker that is checking it finds it gone."""
    for sha256 in (Image.sha256, Image.mask_sha256):
        key = SOURCES + func.substr(sha256, 1, 2) + "/" + sha256
        trash.throw(session, select(key).where(Image.dataset_id == dataset.id, sha256.is_not(None)).distinct())
    trash.throw(session, select(literal(upload_key(dataset.id))))
    session.execute(delete_rows(Upload).where(Upload.id == dataset.id))
    session.execute(delete_rows(Dataset).where(Dataset.id == dataset.id))
    session.expunge(dataset)


def claim(session: Session, lease: float) -> Claim | None:
    """Take the oldest dataset that waits to be checked."""
    return leases.claim(session, Dataset, TODO, lease)


def reading(session: Session, claim: Claim) -> Reading:
    """How the owner wants it to be read."""
    return Reading.model_validate(session.scalar(select(Dataset.options).where(Dataset.id == claim.id)) or {})


def accept(session: Session, claim: Claim, contents: Contents) -> bool:
    """The dataset is `ready`; False if the claim was lost meanwhile, and then nothing is written."""
    if not leases.settle(
        session,
        Dataset,
        claim,
        state=DatasetState.READY,
        format=contents.format,
        layout=contents.layout,
        header=contents.header,
        classes=list(contents.classes),
        splits=list(contents.splits),
        warnings=list(contents.warnings),
        white=contents.white,
        counts=counts(contents.splits, contents.classes, ((i.split, i.boxes) for i in contents.images)),
        report=dict(contents.report),
    ):
        return False
    for chunk in chunks(contents.images):
        session.execute(insert(Image), [_columns(image) | {"dataset_id": claim.id} for image in chunk])
    return True


def reject(session: Session, claim: Claim, detail: str, faults: Iterable[Fault]) -> bool:
    """The dataset cannot be used: `detail` says so in a sentence, `faults` name each place."""
    problems = [{"where": f.where, "what": f.what} for f in faults] or [{"where": "", "what": detail}]
    left_out = len(problems) - _MAX_PROBLEMS
    if left_out > 0:
        problems = [*problems[:_MAX_PROBLEMS], {"where": "", "what": f"and {left_out} more"}]
    return leases.settle(session, Dataset, claim, state=DatasetState.REJECTED, problems=problems)


def waiting(session: Session) -> bool:
    """Whether a dataset waits to be checked and nobody does."""
    return leases.waiting(session, Dataset, TODO)


def sweep(session: Session) -> int:
    """Give up on datasets that end their workers; returns how many."""
    problems = [{"where": "", "what": leases.GIVEN_UP}]
    return leases.give_up(session, Dataset, TODO, state=DatasetState.REJECTED, problems=problems)


def _oldest(session: Session, dataset: Dataset) -> Dataset:
    while parent_id := dataset.options.get("parent"):
        parent = session.get(Dataset, parent_id)
        if parent is None or parent.state != DatasetState.READY:
            break
        dataset = parent
    return dataset


def _columns(image: NewImage) -> dict[str, Any]:
    # `asdict` would copy each box.
    return {field.name: getattr(image, field.name) for field in fields(image)}


def counts(
    splits: Sequence[str], classes: Sequence[str], images: Iterable[tuple[str, list[list[float]]]]
) -> dict[str, object]:
    """What is in a dataset, from the split and the boxes of each image."""
    in_split = dict.fromkeys(splits, 0)
    boxes = {name: dict.fromkeys(splits, 0) for name in classes}
    unlabelled = 0
    for split, its in images:
        in_split[split] += 1
        unlabelled += not its
        for index, *_ in its:
            boxes[classes[int(index)]][split] += 1
    return {"images": in_split, "boxes": boxes, "unlabelled": unlabelled}
