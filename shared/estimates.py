"""What a job would take: time, and room on the disk. Nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared import caps, proposals, workers
from shared.db import chunks
from shared.models import Image, Item, Job, Prior
from shared.proposals import Proposal
from shared.queue import Queue
from shared.spec import ExpansionSpec, ResolvedSpec
from shared.states import ItemState

_RECENT = 20
"""Of the jobs that are like it, so many are asked how long their items took."""
_CPU_SECONDS = 1.2e-8
"""Per unit of `_work` and byte of the prior's weights: measured with the built-in prior, roughly."""
_GPU_SECONDS = 1e-10
"""The same; one H200 took 3e-11 (Stable Diffusion 1.x) to 6e-11 (built-in) many at once; most GPUs are slower."""

SECOND_WALK = 0.15
"""Steps on a canvas larger than the prior's own size, forward only, to those of a whole walk (worker.psld.coarse)."""
_FORWARD = 1 / 2
"""What a step takes that runs the networks forward only, to one that pulls."""
_FINISH = 1 / 3
"""What a step of the finish takes, which is the decoder's alone."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would take."""

    images: int
    """Source images that would be expanded."""
    items: int
    """New images in the end."""
    long_side: int
    """Of the canvas, in pixels."""
    reused: int
    """Those of them that were made before and would be taken over."""
    seconds: float
    """Of all workers that are there now, if they do nothing else."""
    basis: Literal["measured", "guess"]
    """Whether items like these were made here before, or the time is only guessed from the prior's size."""
    workers: int
    bytes_needed: int
    bytes_free: int | None
    """None where that is not known."""
    warnings: list[str]


def of(
    session: Session,
    owner: str,
    spec: ExpansionSpec,
    prior: Prior,
    max_items: int,
    bytes_free: int | None,
    min_free: int = 0,
) -> Estimate:
    """What a job of this spec would take.

    `bytes_free` is what the storage has left, of which `min_free` stay free. Raises what `proposals.of` raises.
    """
    proposal = proposals.of(session, owner, spec, prior, max_items)
    items = len(proposal.images) * spec.variants
    reused = _reused(session, owner, spec, proposal) if spec.reuse else 0
    at_work = [worker for worker in workers.alive(session) if Queue.GPU in worker.queues.split(",")]
    measured = _measured(session, proposal.resolved, prior)
    each = measured or _guessed(proposal.resolved, prior, on_gpu=any("cpu" not in worker.device for worker in at_work))
    needed = _bytes(session, spec, proposal, items - reused, items)
    hindered = []
    if not at_work:
        hindered.append("No worker is there at the moment: nothing is made until one is started.")
    if bytes_free is not None and needed > bytes_free - min_free:
        hindered.append("There is less room on the disk than this needs: it would be refused.")
    return Estimate(
        images=len(proposal.images),
        items=items,
        long_side=proposal.resolved.long_side,
        reused=reused,
        seconds=(items - reused) * each / max(1, len(at_work)),
        basis="measured" if measured else "guess",
        workers=len(at_work),
        bytes_needed=needed,
        bytes_free=bytes_free,
        warnings=hindered + proposal.warnings,
    )


def _reused(session: Session, owner: str, spec: ExpansionSpec, proposal: Proposal) -> int:
    """How many of the items the owner has finished before."""
    keys = [
        proposals.seed_and_key(spec, proposal.resolved, image, variant)[1]
        for image in proposal.images
        for variant in range(1, spec.variants + 1)
    ]
    mine = select(func.count(Item.work_key.distinct())).join(Item.job)
    mine = mine.where(Item.state == ItemState.DONE, Job.owner == owner)
    return sum(session.scalar(mine.where(Item.work_key.in_(chunk))) or 0 for chunk in chunks(keys))


def _measured(session: Session, resolved: ResolvedSpec, prior: Prior) -> float | None:
    """Seconds that an item took in the latest jobs of whomever, with as large a canvas and the same kind of steps."""
    alike = (
        select(Job.id)
        .where(
            Job.resolved["prior_sha256"].as_string() == resolved.prior_sha256,
            Job.resolved["long_side"].as_integer() == resolved.long_side,
            Job.resolved["preset"].as_string() == resolved.preset,
        )
        .order_by(Job.created_at.desc())
        .limit(_RECENT)
    )
    seconds = func.avg(Item.seconds).label("seconds")
    made = (Item.state == ItemState.DONE) & Item.seconds.is_not(None) & Item.reused_from.is_(None)
    rows = session.execute(select(Item.job_id, seconds).where(Item.job_id.in_(alike), made).group_by(Item.job_id)).all()
    if not rows:
        return None
    found = {job.id: ResolvedSpec.model_validate(job.resolved) for job in _jobs(session, [row.job_id for row in rows])}
    each = [row.seconds / _work(found[row.job_id], prior.native_size) for row in rows]
    return float(sum(each) / len(each)) * _work(resolved, prior.native_size)


def _jobs(session: Session, ids: Sequence[str]) -> Sequence[Job]:
    return session.scalars(select(Job).where(Job.id.in_(ids))).all()


def _guessed(resolved: ResolvedSpec, prior: Prior, *, on_gpu: bool) -> float:
    return (_GPU_SECONDS if on_gpu else _CPU_SECONDS) * prior.size * _work(resolved, prior.native_size)


def _work(resolved: ResolvedSpec, native_size: int) -> float:
    """What an image takes, in steps that pull, on a canvas of the prior's own size."""
    share = (resolved.long_side / native_size) ** 2
    pasted = min(resolved.paste / resolved.enter, 1)
    step = _FORWARD * pasted + 1 - pasted
    finish = _FINISH * resolved.finish * share
    if not 0 < resolved.native_size < resolved.long_side:
        return step * resolved.steps * share + finish
    # First on a canvas of the prior's own size, then the end of the way on the whole one.
    return resolved.steps * (step + _FORWARD * SECOND_WALK / resolved.enter * share) + finish


def _bytes(session: Session, spec: ExpansionSpec, proposal: Proposal, new: int, items: int) -> int:
    """Room for the new images, and for a zip of all of them and of the originals."""
    ids = [image.id for image in proposal.images]
    size = select(func.sum(caps.size_of_new(spec.output.image_format)))
    mean = sum(int(session.scalars(size.where(Image.id.in_(chunk))).one()) for chunk in chunks(ids)) / len(ids)
    copied = caps.size_of_originals(session, proposal.dataset.id) if spec.output.include_originals else 0
    return round(mean * (new + items)) + copied
