"""Columns that several tables have."""

import uuid
from typing import Any

from sqlalchemy import BigInteger, Double, Integer, String
from sqlalchemy import Enum as SqlEnum
from sqlalchemy.orm import Mapped, mapped_column

from shared import logs

BigId = BigInteger().with_variant(Integer, "sqlite")


def new_id() -> str:
    return uuid.uuid4().hex


def by_value(enum: type[Any]) -> SqlEnum:
    """An enum kept as its value in a plain column: a new state needs no change of a database type."""
    return SqlEnum(
        enum, native_enum=False, length=32, create_constraint=False, values_callable=lambda e: [m.value for m in e]
    )


class Leased:
    """Work that one worker at a time holds, by a token, until `lease_until`."""

    token: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[float | None] = mapped_column(Double)
    lapses: Mapped[int] = mapped_column(default=0, server_default="0")


class Asked:
    """What a request has made."""

    request_id: Mapped[str | None] = mapped_column(String(64), default=logs.request_id)
    """Of the request, so that what workers log about it can be told to belong to it."""
