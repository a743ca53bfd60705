"""The zips of finished jobs."""

from typing import Self

from pydantic import BaseModel, Field

from shared import models
from shared.filters import Threshold
from shared.jobs import outdated
from shared.states import ArchiveState


class Archive(BaseModel):
    """The zip of a finished job."""

    state: ArchiveState
    bytes: int | None
    sha256: str | None
    error: str | None
    revision: int = Field(description="How many were ordered so far, this one included. Only the last is kept.")
    filters: list[Threshold] = Field(description="What was left out of it by its measures.")
    outdated: bool = Field(
        description="Whether verdicts were given or taken back since it was ordered. A `POST` to it builds it anew."
    )

    @classmethod
    def from_row(cls, row: models.Archive, job: models.Job) -> Self:
        return cls(
            state=row.state,
            bytes=row.size,
            sha256=row.sha256,
            error=row.error,
            revision=job.revision,
            filters=[Threshold.model_validate(each) for each in row.filters],
            outdated=outdated(job, row),
        )
