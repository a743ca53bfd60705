"""What goes: files that are to be removed, and what says so of what was forgotten."""

from typing import Any

from sqlalchemy import JSON, Double, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Base, now
from shared.models.columns import BigId, new_id


class Trash(Base):
    """A stored file that may go, unless something still needs it. Written with the rows' own deletion, so that a
    process that dies in between leaves nothing behind."""

    __tablename__ = "trash"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    key: Mapped[str] = mapped_column(String(200))
    receipt_id: Mapped[str | None] = mapped_column(String(32), index=True)
    """The receipt that says it goes."""


class Receipt(Base):
    """What was forgotten, when and by whom. It outlives the dataset."""

    __tablename__ = "receipt"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    dataset_id: Mapped[str] = mapped_column(String(32), index=True)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    """As `forgetting.look` tells it."""
