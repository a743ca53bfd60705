"""Images are forgotten: they and all that came from them go, and a receipt says what that was.

The rows go in one transaction, which notes the files beside (`trash`): whatever dies then, the sweep removes them. A
worker that is making a variant of such an image finds that its claim is lost, and goes on with what else it has.
"""

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete as delete_rows
from sqlalchemy import func, select
from sqlalchemy.orm import Session, undefer

from shared import archives, datasets, priors, trash
from shared.db import chunks
from shared.errors import Conflict, NotFound
from shared.formats import FORMATS
from shared.formats.faults import shown
from shared.models import Archive, Dataset, Image, Item, Job, Prior, Receipt, Training, Trash
from shared.states import ArchiveState, DatasetState, ItemState, TrainingState
from shared.storage import source_key, upload_key

FORGOTTEN = "(forgotten)"
"""What stands in reports and warnings in place of a name."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Which images of a dataset are meant: those whose path fits `match`, or those of a `group`.

    `match` is compared with the whole path, or, if it has no slash, with the name of the file. `*` stands for any
    characters, slashes among them, and `?` for one; all others stand for themselves. `everywhere`: copies of the same
    bytes are meant too, in whichever of the owner's datasets.
    """

    match: str | None = None
    group: str | None = None
    everywhere: bool = False

    def fits(self) -> Callable[[str, str | None], bool]:
        """Whether an image of some path and group is meant."""
        if self.match is None:
            return lambda _path, group: group is not None and group == self.group
        pattern = re.compile(fnmatch.translate(self.match.replace("[", "[[]")))
        whole = "/" in self.match
        return lambda path, _group: pattern.match(path if whole else path.rpartition("/")[2]) is not None


@dataclass(frozen=True, slots=True)
class Found:
    """What a wish comes to: the rows of the images, those of their items, copies that stay, and files that go."""

    images: tuple[Image, ...]
    items: tuple[Item, ...]
    copies: tuple[Image, ...]
    jobs: tuple[str, ...]
    """All jobs of the datasets that lose an image: their archives hold originals too."""
    archives: tuple[str, ...]
    files: tuple[str, ...]


def look(session: Session, owner: str, by: str, dataset_id: str, wish: Wish) -> dict[str, Any]:
    """What `forget` would remove, as its receipt would say it. `by` is who wishes it.

    Raises:
        NotFound, Conflict, Invalid: the dataset is not there, not checked yet, or rejected.
    """
    dataset = datasets.get_ready(session, owner, dataset_id)
    return _told(session, dataset, by, wish, _find(session, dataset, wish))


def forget(session: Session, owner: str, by: str, dataset_id: str, wish: Wish) -> Receipt | None:
    """Remove images and all that came from them; None if none is meant. Raises what `look` raises, and Conflict while
    there is a training on the dataset that is not done.

    What is left of their jobs goes on; `jobs.conclude` ends those of which nothing is left to make.
    """
    dataset = datasets.get_ready(session, owner, dataset_id)
    _lock(session, owner, dataset, wish)
    found = _find(session, dataset, wish)
    if not found.images:
        return None
    _refuse_while_learning(session, sorted({image.dataset_id for image in found.images}))
    body = _told(session, dataset, by, wish, found)
    receipt = Receipt(owner=owner, dataset_id=dataset_id, body=body)
    session.add(receipt)
    session.flush()
    trash.throw_for(session, receipt.id, found.files)
    gone = [image.id for image in found.images]
    for chunk in chunks(gone):
        session.execute(delete_rows(Item).where(Item.image_id.in_(chunk)).execution_options(synchronize_session=False))
    _rebuild_archives(session, found.jobs)
    by_dataset: dict[str, list[Image]] = {}
    for image in found.images:
        by_dataset.setdefault(image.dataset_id, []).append(image)
    for chunk in chunks(gone):
        session.execute(delete_rows(Image).where(Image.id.in_(chunk)).execution_options(synchronize_session=False))
    for each, images in by_dataset.items():
        _shrink(session, session.get_one(Dataset, each), images)
    _scrub(session, owner, set(by_dataset), found.images)
    return receipt


def get(session: Session, owner: str, receipt_id: str) -> Receipt:
    """The receipt, if it is the owner's. Raises NotFound."""
    receipt = session.get(Receipt, receipt_id)
    if receipt is None or receipt.owner != owner:
        raise NotFound(f"There is no receipt {receipt_id!r}.")
    return receipt


def jobs_of(session: Session, receipt: Receipt) -> list[str]:
    """The jobs of the datasets in which a receipt's images were."""
    touched = sorted({image["dataset"] for image in receipt.body["images"]})
    return [job for chunk in chunks(touched) for job in _jobs_of(session, chunk)]


