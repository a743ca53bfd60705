"""Blinded reviews: can an expert tell a job's new images from those of its dataset?"""

from typing import Annotated, Self

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import joinedload

from api.deps import Caller, CallerDep, PartsDep, SessionsDep
from api.problems import documented
from api.routes import HexId
from api.schemas.fields import Time
from shared import jobs, models, previews, reviews
from shared.errors import NotFound
from shared.previews import Made
from shared.reviews import Answer
from shared.spec import MAX_SEED
from shared.strict import Strict

router = APIRouter(prefix="/v1/jobs/{job_id}/reviews", tags=["review"])

_CardId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class Wanted(Strict):
    """A review to begin."""

    count: int = Field(20, ge=2, le=500, description="How many images; fewer if the job has not so many sources.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Decides which images, and their order.")


class Card(BaseModel):
    """An image that is shown."""

    id: str = Field(description="Says nothing of what it is.")
    answer: Answer | None
    truth: Answer | None = Field(description="Null until all are answered.")


class Score(BaseModel):
    """How a review went."""

    right: int
    cards: int
    real: int
    real_known: int = Field(description="Of the dataset's own images, those that were called real.")
    regrown: int
    regrown_known: int = Field(description="Of the new images, those that were called regrown.")


class Review(BaseModel):
    """Images of a dataset and new ones in random order, each of another source."""

    id: str
    by: str
    seed: int
    created_at: Time
    finished_at: Time | None = Field(description="Null while a card is not answered.")
    cards: list[Card]
    score: Score | None

    @classmethod
    def from_row(cls, row: models.Review) -> Self:
        score = reviews.score(row)
        cards = [
            Card(id=card["id"], answer=row.answers.get(card["id"]), truth=reviews.truth(card) if score else None)
            for card in row.cards
        ]
        told = ("right", "cards", "real", "real_known", "regrown", "regrown_known")
        return cls(
            id=row.id,
            by=row.by,
            seed=row.seed,
            created_at=row.created_at,
            finished_at=row.finished_at,
            cards=cards,
            score=score and Score(**{name: getattr(score, name) for name in told}),
        )


class Reviews(BaseModel):
    """The reviews of a job that are answered, oldest first."""

    items: list[Review]


class CardAnswer(Strict):
    """What somebody takes a card for."""

    card: _CardId
    answer: Answer


@router.post("", status_code=201, summary="Begin a blinded review", responses=documented(400, 404, 409, 413, 422))
def begin_review(job_id: HexId, wanted: Wanted, caller: CallerDep, parts: PartsDep, response: Response) -> Review:
    """The same seed and count give the same review, until it is answered. 409 before images of two sources are made."""
    with parts.sessions.write() as session:
        job = jobs.get(session, caller.project, job_id)
        row = reviews.begin(session, job, caller.name, wanted.count, wanted.seed)
        response.headers["Location"] = f"/v1/jobs/{job_id}/reviews/{row.id}"
        return Review.from_row(row)


@router.get("", summary="List the reviews that are answered", responses=documented(404, 422))
def list_reviews(job_id: HexId, caller: Caller, sessions: SessionsDep) -> Reviews:
    """With their scores."""
    with sessions.read() as session:
        job = jobs.get(session, caller, job_id)
        return Reviews(items=[Review.from_row(row) for row in reviews.finished(session, job.id)])


@router.get("/{review_id}", summary="A blinded review", responses=documented(404, 422))
def get_review(job_id: HexId, review_id: HexId, caller: Caller, sessions: SessionsDep) -> Review:
    """Once all is answered, with the truth and the score."""
    with sessions.read() as session:
        return Review.from_row(reviews.get(session, jobs.get(session, caller, job_id), review_id))


@router.post(
    "/{review_id}/answers", summary="Say what is real and what regrown", responses=documented(400, 404, 409, 413, 422)
)
def answer_review(
    job_id: HexId,
    review_id: HexId,
    answers: Annotated[list[CardAnswer], Body(min_length=1, max_length=500)],
    caller: Caller,
    parts: PartsDep,
) -> Review:
    """One by one or all at once. Each may be changed until the last is there; then the truth is told, and it is 409."""
    with parts.sessions.write() as session:
        row = reviews.get(session, jobs.get(session, caller, job_id), review_id)
        reviews.answer(session, row, {each.card: each.answer for each in answers})
        return Review.from_row(row)


@router.get(
    "/{review_id}/cards/{card_id}/picture",
    summary="The picture on a card",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}, "description": "The picture."}, **documented(404, 422)},
)
def get_card_picture(
    job_id: HexId,
    review_id: HexId,
    card_id: Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="The card.")],
    caller: Caller,
    parts: PartsDep,
    size: Annotated[int, Query(ge=16, le=previews.LARGEST, description="Pixels of its longer side.")] = 512,
    boxes: Annotated[bool, Query(description="Whether what is labelled is drawn on it.")] = False,
) -> Response:
    """A JPEG, made in the same way of either kind. It is not to be kept."""
    with parts.sessions.read() as session:
        review = reviews.get(session, jobs.get(session, caller, job_id), review_id)
        card = next((card for card in review.cards if card["id"] == card_id), None)
        image = session.get(models.Image, card["image"], options=[joinedload(models.Image.dataset)]) if card else None
        item = session.get(models.Item, card["item"]) if card and card["item"] is not None else None
        if card is None or image is None or (card["item"] is not None and (item is None or item.result_key is None)):
            raise NotFound(f"Review {review_id} has no picture for the card {card_id}.")
        key, labels = (item and item.result_key) or "", (image.boxes, image.outlines)
        made = Made(key, image.sha256, image.path, image.upright, image.white, labels)
    drawn = previews.variant if item else previews.original
    picture = drawn(parts.storage, made, size, labels=boxes)
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "no-store"})
