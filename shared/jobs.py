"""The life of an item, all of it: made, claimed, renewed, settled, handed back, swept; and of its job, which follows.

Every change of state is one conditional UPDATE, so that it does not matter who else tries the same. The module is long
because who may change an item's state, and when, is read together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, func, insert, select, update
from sqlalchemy.orm import Session, joinedload

from shared import advice, datasets, leases, priors
from shared.db import now
from shared.errors import Invalid, NotFound
from shared.images import can_hold
from shared.models import Archive, Image, Item, Job, Prior
from shared.spec import PRESETS, ExpansionSpec, ResolvedSpec, item_seed, resolve, work_key
from shared.states import ItemState

MAX_ATTEMPTS = 3
_LOOK_AHEAD = 8
_CHUNK = 1000
_LIVE = Item.state.in_([ItemState.PENDING, ItemState.RUNNING])
_OPEN = Job.finished_at.is_(None) & Job.paused_at.is_(None) & Job.cancelled_at.is_(None)


@dataclass(frozen=True, slots=True)
class Work:
    """An item as a worker needs it, free of the database."""

    item_id: int
    job_id: str
    token: str
    variant: int
    seed: int
    path: str
    source_sha256: str
    white: int
    boxes: tuple[tuple[float, ...], ...]
    outlines: tuple[tuple[float, ...] | None, ...]
    mask_sha256: str | None
    resolved: ResolvedSpec


@dataclass(frozen=True, slots=True)
class Result:
    """A finished item: where its image lies, and what was noted about it."""

    key: str
    sha256: str
    seconds: float
    measures: dict[str, Any]
    made_by: dict[str, Any]


def get(session: Session, owner: str, job_id: str) -> Job:
    """The job, if it is the owner's.

    Raises:
        NotFound: it is not there, or not theirs.
    """
    job = session.get(Job, job_id)
    if job is None or job.owner != owner:
        raise NotFound(f"There is no job {job_id!r}.")
    return job


def get_item(session: Session, owner: str, job_id: str, item_id: int) -> Item:
    """An item of the owner's job. Raises NotFound as `get` does, and if the job has no such item."""
    get(session, owner, job_id)
    item = session.get(Item, item_id, options=[joinedload(Item.job), joinedload(Item.image)])
    if item is None or item.job_id != job_id:
        raise NotFound(f"Job {job_id} has no item {item_id}.")
    return item


def create(session: Session, owner: str, spec: ExpansionSpec, prior: Prior, max_items: int) -> Job:
    """Write the job and all its items, each with its seed and work key.

    Raises:
        NotFound, Conflict, Invalid: the dataset is not there, not checked yet, or rejected.
        Invalid: the spec names a split the dataset does not have, or yields no item, or more than `max_items`.
    """
    dataset = datasets.get_ready(session, owner, spec.dataset_id)
    unknown = [split for split in spec.splits if split not in dataset.splits]
    if unknown:
        raise Invalid(f"The dataset has no split {unknown[0]!r}. It has: {', '.join(dataset.splits)}.")
    priors.check_canvas(prior, spec.canvas.long_side)
    resolved = resolve(spec, prior_sha256=prior.sha256, native_size=prior.native_size, multiple=prior.multiple)
    found = session.scalars(
        select(Image)
        .where(Image.dataset_id == dataset.id, Image.split.in_(spec.splits))
        .order_by(Image.sha256, Image.id)
    ).all()
    images = advice.chosen(spec, found)
    if not images:
        raise Invalid(
            f"There is nothing to expand: none of the {len(found)} images in {', '.join(spec.splits)} has a label."
        )
    _check_format(spec, images)
    advice.refuse(resolved, images)
    if len(images) * spec.variants > max_items:
        raise Invalid(f"The job would make {len(images) * spec.variants} images; the limit is {max_items}.")
    job = Job(
        owner=owner,
        dataset_id=dataset.id,
        name=spec.name or dataset.name,
        spec=spec.model_dump(mode="json"),
        resolved=resolved.model_dump(mode="json"),
        priority=spec.priority,
        warnings=advice.warnings(spec, resolved, found, images) + _warnings(images, resolved),
    )
    session.add(job)
    session.flush()
    rows = [_row(job.id, spec, resolved, image, variant) for image in images for variant in range(1, spec.variants + 1)]
    for start in range(0, len(rows), _CHUNK):
        session.execute(insert(Item), rows[start : start + _CHUNK])
    return job


