"""Files that come in pieces."""

from typing import Self

from pydantic import BaseModel, Field

from api import tus
from api.schemas.fields import Time
from shared import models


class Upload(BaseModel):
    """A file that comes in pieces."""

    id: str
    name: str
    created_at: Time
    expires_at: Time = Field(description="When it is forgotten, unless something is added to it before.")
    bytes: int = Field(description="How long the file is.")
    offset: int = Field(description="How much of it is stored: where to go on.")
    metadata: dict[str, str] = Field(description="What its sender said of it.")
    dataset: str | None = Field(description="The dataset's path, once all is there.")

    @classmethod
    def from_row(cls, row: models.Upload) -> Self:
        return cls(
            id=row.id,
            name=row.name,
            created_at=row.created_at,
            expires_at=row.expires_at,
            bytes=row.size,
            offset=row.received,
            metadata=tus.metadata(row.details),
            dataset=f"/v1/datasets/{row.id}" if row.received == row.size else None,
        )
