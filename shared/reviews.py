"""Blinded reviews: somebody is shown images of a dataset and new ones in random order, and says which are which.

No picture is shown beside its source, and a card's id says nothing: it is drawn, not computed.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db import now
from shared.errors import Conflict, NotFound
from shared.models import Item, Job, Review
from shared.states import ItemState

Answer = Literal["real", "regrown"]
FEWEST = 2


@dataclass(frozen=True, slots=True)
class Score:
    """How a review went: of the real and of the new images, how many there were and how many were known as such."""

    real: int
    real_known: int
    regrown: int
    regrown_known: int

    @property
    def right(self) -> int:
        return self.real_known + self.regrown_known

    @property
    def cards(self) -> int:
        return self.real + self.regrown


def begin(session: Session, job: Job, by: str, count: int, seed: int) -> Review:
    """A review of up to `count` images, each of another source. The same again gives the same, until it is answered.

    About half are new. How many exactly is drawn too, so that nobody can tell the last by counting.

    Raises:
        Conflict: the job has not made images of two sources yet.
    """
    same = (Review.job_id == job.id) & (Review.by == by) & (Review.seed == seed) & Review.finished_at.is_(None)
    for open_one in session.scalars(select(Review).where(same).order_by(Review.created_at.desc())):
        if len(open_one.cards) == count:
            return open_one
    done = select(Item.image_id).where(Item.job_id == job.id, Item.state == ItemState.DONE)
    sources = session.scalars(done.distinct().order_by(Item.image_id)).all()
    if len(sources) < FEWEST:
        raise Conflict(f"The job has made images of {len(sources)} sources so far; a review needs {FEWEST}.")
    rng = np.random.default_rng([seed, int(job.id, 16)])
    count = min(count, len(sources))
    least = max(1, count // 4)
    new = int(np.clip(rng.binomial(count, 0.5), least, count - least))
    chosen = rng.permutation(len(sources))[:count]
    cards = [
        {
            "id": secrets.token_hex(8),
            "image": sources[place],
            "item": _variant(session, job.id, sources[place], rng) if number < new else None,
        }
        for number, place in enumerate(chosen)
    ]
    review = Review(
        job_id=job.id,
        by=by,
        seed=seed,
        cards=[cards[place] for place in rng.permutation(count)],
        answers={},
    )
    session.add(review)
    session.flush()
    return review


def get(session: Session, job: Job, review_id: str) -> Review:
    """A review of the job. Raises NotFound."""
    review = session.get(Review, review_id)
    if review is None or review.job_id != job.id:
        raise NotFound(f"Job {job.id} has no review {review_id!r}.")
    return review


def answer(session: Session, review: Review, answers: Mapping[str, Answer]) -> None:
    """Note answers, by card; until all are there, each may be changed. Said again they change nothing.

    Raises:
        NotFound: there is no such card.
        Conflict: all were answered, and the truth was told.
    """
    held = session.get_one(Review, review.id, with_for_update=True, populate_existing=True)
    cards = [card["id"] for card in held.cards]
    unknown = [card for card in answers if card not in cards]
    if unknown:
        raise NotFound(f"Review {review.id} has no card {unknown[0]!r}.")
    together = {**held.answers, **answers}
    if together == held.answers:
        return
    if held.finished_at is not None:
        raise Conflict("All cards were answered and the truth was told. Begin another review, with another seed.")
    held.answers = together
    if len(together) == len(cards):
        held.finished_at = session.scalar(select(now()))
    session.flush()


def score(review: Review) -> Score | None:
    """How it went; None while a card is not answered."""
    if review.finished_at is None:
        return None
    told = [(truth(card), review.answers[card["id"]]) for card in review.cards]
    return Score(*[n for kind in ("real", "regrown") for n in (_count(told, kind), told.count((kind, kind)))])


def truth(card: Mapping[str, object]) -> Answer:
    """What a card shows."""
    return "real" if card["item"] is None else "regrown"


def finished(session: Session, job_id: str) -> Sequence[Review]:
    """The reviews of a job that were answered, oldest first."""
    over = select(Review).where(Review.job_id == job_id, Review.finished_at.is_not(None))
    return session.scalars(over.order_by(Review.finished_at, Review.id)).all()


def _variant(session: Session, job_id: str, image_id: int, rng: np.random.Generator) -> int:
    of_it = select(Item.id).where(Item.job_id == job_id, Item.image_id == image_id, Item.state == ItemState.DONE)
    return int(rng.choice(session.scalars(of_it.order_by(Item.id)).all()))


def _count(told: Sequence[tuple[str, str]], kind: str) -> int:
    return sum(truth == kind for truth, _ in told)
