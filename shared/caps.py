"""How much a project may have, and what fits on the disk. A cap of 0 is none.

What is counted is what others have committed: of two requests at the same moment both may pass. One too many does no
harm, and a lock would have all wait for each other.
"""

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from shared.errors import LimitReached, NoSpace
from shared.models import Dataset, Image, Item, Job, Upload
from shared.states import ItemState


def check_datasets(session: Session, owner: str, most: int) -> None:
    """Raises LimitReached if the owner may have no further dataset; uploads that are not whole count as well."""
    if not most:
        return
    datasets = select(func.count()).select_from(Dataset).where(Dataset.owner == owner)
    coming = select(func.count()).select_from(Upload).where(Upload.owner == owner, Upload.received < Upload.size)
    if session.scalars(datasets).one() + session.scalars(coming).one() >= most:
        raise LimitReached(
            f"There are {most:,} datasets and unfinished uploads, and no more may be. Delete some first."
        )


def check_jobs(session: Session, owner: str, most: int) -> None:
    """Raises LimitReached if the owner may have no further job."""
    if most and session.scalars(select(func.count()).select_from(Job).where(Job.owner == owner)).one() >= most:
        raise LimitReached(f"There are {most:,} jobs, and no more may be. Delete some first.")


def check_items(session: Session, owner: str, most: int) -> None:
    """Raises LimitReached if the owner's jobs have more items than they may; to be asked once a job's are written."""
    if not most:
        return
    there = session.scalars(select(func.count()).select_from(Item).join(Item.job).where(Job.owner == owner)).one()
    if there > most:
        raise LimitReached(f"With this job there would be {there:,} images; the limit is {most:,}. Delete jobs first.")


def check_room(needed: int, free: int | None, reserve: int) -> None:
    """Raises NoSpace if `needed` bytes do not fit into the `free` ones, of which `reserve` stay; None: nobody knows."""
    left = needed if free is None else max(free - reserve, 0)
    if needed > left:
        raise NoSpace(needed, left)


def room_for_upload(size: int) -> int:
    """Bytes that an archive of `size` bytes takes until it is checked: it, and the images in it beside it."""
    return 2 * size


def room_for_job(session: Session, job: Job) -> int:
    """Bytes that a job still takes, about: its new images, and the archive of all of them."""
    size = size_of_new(job.resolved["image_format"])
    all_items = select(func.coalesce(func.sum(size), 0)).select_from(Item).join(Item.image).where(Item.job_id == job.id)
    to_make = session.scalars(all_items.where(Item.state == ItemState.PENDING)).one()
    copied = size_of_originals(session, job.dataset_id) if job.spec["output"]["include_originals"] else 0
    # PostgreSQL adds up its bigints to decimals.
    return int(to_make + session.scalars(all_items).one()) + copied


def size_of_new(image_format: str) -> ColumnElement[int]:
    """Bytes that a new image takes, about: as many as its source, or where that is of another format, as its pixels."""
    if image_format == "same":
        return Image.size.expression
    channels = case((Image.mode.in_(("1", "L")), 1), (Image.mode == "I;16", 2), else_=3)
    return case((Image.format == image_format.upper(), Image.size), else_=Image.width * Image.height * channels)


def size_of_originals(session: Session, dataset_id: str) -> int:
    """Bytes of a dataset's images."""
    every = select(func.coalesce(func.sum(Image.size), 0)).where(Image.dataset_id == dataset_id)
    return int(session.scalars(every).one())
