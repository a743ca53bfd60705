"""The life of a job: made, paused, cancelled, tried again, moved to a new engine, deleted, concluded.

A job has no state of its own: `states.job_state` computes it from its items, whose life is in `items`.
The module is long because what may happen to a job, and what is locked in which order, is read together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session, joinedload

from shared import archives, datasets, items, leases, priors, proposals, trainings, trash, webhooks
from shared.advice import Source
from shared.db import CHUNK, chunks, now
from shared.errors import Conflict, Invalid, KeyReused, NotFound
from shared.filters import Thresholds, candidates, outlook
from shared.models import Archive, Dataset, IdempotencyKey, Image, Item, Job, Prior
from shared.spec import ENGINE_VERSION, ExpansionSpec, ResolvedSpec
from shared.states import ArchiveState, ItemState
from shared.strict import digest

_GONE = (ArchiveState.FAILED, ArchiveState.PRUNED)


def get(session: Session, owner: str, job_id: str) -> Job:
    """The job, if it is the owner's.

    Raises:
        NotFound: it is not there, or not theirs.
    """
    job = session.get(Job, job_id, options=[joinedload(Job.archive), joinedload(Job.told)])
    if job is None or job.owner != owner:
        raise NotFound(f"There is no job {job_id!r}.")
    return job


def create(
    session: Session,
    owner: str,
    spec: ExpansionSpec,
    prior: Prior,
    max_items: int,
    key: str | None = None,
    webhook: str | None = None,
) -> Job:
    """Write the job and all its items, each with its seed and work key. `webhook` is told of its end if the spec names
    none, as in `models.Job`.

    With `spec.reuse`, items that the owner has finished before are taken over and not made again. With a `key`, the
    same request under the same key gives the job it gave before. Two such requests at the same moment: the second
    raises SQLAlchemy's IntegrityError, and finds the first one's job when it is made again.

    Raises:
        NotFound, Conflict, Invalid: the dataset is not there, not checked yet, or rejected.
        Invalid: the spec names a split the dataset does not have, or yields no item, or more than `max_items`.
        KeyReused: the key belongs to another request.
    """
    if earlier := sent_before(session, owner, spec, key):
        return earlier
    proposal = proposals.of(session, owner, spec, prior, max_items)
    dataset, resolved = proposal.dataset, proposal.resolved
    job = Job(
        owner=owner,
        dataset_id=dataset.id,
        name=spec.name or dataset.name,
        spec=spec.model_dump(mode="json"),
        resolved=resolved.model_dump(mode="json"),
        priority=spec.priority,
        webhook=spec.webhook or webhook,
        warnings=proposal.warnings,
    )
    session.add(job)
    session.flush()
    if key:
        session.add(IdempotencyKey(owner=owner, key=key, request_sha256=digest(spec), job_id=job.id))
        session.flush()
    _add_items(session, job, spec, resolved, proposal.images)
    return job


def sent_before(session: Session, owner: str, spec: ExpansionSpec, key: str | None) -> Job | None:
    """The job that the same request under the same key has made, if one has. Raises KeyReused."""
    known = session.get(IdempotencyKey, (owner, key)) if key else None
    if known is None:
        return None
    if known.request_sha256 != digest(spec):
        raise KeyReused(f"The Idempotency-Key {key!r} was sent with another request before. Use a new key.")
    return get(session, owner, known.job_id)


def pause(session: Session, job: Job) -> None:
    """Let nothing more of the job be claimed; what is being made is finished. Does nothing to a job that is over."""
    wanted = update(Job).where(Job.id == job.id, Job.finished_at.is_(None), Job.paused_at.is_(None))
    _change(session, job, wanted.values(paused_at=now()))


def resume(session: Session, job: Job) -> None:
    """Let a paused job go on. Does nothing to one that is not paused."""
    _change(session, job, update(Job).where(Job.id == job.id).values(paused_at=None))


def cancel(session: Session, job: Job) -> None:
    """Ask for the end of a job: nothing more of it is claimed, running items end when their worker next looks.

    `conclude`, in a transaction of its own, ends what is pending. Does nothing to a job that is over.
    """
    wanted = update(Job).where(Job.id == job.id, Job.finished_at.is_(None), Job.cancelled_at.is_(None))
    _change(session, job, wanted.values(cancelled_at=now()))


def retry(session: Session, job: Job) -> int:
    """Have the failed and cancelled items tried again, as if for the first time; returns how many there were.

    That takes back a cancel. The archive of a job that was over is built anew when it is over again.
    """
    _lock(session, job)
    ended = (Item.job_id == job.id) & Item.state.in_([ItemState.FAILED, ItemState.CANCELLED])
    again = _again(session, ended)
    if again or job.cancelled_at is not None:
        _reopen(session, job)
    return again


def upgrade(session: Session, job: Job, prior: Prior, done: Literal["keep", "remake"]) -> None:
    """Let the present engine and prior finish a job that was made for earlier ones.

    Its settings stay. `keep` leaves the images that are done as they are, so that the job holds images of two
    engines; `remake` makes all of them again. Does nothing to a job that fits already.

    Raises:
        Conflict: a worker of the earlier engine is still at it.
        Invalid: the present prior cannot do what the job asks for.
    """
    _lock(session, job)
    old = ResolvedSpec.model_validate(job.resolved)
    tile = prior.native_size if old.native_size else 0
    priors.check_prompt(prior, old.conditioning)
    guide = priors.guide(session, job.owner, old.guidance_vae.name if old.guidance_vae else None, prior)
    now_in_force = {"engine": ENGINE_VERSION, "prior_sha256": prior.sha256, "native_size": tile, "guidance_vae": guide}
    new = old.model_copy(update=now_in_force)
    if new == old:
        return
    if items.counts(session, job.id).get(ItemState.RUNNING):
        raise Conflict("A worker of the earlier engine is still at this job. Wait until it is done, or cancel the job.")
    if done == "remake":
        trash.throw(session, select(Item.result_key).where(Item.job_id == job.id, Item.result_key.is_not(None)))
        _again(session, (Item.job_id == job.id) & (Item.state == ItemState.DONE))
    else:
        _sign(session, job, old)
    _rekey(session, job, new)
    job.resolved = new.model_dump(mode="json")
    if items.counts(session, job.id).get(ItemState.PENDING):
        _reopen(session, job)


def pack(session: Session, job: Job, filters: Thresholds = ()) -> bool:
    """Have the archive of a job that is over built anew, without what was rejected or does not pass `filters`; False
    where it is, or is becoming, just that.

    Raises:
        Conflict: the job is not over, or has made no image.
        Invalid: nothing would be left.
    """
    made = outlook(candidates(session, job.id), filters, job.dataset.classes)
    if made.total and not made.kept:
        raise Invalid(
            f"None of the {made.total} images would be left: {made.rejected} are rejected, the rest filtered."
        )
    _lock(session, job)
    archive = session.get(Archive, job.id, populate_existing=True)
    if job.finished_at is None:
        raise Conflict("The job is not over. Its archive is built then, without what is rejected.")
    if archive is None:
        raise Conflict("The job made no image, so it has no archive.")
    wanted = [threshold.model_dump() for threshold in filters]
    if archive.filters == wanted and archive.state not in _GONE and not outdated(job, archive):
        return False
    this = Archive.job_id == job.id
    trash.throw(session, select(Archive.key).where(this, Archive.key.is_not(None)))
    archives.again(session, this, filters=wanted)
    session.refresh(job)
    session.refresh(archive)
    return True


def outdated(job: Job, archive: Archive) -> bool:
    """Whether verdicts were given or taken back since an archive was ordered."""
    return job.judged_at is not None and job.judged_at > archive.created_at


def delete(session: Session, job: Job) -> None:
    """Remove a job, whatever its state, with its items, images and archive. A worker that is at it stops."""
    _lock(session, job)
    trash.throw(session, select(Item.result_key).where(Item.job_id == job.id, Item.result_key.is_not(None)))
    trash.throw(session, select(Archive.key).where(Archive.job_id == job.id, Archive.key.is_not(None)))
    session.execute(delete_rows(Job).where(Job.id == job.id))
    session.expunge(job)


def delete_dataset(session: Session, owner: str, dataset_id: str) -> list[str]:
    """Remove a dataset, its images, and all jobs that were made of it; returns their ids.

    Raises:
        NotFound: it is not there, or not theirs.
        Conflict: one of its jobs, or a training on it, is not over.
    """
    dataset = datasets.get(session, owner, dataset_id)
    # A job that is being made of it at this moment is waited for, or finds it gone.
    session.execute(select(Dataset.id).where(Dataset.id == dataset_id).with_for_update())
    made = session.scalars(select(Job).where(Job.dataset_id == dataset_id)).all()
    live = [job for job in made if job.finished_at is None]
    if live:
        raise Conflict(f"Job {live[0].id} of this dataset is not over. Cancel or delete it first.")
    trainings.delete_of(session, dataset_id)
    for job in made:
        delete(session, job)
    datasets.delete(session, dataset)
    return [job.id for job in made]


def conclude(session: Session) -> list[str]:
    """End what is pending of cancelled jobs, finish jobs none of whose items is live any more, and order their
    archives; returns the ids of those that were finished.

    To be called in a transaction after the one that settled or cancelled: two workers that settle the last two items
    at the same time do not see each other's.
    """
    cancelled = select(Job.id).where(Job.finished_at.is_(None), Job.cancelled_at.is_not(None))
    pending = Item.job_id.in_(cancelled) & (Item.state == ItemState.PENDING)
    items.release(session, pending, state=ItemState.CANCELLED, settled_at=now())
    live = items.any_of(items.LIVE)
    over = select(Job.id).where(Job.finished_at.is_(None), ~live).with_for_update(skip_locked=True)
    locked = session.scalars(over).all()
    if not locked:
        return []
    # Asked again under the lock: a retry may have come first.
    finished = list(
        session.scalars(
            update(Job)
            .where(Job.id.in_(locked), Job.finished_at.is_(None), ~live)
            .values(finished_at=now())
            .returning(Job.id)
            .execution_options(synchronize_session=False)
        )
    )
    for job_id in finished:
        if items.counts(session, job_id).get(ItemState.DONE):
            archives.order(session, job_id)
    webhooks.order(session, finished)
    return finished


def _change(session: Session, job: Job, statement: Any) -> None:
    leases.changed(session, statement)
    session.refresh(job)


def _lock(session: Session, job: Job) -> None:
    """Hold the job until the transaction ends: before its items, and so that `conclude` passes it by."""
    found = session.scalar(
        select(Job).where(Job.id == job.id).with_for_update().execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(f"There is no job {job.id!r}.")


def _reopen(session: Session, job: Job) -> None:
    """A job that was over, or cancelled, goes on; its archive no longer is what it says."""
    trash.throw(session, select(Archive.key).where(Archive.job_id == job.id, Archive.key.is_not(None)))
    session.execute(delete_rows(Archive).where(Archive.job_id == job.id))
    webhooks.withdraw(session, job.id)
    _change(session, job, update(Job).where(Job.id == job.id).values(finished_at=None, cancelled_at=None))


def _again(session: Session, which: Any) -> int:
    """Put ended items back to the beginning; returns how many."""
    fresh = dict.fromkeys(("error", "started_at", "settled_at", "lapsed_at", "worker", "reused_from", "seconds"))
    fresh |= dict.fromkeys(("result_key", "result_sha256", "measures", "made_by"))
    statement = update(Item).where(which).values(state=ItemState.PENDING, attempts=0, lapses=0, step=0, **fresh)
    return leases.changed(session, statement)


def _sign(session: Session, job: Job, old: ResolvedSpec) -> None:
    """See that what is done says by which engine and prior: once the job has others, nothing else does."""
    rows = session.execute(select(Item.id, Item.made_by).where(Item.job_id == job.id, Item.state == ItemState.DONE))
    signed = {"engine": old.engine, "prior_sha256": old.prior_sha256}
    unsigned = [(item_id, made_by or {}) for item_id, made_by in rows if not signed.keys() <= (made_by or {}).keys()]
    for chunk in chunks(unsigned):
        session.execute(update(Item), [{"id": item_id, "made_by": signed | made_by} for item_id, made_by in chunk])


def _rekey(session: Session, job: Job, resolved: ResolvedSpec) -> None:
    """Give the items that are still to be made the work keys of a new engine."""
    rows = session.execute(
        select(Item.id, Item.variant, Item.seed, Image)
        .join(Item.image)
        .where(Item.job_id == job.id, Item.state != ItemState.DONE)
    ).all()
    keys = [{"id": row.id, "work_key": proposals.key(resolved, row.Image, row.variant, row.seed)} for row in rows]
    for chunk in chunks(keys):
        session.execute(update(Item), chunk)


def _add_items(
    session: Session, job: Job, spec: ExpansionSpec, resolved: ResolvedSpec, images: Sequence[Source]
) -> None:
    at = session.scalar(select(now()))
    variants = range(1, spec.variants + 1)
    for some in chunks(images, max(1, CHUNK // spec.variants)):
        chunk = [_row(job.id, spec, resolved, image, variant) for image in some for variant in variants]
        finished = _finished(session, job.owner, [row["work_key"] for row in chunk]) if spec.reuse else {}
        new = [row for row in chunk if row["work_key"] not in finished]
        old = [row | _taken_over(finished[row["work_key"]], at) for row in chunk if row["work_key"] in finished]
        for each in (new, old):
            if each:
                session.execute(insert(Item), each)


def _finished(session: Session, owner: str, keys: Sequence[str]) -> Mapping[str, Item]:
    """The owner's finished items of some work keys. They are held until the transaction ends, so that nobody deletes
    the files that are taken over."""
    found = session.scalars(
        select(Item)
        .join(Item.job)
        .where(Item.work_key.in_(keys), Item.state == ItemState.DONE, Job.owner == owner)
        .with_for_update(read=True, of=Item)
    )
    return {item.work_key: item for item in found}


def _taken_over(item: Item, at: float | None) -> dict[str, Any]:
    return {
        "state": ItemState.DONE,
        "settled_at": at,
        "step": item.step,
        "reused_from": item.reused_from or item.job_id,
        "result_key": item.result_key,
        "result_sha256": item.result_sha256,
        "seconds": item.seconds,
        "measures": item.measures,
        "made_by": item.made_by,
    }


def _row(job_id: str, spec: ExpansionSpec, resolved: ResolvedSpec, image: Source, variant: int) -> dict[str, Any]:
    seed, key = proposals.seed_and_key(spec, resolved, image, variant)
    return {"job_id": job_id, "image_id": image.id, "variant": variant, "seed": seed, "work_key": key}
