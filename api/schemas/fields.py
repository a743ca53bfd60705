"""Fields that several answers have."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field, PlainSerializer, WithJsonSchema


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[
    float,
    PlainSerializer(_rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-05-01T12:00:00.123Z"]}),
]
"""Seconds since 1970 in the database, RFC 3339 in UTC on the wire."""

Share = Annotated[float, Field(ge=0, le=1)]


class Failure(BaseModel):
    """Why an item, a training or a fetch failed, or why its last attempt did."""

    type: str
    detail: str
