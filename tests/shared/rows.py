"""Datasets, jobs and claims for the tests of their lives, without files or workers."""

from collections.abc import Callable

from sqlalchemy import update
from sqlalchemy.orm import Session

from shared import datasets, items, jobs
from shared.datasets import Contents, NewImage
from shared.db import Sessions, now
from shared.items import Result, Work
from shared.models import Dataset, Item, Job, Prior
from shared.states import ItemState

PRIOR = Prior(name="builtin", sha256="p" * 64, native_size=128, multiple=16, size=1, card="")
Make = Callable[..., str]


def new_image(name: str, *, split: str = "train", boxes: int = 1) -> NewImage:
    return NewImage(
        path=f"images/{split}/{name}.png",
        split=split,
        sha256=f"{name:0>64}",
        format="PNG",
        mode="L",
        width=100,
        height=80,
        size=1000,
        boxes=[[0, 0.1, 0.1, 0.2, 0.2]] * boxes,
        label_path=f"labels/{split}/{name}.txt",
        label=b"0 .15 .15 .1 .1\n" * boxes,
        label_sha256="l" * 64,
    )


def add_dataset(session: Session, *images: NewImage, owner: str = "local") -> str:
    dataset = Dataset(owner=owner, name="set")
    session.add(dataset)
    session.flush()
    claim = datasets.claim(session, 30)
    assert claim is not None
    splits = tuple(dict.fromkeys(image.split for image in images))
    contents = Contents("yolo", "images/{split}", None, ("a",), splits, (), 255, images)
    assert datasets.accept(session, claim, contents)
    return dataset.id


def claim(sessions: Sessions, limit: int = 1, lease: float = 30, worker: str = "w") -> list[Work]:
    with sessions.write() as session:
        return items.claim(session, worker, limit, lease, priors=[PRIOR.sha256])


def result(work: Work) -> Result:
    return Result(f"jobs/{work.item_id}-{work.token}.png", "s" * 64, 1.0, {}, {})


def settle(sessions: Sessions, work: Work) -> bool:
    with sessions.write() as session:
        return items.settle(session, work, result(work))


def counts(sessions: Sessions, job_id: str) -> dict[ItemState, int]:
    with sessions.read() as session:
        return items.counts(session, job_id)


def expire(sessions: Sessions) -> None:
    with sessions.write() as session:
        session.execute(update(Item).where(Item.token.is_not(None)).values(lease_until=now() - 1))


def cancel(sessions: Sessions, job_id: str) -> list[str]:
    with sessions.write() as session:
        jobs.cancel(session, session.get_one(Job, job_id))
    with sessions.write() as session:
        return jobs.conclude(session)
