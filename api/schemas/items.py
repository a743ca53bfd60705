"""The items of a job, and what people think of them."""

from typing import Any, Self

from pydantic import BaseModel, Field

from api.schemas.fields import Failure, Time
from shared import models
from shared.states import Decision, ItemState


class Verdict(BaseModel):
    """What a person thinks of a new image."""

    verdict: Decision
    reason: str | None
    by: str
    at: Time

    @classmethod
    def from_row(cls, row: models.Verdict) -> Self:
        return cls(verdict=row.decision, reason=row.reason, by=row.by, at=row.at)


class Item(BaseModel):
    """One image to be made: a variant of a source image."""

    id: int
    image_id: int
    path: str = Field(description="The source image's name in the upload.")
    split: str
    variant: int
    seed: int
    state: ItemState
    step: int = Field(description="Sampler steps taken.")
    steps: int = Field(description="Sampler steps in all.")
    attempts: int = Field(description="How often it failed.")
    lapses: int = Field(description="How many workers vanished while they had it.")
    reused_from: str | None = Field(description="The job it was taken over from; null if it was made for this one.")
    error: Failure | None
    seconds: float | None
    sha256: str | None = Field(description="Of the new image's file.")
    measures: dict[str, Any] | None = Field(
        description="What was measured of it: `GET /v1/jobs/{id}/measures` says what each means."
    )
    verdict: Verdict | None = Field(description="What somebody thinks of it; its state does not change by that.")

    @classmethod
    def from_row(cls, row: models.Item, steps: int) -> Self:
        return cls(
            id=row.id,
            image_id=row.image_id,
            path=row.image.path,
            split=row.image.split,
            variant=row.variant,
            seed=row.seed,
            state=row.state,
            step=row.step,
            steps=steps,
            attempts=row.attempts,
            lapses=row.lapses,
            reused_from=row.reused_from,
            error=Failure.model_validate(row.error) if row.error else None,
            seconds=row.seconds,
            sha256=row.result_sha256,
            measures=row.measures,
            verdict=Verdict.from_row(row.standing) if row.standing else None,
        )
