"""What people think of new images: given, taken back, counted. The state of an item does not change by it.

A verdict is on an image, not on an item: of an item that was made again, and came out otherwise, there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, insert, select, update
from sqlalchemy.orm import Session

from shared.db import chunks, now
from shared.errors import Conflict, Fault, Invalid, NotFound
from shared.models import Item, Job, Verdict
from shared.states import Decision, ItemState


@dataclass(frozen=True, slots=True)
class Opinion:
    """A verdict to be given; without a `decision` the one there is is taken back."""

    item_id: int
    decision: Decision | None
    reason: str | None = None


def judge(session: Session, job: Job, by: str, opinions: Sequence[Opinion]) -> int:
    """Give verdicts, all or none; returns how many differ from what was said before, by whomever.

    Raises:
        NotFound: an item is not of the job.
        Conflict: an item has no image yet.
        Invalid: an item is named twice.
    """
    wanted = {opinion.item_id: opinion for opinion in opinions}
    if len(wanted) < len(opinions):
        raise Invalid("An item is named twice.", [Fault("body", "each item once")])
    # A job's images are replaced by who holds the job only.
    session.execute(select(Job.id).where(Job.id == job.id).with_for_update())
    known: dict[int, Row[Any]] = {}
    for ids in chunks(list(wanted)):
        mine = select(Item.id, Item.state, Item.result_sha256).where(Item.job_id == job.id, Item.id.in_(ids))
        known |= {row.id: row for row in session.execute(mine)}
    for opinion in opinions:
        if opinion.item_id not in known:
            raise NotFound(f"Job {job.id} has no item {opinion.item_id}.")
        if opinion.decision and known[opinion.item_id].state != ItemState.DONE:
            raise Conflict(f"Item {opinion.item_id} has no image: it is {known[opinion.item_id].state}.")
    said = _said(session, list(wanted))
    new = [
        opinion
        for opinion in opinions
        if said.get(opinion.item_id) != _meant(opinion, known[opinion.item_id].result_sha256)
    ]
    for chunk in chunks(new):
        session.execute(delete(Verdict).where(Verdict.item_id.in_([opinion.item_id for opinion in chunk])))
        at = session.scalar(select(now()))
        given = [_row(opinion, known[opinion.item_id].result_sha256, by, at) for opinion in chunk if opinion.decision]
        if given:
            session.execute(insert(Verdict), given)
    if new:
        session.execute(
            update(Job).where(Job.id == job.id).values(judged_at=now()).execution_options(synchronize_session=False)
        )
        session.refresh(job)
    return len(new)


def counts(session: Session, job_id: str) -> dict[Decision, int]:
    """How many images of a job are accepted and rejected."""
    by_decision = select(Verdict.decision, func.count()).join(Item, stands()).where(Item.job_id == job_id)
    return {decision: int(count) for decision, count in session.execute(by_decision.group_by(Verdict.decision))}


def stands() -> ColumnElement[bool]:
    """Whether a verdict is on the image that its item has now."""
    return (Verdict.item_id == Item.id) & (Verdict.result_sha256 == Item.result_sha256)


def _said(session: Session, item_ids: Sequence[int]) -> dict[int, tuple[Decision, str | None, str]]:
    said: dict[int, tuple[Decision, str | None, str]] = {}
    for ids in chunks(item_ids):
        rows = session.scalars(select(Verdict).where(Verdict.item_id.in_(ids)))
        said |= {row.item_id: (row.decision, row.reason, row.result_sha256) for row in rows}
    return said


def _meant(opinion: Opinion, result_sha256: str) -> tuple[Decision, str | None, str] | None:
    return (opinion.decision, opinion.reason, result_sha256) if opinion.decision else None


def _row(opinion: Opinion, result_sha256: str, by: str, at: float | None) -> dict[str, Any]:
    return {
        "item_id": opinion.item_id,
        "decision": opinion.decision,
        "reason": opinion.reason,
        "by": by,
        "at": at,
        "result_sha256": result_sha256,
    }
