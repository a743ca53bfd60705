"""What there is to say of a job's images, free of the database."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from shared import items, reviews
from shared.filters import Candidate, Spread, Threshold, Thresholds, candidates, failed, spreads
from shared.models import Image, Item, Job, Verdict
from shared.previews import Made
from shared.reviews import Score
from shared.spec import ExpansionSpec, ResolvedSpec
from shared.states import Decision, ItemState
from shared.verdicts import stands

RANKED_BY = ("psnr_kept", "psnr", "source_distance")
"""What tells the best from the worst: the first of these that images have. Of the last, less is better."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Shown:
    """A variant that is shown beside its source. `rank` is `best`, `median` or `worst`."""

    rank: str
    item_id: int
    variant: int
    made: Made
    value: float


@dataclass(frozen=True, slots=True)
class Balance:
    """Labelled objects of a class in the expanded splits: before, and with the variants that are kept."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Account:
    """A job and what it has made."""

    job_id: str
    name: str
    dataset: str
    created_at: float
    finished_at: float | None
    spec: ExpansionSpec
    resolved: ResolvedSpec
    revision: int
    originals: int
    """Images in the expanded splits."""
    sources: int
    """Those of them of which variants were made."""
    counts: dict[ItemState, int]
    reused: int
    rejected: int
    filtered: int
    filters: tuple[tuple[Threshold, int], ...]
    """With how many images each alone would leave out."""
    reasons: tuple[tuple[str, int], ...]
    """Why images were rejected."""
    accepted: int
    balance: dict[str, Balance]
    spreads: tuple[Spread, ...]
    ranked_by: str | None
    shown: tuple[Shown, ...]
    scores: tuple[Score, ...]
    makers: tuple[tuple[dict[str, str], int], ...]
    """What made the images (`models.Item.made_by` but for the batch), and how many of them."""
    warnings: tuple[str, ...]

    @property
    def made(self) -> int:
        return self.counts.get(ItemState.DONE, 0)

    @property
    def kept(self) -> int:
        return self.made - self.rejected - self.filtered

    @property
    def epochs(self) -> int:
        """As many epochs of originals and variants show a model as many images as 100 of the originals."""
        return round(100 * self.originals / max(1, self.originals + self.kept))


def gather(session: Session, job_id: str) -> Account:
    """All of it, of what is done so far."""
    job = session.get_one(Job, job_id, options=[joinedload(Job.dataset), joinedload(Job.archive)])
    spec = ExpansionSpec.model_validate(job.spec)
    filters = [Threshold.model_validate(each) for each in job.archive.filters] if job.archive else []
    made = list(candidates(session, job_id))
    kept = [one for one in made if not one.rejected and not failed(one.measures, filters)]
    rejected = sum(one.rejected for one in made)
    ranked_by = next((name for name in RANKED_BY if any(name in one.measures for one in made)), None)
    verdicts = list(session.execute(_verdicts(job_id)))
    reasons = Counter(reason or "no reason given" for decision, reason in verdicts if decision == Decision.REJECT)
    return Account(
        job_id=job.id,
        name=job.name,
        dataset=job.dataset.name,
        created_at=job.created_at,
        finished_at=job.finished_at,
        spec=spec,
        resolved=ResolvedSpec.model_validate(job.resolved),
        revision=job.revision,
        originals=_originals(session, job, spec),
        sources=len({one.image_id for one in made}),
        counts=items.counts(session, job_id),
        reused=sum(session.scalars(select(func.count(Item.reused_from)).where(Item.job_id == job_id))),
        rejected=rejected,
        filtered=len(made) - rejected - len(kept),
        filters=_alone(made, filters),
        reasons=tuple(reasons.most_common()),
        accepted=sum(decision == Decision.ACCEPT for decision, _ in verdicts),
        balance=_balance(job, spec, kept),
        spreads=tuple(spreads(one.measures for one in made)),
        ranked_by=ranked_by,
        shown=_shown(session, kept, ranked_by) if ranked_by else (),
        scores=tuple(score for review in reviews.finished(session, job_id) if (score := reviews.score(review))),
        makers=_makers(session, job_id),
        warnings=tuple(job.warnings),
    )


def _verdicts(job_id: str) -> Any:
    return select(Verdict.decision, Verdict.reason).join(Item, stands()).where(Item.job_id == job_id)


def _originals(session: Session, job: Job, spec: ExpansionSpec) -> int:
    theirs = (Image.dataset_id == job.dataset_id) & Image.split.in_(spec.splits)
    return session.scalar(select(func.count()).select_from(Image).where(theirs)) or 0


def _alone(made: Sequence[Candidate], filters: Thresholds) -> tuple[tuple[Threshold, int], ...]:
    left = [one for one in made if not one.rejected]
    return tuple((each, sum(not each.passes(one.measures.get(each.measure)) for one in left)) for each in filters)


def _balance(job: Job, spec: ExpansionSpec, kept: Sequence[Candidate]) -> dict[str, Balance]:
    names = job.dataset.classes
    boxes: dict[str, dict[str, int]] = job.dataset.counts.get("boxes", {})
    new = Counter(names[index] for one in kept if one.split in spec.splits for index in one.classes)
    before = {name: sum(boxes.get(name, {}).get(split, 0) for split in spec.splits) for name in names}
    return {name: Balance(before[name], before[name] + new[name]) for name in names}


def _shown(session: Session, kept: Sequence[Candidate], ranked_by: str) -> tuple[Shown, ...]:
    """The best, those in the middle and the worst, no source twice where that can be."""
    sign = 1 if ranked_by == "source_distance" else -1
    with_it = [one for one in kept if ranked_by in one.measures]
    ranked = sorted(with_it, key=lambda one: (sign * one.measures[ranked_by], one.item_id))
    middle = len(ranked) // 2
    near_middle = [ranked[place] for place in sorted(range(len(ranked)), key=lambda place: abs(place - middle))]
    chosen: list[tuple[str, Candidate]] = []
    for rank, order in (("best", ranked), ("worst", ranked[::-1]), ("median", near_middle)):
        taken = {one.image_id for _, one in chosen}
        fresh: dict[int, Candidate] = {}
        for one in order:
            if len(fresh) == _SHOWN:
                break
            if one.image_id not in taken:
                fresh.setdefault(one.image_id, one)
        chosen += [(rank, one) for one in fresh.values()]
    chosen.sort(key=lambda each: ("best", "median", "worst").index(each[0]))
    rows = session.scalars(
        select(Item)
        .where(Item.id.in_([one.item_id for _, one in chosen]))
        .options(joinedload(Item.image).joinedload(Image.dataset))
    ).all()
    by_id = {row.id: row for row in rows}
    return tuple(_of(rank, by_id[one.item_id], one.measures[ranked_by]) for rank, one in chosen)


def _of(rank: str, item: Item, value: float) -> Shown:
    image = item.image
    labels = image.boxes, image.outlines
    made = Made(item.result_key or "", image.sha256, image.path, image.upright, image.white, labels)
    return Shown(rank, item.id, item.variant, made, value)


def _makers(session: Session, job_id: str) -> tuple[tuple[dict[str, str], int], ...]:
    done = select(Item.made_by).where(Item.job_id == job_id, Item.state == ItemState.DONE, Item.made_by.is_not(None))
    without = {"batch"}
    seen = Counter(
        tuple((name, str(maker[name])) for name in sorted(maker.keys() - without))
        for maker in session.scalars(done)
        if maker
    )
    return tuple((dict(maker), count) for maker, count in seen.most_common())
