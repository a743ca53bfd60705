"""The audit trail."""

from typing import Self

from pydantic import BaseModel, Field

from api.schemas.fields import Time
from shared import models
from shared.audit import Action


class AuditEntry(BaseModel):
    """Something that somebody did."""

    id: str
    created_at: Time
    by: str = Field(description="The name of the key that was used; `local` without one.")
    action: Action
    object: str = Field(
        description="The path of what it was done to; there may be nothing any more.", examples=["/v1/jobs/…/archive"]
    )
    count: int = Field(description="To how many things in that: images that were forgotten, items that were judged.")

    @classmethod
    def from_row(cls, row: models.AuditEntry) -> Self:
        return cls(
            id=row.id,
            created_at=row.created_at,
            by=row.by,
            action=Action(row.action),
            object=row.object,
            count=row.count,
        )
