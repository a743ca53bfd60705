"""Priors that are fetched from a hub."""

from typing import Literal, Self

from pydantic import BaseModel, Field

from api.schemas.fields import Failure, Share, Time
from shared import models
from shared.states import FetchState, Wait


class Fetch(BaseModel):
    """A prior that is fetched from a hub, and how far it is."""

    id: str
    name: str = Field(description="What jobs will call the prior.")
    repo: str
    revision: str
    file: str | None = Field(description="The one file of the repository that holds the whole model.")
    architecture: str | None = Field(description="What that file is said to be.")
    variant: str | None
    state: FetchState
    created_at: Time
    finished_at: Time | None
    stage: Literal["", "download", "check"] = Field(
        description="`check`: all is here, and is read once to see whether it can be used."
    )
    received: int = Field(description="Bytes that are here.")
    bytes: int = Field(description="Bytes there are; 0 until that is known.")
    progress: Share = Field(description="0..1, counted in bytes.")
    waits_for: Wait | None = Field(
        description="Why nobody works on it although it is `pending`: `no_worker`, `storage_low`, `storage_away`. Null "
        "if that is only a matter of its turn, or of the minutes after an attempt that failed."
    )
    attempts: int = Field(description="How often it failed since bytes came.")
    lapses: int = Field(description="How many workers vanished since bytes came.")
    error: Failure | None

    @classmethod
    def from_row(cls, row: models.Fetch, waits_for: Wait | None) -> Self:
        plain = ("id", "name", "repo", "revision", "state", "created_at", "finished_at", "stage", "received")
        return cls(
            **{name: getattr(row, name) for name in (*plain, "attempts", "lapses")},
            **row.options,
            bytes=row.size,
            progress=row.received / row.size if row.size else 0.0,
            waits_for=waits_for,
            error=Failure.model_validate(row.error) if row.error else None,
        )