def claim(session: Session, worker: str, limit: int, lease: float) -> list[Work]:
    """Take up to `limit` items of one job for `lease` seconds.

    Jobs come by priority, then in turn: the one served longest ago is next. An item that outlived a worker is taken
    alone, so that one that kills its process takes no others with it.
    """
    turn = (
        select(Job.id)
        .where(_OPEN, select(Item.id).where(Item.job_id == Job.id, Item.state == ItemState.PENDING).exists())
        .order_by(Job.priority.desc(), func.coalesce(Job.claimed_at, 0.0), Job.created_at)
        .limit(_LOOK_AHEAD)
    )
    for job_id in session.scalars(turn).all():
        token = leases.new_token()
        for suspect, most in ((False, limit), (True, 1)):
            taken = _take(session, job_id, token, worker, most, lease, suspect=suspect)
            if taken:
                session.execute(update(Job).where(Job.id == job_id).values(claimed_at=now()))
                return _works(session, taken, token)
    return []


def renew(session: Session, token: str, step: int, lease: float) -> bool:
    """Hold the batch for another `lease` seconds and note the step it is at.

    Returns False when the worker should stop: the batch is no longer its own, or its job was cancelled.
    """
    mine = update(Item).where(Item.token == token, Item.state == ItemState.RUNNING)
    if leases.changed(session, mine.values(lease_until=now() + lease, step=step)) == 0:
        return False
    cancelled = select(Job.cancelled_at).join(Item, Item.job_id == Job.id).where(Item.token == token).limit(1)
    return session.scalar(cancelled) is None


def settle(session: Session, work: Work, result: Result) -> bool:
    """The item is `done`; False if the claim was lost meanwhile, and then the caller removes its file."""
    return _release(
        session,
        _held(work),
        state=ItemState.DONE,
        settled_at=now(),
        result_key=result.key,
        result_sha256=result.sha256,
        seconds=result.seconds,
        measures=result.measures,
        made_by=result.made_by,
        step=work.resolved.steps,
        error=None,
    )


def fail(session: Session, work: Work, kind: str, detail: str, *, final: bool) -> bool:
    """The item itself raised. It is tried again, unless that is hopeless (`final`) or was its last attempt."""
    over = Item.attempts + 1 >= (1 if final else MAX_ATTEMPTS)
    return _release(
        session,
        _held(work),
        state=case((over, ItemState.FAILED), else_=ItemState.PENDING),
        settled_at=case((over, now())),
        attempts=Item.attempts + 1,
        error={"type": kind, "detail": detail},
        step=0,
    )


def hand_back(session: Session, token: str) -> int:
    """Return what is left of a batch unharmed: no attempt is counted."""
    return _return(session, Item.token == token, lapsed=False)


def sweep(session: Session) -> int:
    """Free items whose worker stopped renewing; returns how many."""
    return _return(session, Item.token.is_not(None) & (Item.lease_until < now()), lapsed=True)


def waiting(session: Session) -> bool:
    """Whether an item waits that may be claimed now."""
    found = select(Item.id).join(Job).where(Item.state == ItemState.PENDING, _OPEN).limit(1)
    return session.scalar(found) is not None


def conclude(session: Session) -> list[str]:
    """End what is pending of cancelled jobs, finish jobs none of whose items is live any more, and order their
    archives; returns the ids of those that were finished.

    To be called in a transaction after the one that settled or cancelled: two workers that settle the last two items
    at the same time do not see each other's.
    """
    cancelled = select(Job.id).where(Job.finished_at.is_(None), Job.cancelled_at.is_not(None))
    pending = Item.job_id.in_(cancelled) & (Item.state == ItemState.PENDING)
    _release(session, pending, state=ItemState.CANCELLED, settled_at=now())
    live = select(Item.id).where(Item.job_id == Job.id, _LIVE).exists()
    over = select(Job.id).where(Job.finished_at.is_(None), ~live).with_for_update(skip_locked=True)
    finished = list(
        session.scalars(
            update(Job)
            .where(Job.id.in_(over))
            .values(finished_at=now())
            .returning(Job.id)
            .execution_options(synchronize_session=False)
        )
    )
    for job_id in finished:
        if counts(session, job_id).get(ItemState.DONE):
            session.add(Archive(job_id=job_id))
    return finished


def cancel(session: Session, job: Job) -> None:
    """Ask for the end of a job: nothing more of it is claimed, running items end when their worker next looks.

    `conclude`, in a transaction of its own, ends what is pending. Does nothing to a job that is over.
    """
    wanted = update(Job).where(Job.id == job.id, Job.finished_at.is_(None), Job.cancelled_at.is_(None))
    leases.changed(session, wanted.values(cancelled_at=now()))
    session.refresh(job)


def counts(session: Session, job_id: str) -> dict[ItemState, int]:
    """How many items are in each state."""
    rows = session.execute(select(Item.state, func.count()).where(Item.job_id == job_id).group_by(Item.state))
    return {state: int(count) for state, count in rows}


