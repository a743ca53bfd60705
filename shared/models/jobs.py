"""Jobs, their archives, and the word of their end."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.db import Base, now
from shared.models.columns import Asked, Leased, by_value, new_id
from shared.models.datasets import Dataset
from shared.states import ArchiveState, WebhookState


class Job(Asked, Base):
    """A request to expand a dataset. It has no state: that is computed from its items."""

    __tablename__ = "job"
    # Whose turn it is: an owner's last claim is the end of this index.
    __table_args__ = (Index("ix_job_owner_claimed_at", "owner", "claimed_at"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    resolved: Mapped[dict[str, Any]] = mapped_column(JSON)
    warnings: Mapped[list[str]] = mapped_column(JSON, default=list)
    priority: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    claimed_at: Mapped[float | None] = mapped_column(Double)
    """When a worker last took items of it: whose turn it is."""
    finished_at: Mapped[float | None] = mapped_column(Double, index=True)
    paused_at: Mapped[float | None] = mapped_column(Double)
    cancelled_at: Mapped[float | None] = mapped_column(Double)
    judged_at: Mapped[float | None] = mapped_column(Double)
    """When a verdict on one of its images was last given or taken back."""
    revision: Mapped[int] = mapped_column(default=0, server_default="0")
    """How many archives of it were ordered; only the last is kept."""
    webhook: Mapped[str | None] = mapped_column(String(2000))
    """Whom to tell when it is over; empty: whom the settings name; null: nobody."""

    dataset: Mapped[Dataset] = relationship()
    archive: Mapped["Archive | None"] = relationship(back_populates="job")
    told: Mapped["Webhook | None"] = relationship(back_populates="job")


class Archive(Leased, Base):
    """The zip of a finished job. While `building`, `token` belongs to the worker that writes it."""

    __tablename__ = "archive"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    state: Mapped[ArchiveState] = mapped_column(by_value(ArchiveState), default=ArchiveState.BUILDING)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    key: Mapped[str | None] = mapped_column(String(200))
    sha256: Mapped[str | None] = mapped_column(String(64))
    size: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[str | None]
    filters: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list, server_default="[]")
    """Which images are left out of it by their measures: `shared.filters.Threshold`s."""

    job: Mapped[Job] = relationship(back_populates="archive")


class Webhook(Leased, Base):
    """The end of a job, as somebody is told of it. While it is delivered, `token` belongs to the worker that does."""

    __tablename__ = "webhook"
    __table_args__ = (
        # The only ones that are looked for, however many were delivered.
        Index(
            "ix_webhook_pending",
            "next_at",
            postgresql_where=text("state = 'pending'"),
            sqlite_where=text("state = 'pending'"),
        ),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(String(32), default=new_id)
    """Of the message, the same at each attempt."""
    url: Mapped[str] = mapped_column(String(2000))
    """Empty: where the settings say."""
    state: Mapped[WebhookState] = mapped_column(by_value(WebhookState), default=WebhookState.PENDING)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    next_at: Mapped[float] = mapped_column(Double, default=now())
    attempts: Mapped[int] = mapped_column(default=0)
    body: Mapped[str | None]
    error: Mapped[str | None]
    delivered_at: Mapped[float | None] = mapped_column(Double)

    job: Mapped[Job] = relationship(back_populates="told")


class IdempotencyKey(Base):
    """A key that an owner sent with a request for a job, so that the same request makes no second one."""

    __tablename__ = "idempotency_key"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[float] = mapped_column(Double, default=now())