def waiting(session: Session, receipt_ids: Sequence[str]) -> dict[str, int]:
    """How many files of each receipt are still to be removed; none of those that are not among the keys."""
    counted = select(Trash.receipt_id, func.count()).where(Trash.receipt_id.in_(receipt_ids)).group_by(Trash.receipt_id)
    return {receipt_id: int(count) for receipt_id, count in session.execute(counted) if receipt_id}


def _lock(session: Session, owner: str, dataset: Dataset, wish: Wish) -> None:
    """Hold the datasets and then their jobs, as a deletion does: no job is made, and none concluded, meanwhile."""
    held = select(Dataset.id).where(Dataset.owner == owner).order_by(Dataset.id).with_for_update()
    ids = session.scalars(held if wish.everywhere else held.where(Dataset.id == dataset.id)).all()
    for chunk in chunks(ids):
        session.execute(select(Job.id).where(Job.dataset_id.in_(chunk)).order_by(Job.id).with_for_update())


def _find(session: Session, dataset: Dataset, wish: Wish) -> Found:
    fits = wish.fits()
    rows = session.scalars(select(Image).where(Image.dataset_id == dataset.id).order_by(Image.path)).all()
    meant = [image for image in rows if fits(image.path, image.group)]
    taken = {image.id for image in meant}
    copies = []
    for chunk in chunks(sorted({image.sha256 for image in meant})):
        same = select(Image).join(Image.dataset).where(Image.sha256.in_(chunk), Dataset.owner == dataset.owner)
        ready = same.where(Dataset.state == DatasetState.READY).order_by(Image.dataset_id, Image.path)
        copies += [image for image in session.scalars(ready) if image.id not in taken]
    if wish.everywhere:
        meant, copies = [*meant, *copies], []
    ids = [image.id for image in meant]
    items = [
        item
        for chunk in chunks(ids)
        for item in session.scalars(select(Item).where(Item.image_id.in_(chunk)).order_by(Item.image_id, Item.id))
    ]
    touched = sorted({image.dataset_id for image in meant})
    jobs = [job for chunk in chunks(touched) for job in _jobs_of(session, chunk)]
    archives = [key for chunk in chunks(jobs) for key in _archives_of(session, chunk)]
    files = [*_originals(session, meant), *_results(session, items, set(ids)), *archives, *map(upload_key, touched)]
    return Found(tuple(meant), tuple(items), tuple(copies), tuple(jobs), tuple(archives), tuple(files))


def _jobs_of(session: Session, dataset_ids: Sequence[str]) -> Sequence[str]:
    return session.scalars(select(Job.id).where(Job.dataset_id.in_(dataset_ids)).order_by(Job.id)).all()


def _archives_of(session: Session, job_ids: Sequence[str]) -> list[str]:
    keys = session.scalars(select(Archive.key).where(Archive.job_id.in_(job_ids)).order_by(Archive.job_id))
    return [key for key in keys if key]


def _originals(session: Session, images: Sequence[Image]) -> list[str]:
    """The keys of their originals and masks that no other image has, whoever's."""
    gone = {image.id for image in images}
    hashes = sorted({sha256 for image in images for sha256 in (image.sha256, image.mask_sha256) if sha256})
    kept = set[str]()
    for column in (Image.sha256, Image.mask_sha256):
        for chunk in chunks(hashes):
            found = session.execute(select(Image.id, column).where(column.in_(chunk)))
            kept |= {sha256 for image_id, sha256 in found if sha256 and image_id not in gone}
    return [source_key(sha256) for sha256 in hashes if sha256 not in kept]


def _results(session: Session, items: Sequence[Item], images: set[int]) -> list[str]:
    """The keys of new images that no other item has taken over."""
    keys = sorted({item.result_key for item in items if item.result_key})
    kept = set[str]()
    for chunk in chunks(keys):
        found = session.execute(select(Item.image_id, Item.result_key).where(Item.result_key.in_(chunk)))
        kept |= {key for image_id, key in found if key and image_id not in images}
    return [key for key in keys if key not in kept]


def _told(session: Session, dataset: Dataset, by: str, wish: Wish, found: Found) -> dict[str, Any]:
    variants: dict[int, list[dict[str, Any]]] = {image.id: [] for image in found.images}
    for item in found.items:
        if item.state == ItemState.DONE:
            variants[item.image_id].append({"job": item.job_id, "variant": item.variant, "sha256": item.result_sha256})
    made = sum(map(len, variants.values()))
    return {
        "by": by,
        "dataset": dataset.id,
        "name": dataset.name,
        "match": wish.match,
        "group": wish.group,
        "everywhere": wish.everywhere,
        "images": [
            {**_named(image), "mask_sha256": image.mask_sha256, "variants": variants[image.id]}
            for image in found.images
        ],
        "copies": [_named(image) for image in found.copies],
        "counts": {
            "images": len(found.images),
            "variants": made,
            "unfinished": len(found.items) - made,
            "archives": len(found.archives),
            # A file that the upload may have left behind is not known to be there.
            "files": sum(not key.startswith("uploads/") for key in found.files),
        },
        "priors": _learned(session, dataset.owner, {image.sha256 for image in found.images}),
    }