def _take(
    session: Session, job_id: str, token: str, worker: str, limit: int, lease: float, *, suspect: bool
) -> Sequence[int]:
    lapsed = Item.lapses > 0 if suspect else Item.lapses == 0
    picked = (
        select(Item.id)
        .where(Item.job_id == job_id, Item.state == ItemState.PENDING, lapsed)
        .order_by(Item.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("picked")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return session.scalars(
        update(Item)
        .where(Item.id.in_(select(picked.c.id)))
        .values(
            state=ItemState.RUNNING, token=token, lease_until=now() + lease, worker=worker, step=0, started_at=now()
        )
        .returning(Item.id)
        .execution_options(synchronize_session=False)
    ).all()


def _works(session: Session, item_ids: Sequence[int], token: str) -> list[Work]:
    with_the_rest = joinedload(Item.image), joinedload(Item.job).joinedload(Job.dataset)
    rows = session.scalars(select(Item).where(Item.id.in_(item_ids)).order_by(Item.id).options(*with_the_rest)).all()
    return [
        Work(
            item_id=item.id,
            job_id=item.job_id,
            token=token,
            variant=item.variant,
            seed=item.seed,
            path=item.image.path,
            source_sha256=item.image.sha256,
            white=item.job.dataset.white,
            boxes=tuple(tuple(box) for box in item.image.boxes),
            outlines=tuple(None if outline is None else tuple(outline) for outline in item.image.outlines),
            mask_sha256=item.image.mask_sha256,
            resolved=ResolvedSpec.model_validate(item.job.resolved),
        )
        for item in rows
    ]


def _held(work: Work) -> ColumnElement[bool]:
    return (Item.id == work.item_id) & (Item.token == work.token) & (Item.state == ItemState.RUNNING)


def _release(session: Session, which: ColumnElement[bool], **values: Any) -> bool:
    return leases.changed(session, update(Item).where(which).values(token=None, lease_until=None, **values)) > 0


def _return(session: Session, which: ColumnElement[bool], *, lapsed: bool) -> int:
    """Running items go back to the queue, or end for good after many lapses."""
    running = which & (Item.state == ItemState.RUNNING)
    worn = Item.lapses + int(lapsed) >= leases.MAX_LAPSES
    values = {
        "state": case((worn, ItemState.FAILED), else_=ItemState.PENDING),
        "settled_at": case((worn, now())),
        "lapses": Item.lapses + int(lapsed),
        "step": 0,
    }
    statement = update(Item).where(running).values(token=None, lease_until=None, **values)
    changed = leases.changed(session, statement)
    if lapsed and changed:
        gone = update(Item).where(
            Item.state == ItemState.FAILED, Item.lapses >= leases.MAX_LAPSES, Item.error.is_(None)
        )
        session.execute(gone.values(error={"type": "worker_lost", "detail": leases.GIVEN_UP}))
    return changed


def _check_format(spec: ExpansionSpec, images: Sequence[Image]) -> None:
    wanted = spec.output.image_format
    unfit = [image for image in images if wanted != "same" and not can_hold(wanted.upper(), image.mode)]
    if unfit:
        raise Invalid(
            f"output.image_format: {wanted} cannot hold {len(unfit)} of the images, such as {unfit[0].path} of mode "
            f"{unfit[0].mode}. Choose png or same."
        )


def _row(job_id: str, spec: ExpansionSpec, resolved: ResolvedSpec, image: Image, variant: int) -> dict[str, Any]:
    seed = item_seed(spec.seed, image.sha256, variant)
    key = work_key(
        resolved,
        source_sha256=image.sha256,
        label_sha256=image.label_sha256,
        mask_sha256=image.mask_sha256,
        variant=variant,
        seed=seed,
    )
    return {"job_id": job_id, "image_id": image.id, "variant": variant, "seed": seed, "work_key": key}


def _warnings(images: Sequence[Image], resolved: ResolvedSpec) -> list[str]:
    said = []
    shrunk = [image for image in images if max(image.width, image.height) > 1.5 * resolved.long_side]
    if shrunk:
        said.append(
            f"{len(shrunk)} images are more than 1.5 times larger than the {resolved.long_side}-px canvas: what is "
            "regrown will be softer than the labelled boxes, which a detector can learn as a hint. "
            "A larger canvas.long_side makes it sharper, and slower."
        )
    if resolved.steps < PRESETS["balanced"].steps:
        said.append(
            f"{resolved.steps} steps are fewer than the presets have: many images will not converge, and come out grey "
            "and blurred. Look at `psnr_kept` of the first items."
        )
    return said