def _learned(session: Session, owner: str, hashes: set[str]) -> list[dict[str, Any]]:
    """The priors an owner knows that have learned from some images, as far as their cards tell: they cannot forget."""
    made_by = select(Prior, Training.finished_at).outerjoin(Training, Training.id == Prior.training_id)
    known = made_by.where(priors.visible(owner)).order_by(Prior.name)
    rows = session.execute(known.options(undefer(Prior.trained_on)))
    return [
        {"name": prior.name, "sha256": prior.sha256, "trained_at": at, "images": len(both)}
        for prior, at in rows
        if (both := hashes.intersection(prior.trained_on or ()))
    ]


def _refuse_while_learning(session: Session, datasets: Sequence[str]) -> None:
    """Raises Conflict if a training on them is not done: it learns from what is forgotten, or, if it has failed or was
    cancelled, keeps the images' latents so that it can be taken up again."""
    for chunk in chunks(datasets):
        unfinished = Training.dataset_id.in_(chunk) & (Training.state != TrainingState.DONE)
        found = session.execute(select(Training.id, Training.name, Training.state).where(unfinished).limit(1)).first()
        if found:
            raise Conflict(
                f"Training {found.id} of the prior {found.name!r} on these images is {found.state} and holds on to "
                "them. Delete it first, or wait until it is done."
            )


def _named(image: Image) -> dict[str, Any]:
    return {"dataset": image.dataset_id, "path": image.path, "sha256": image.sha256}


def _rebuild_archives(session: Session, jobs: Sequence[str]) -> None:
    """Archives are built anew of what is left; a worker that is at one finds it lost. Where nothing is left there is
    none."""
    for chunk in chunks(jobs):
        done = select(Item.job_id).where(Item.job_id.in_(chunk), Item.state == ItemState.DONE)
        archives.again(session, Archive.job_id.in_(done) & (Archive.state != ArchiveState.PRUNED))
        session.execute(delete_rows(Archive).where(Archive.job_id.in_(chunk), Archive.job_id.not_in(done)))


def _shrink(session: Session, dataset: Dataset, gone: Sequence[Image]) -> None:
    """Make what is said of a dataset true of what is left of it."""
    rows = session.execute(select(Image.path, Image.split, Image.boxes).where(Image.dataset_id == dataset.id)).all()
    splits = {path: split for path, split, _ in rows}
    dataset.splits = [split for split in dataset.splits if split in set(splits.values())]
    dataset.counts = datasets.counts(dataset.splits, dataset.classes, ((split, boxes) for _, split, boxes in rows))
    dataset.header = FORMATS[dataset.format].without(dataset.header, {i.path: i.split for i in gone}, splits)
    if dataset.report:
        dataset.report = {**dataset.report, "forgotten": dataset.report.get("forgotten", 0) + len(gone)}
    session.flush()


def _scrub(session: Session, owner: str, touched: set[str], gone: Sequence[Image]) -> None:
    """Take the names of what is gone out of reports and warnings: of the datasets, of those that grew from them, and of
    their jobs."""
    names = {name for image in gone for name in (image.path, shown(image.path))} | _lost_groups(session, touched, gone)
    for dataset in session.scalars(select(Dataset).where(Dataset.owner == owner)):
        if dataset.id in touched or dataset.options.get("parent") in touched:
            dataset.report = _without(dataset.report, names)
            dataset.warnings = _without(dataset.warnings, names)
    for chunk in chunks(sorted(touched)):
        for job in session.scalars(select(Job).where(Job.dataset_id.in_(chunk))):
            job.warnings = _without(job.warnings, names)


def _lost_groups(session: Session, touched: set[str], gone: Sequence[Image]) -> set[str]:
    """Groups of which nothing is left."""
    left = set[str | None]()
    for chunk in chunks(sorted(touched)):
        left |= set(session.scalars(select(Image.group).where(Image.dataset_id.in_(chunk)).distinct()))
    return {image.group for image in gone if image.group} - {group for group in left if group}


def _without(value: Any, names: Iterable[str]) -> Any:
    """JSON in whose texts the names are covered, if they stand there as a word."""
    text = "\n".join(_texts(value))
    # Most names are nowhere, and there may be very many.
    found = sorted((name for name in names if name in text), key=len, reverse=True)
    if not found:
        return value
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, found))})(?!\w)")
    return json.loads(json.dumps(_mapped(value, lambda said: pattern.sub(FORGOTTEN, said))))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(each, change) for key, each in value.items()}
    return [_mapped(each, change) for each in value] if isinstance(value, list | tuple) else value
