"""The items of jobs, and what people say of them."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.db import Base, now
from shared.models.columns import BigId, Leased, by_value, new_id
from shared.models.datasets import Image
from shared.models.jobs import Job
from shared.states import Decision, ItemState


class Item(Leased, Base):
    """One image to be made: a variant of a source image."""

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("job_id", "image_id", "variant"),
        # The only rows a claim looks at, however many are done.
        Index(
            "ix_item_live",
            "job_id",
            "state",
            "lapses",
            "id",
            postgresql_where=text("state IN ('pending', 'running')"),
            sqlite_where=text("state IN ('pending', 'running')"),
        ),
        # Only what is claimed: a renewal finds its batch by it, the sweep what lapsed.
        Index(
            "ix_item_token",
            "token",
            postgresql_where=text("token IS NOT NULL"),
            sqlite_where=text("token IS NOT NULL"),
        ),
        # How many there are in each state of those that no claim looks at.
        Index(
            "ix_item_settled",
            "state",
            postgresql_where=text("state IN ('done', 'failed', 'cancelled')"),
            sqlite_where=text("state IN ('done', 'failed', 'cancelled')"),
        ),
        # Those that listen to a job ask for what was settled last.
        Index("ix_item_job_id_settled_at", "job_id", "settled_at"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    image_id: Mapped[int] = mapped_column(ForeignKey("image.id"), index=True)
    variant: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    work_key: Mapped[str] = mapped_column(String(64), index=True)
    state: Mapped[ItemState] = mapped_column(by_value(ItemState), default=ItemState.PENDING)
    worker: Mapped[str | None] = mapped_column(String(200))
    step: Mapped[int] = mapped_column(default=0, server_default="0")
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    error: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    started_at: Mapped[float | None] = mapped_column(Double)
    settled_at: Mapped[float | None] = mapped_column(Double)
    lapsed_at: Mapped[float | None] = mapped_column(Double)
    """When it was last found that the worker that had it had vanished."""
    seconds: Mapped[float | None] = mapped_column(Double)
    result_key: Mapped[str | None] = mapped_column(String(200), index=True)
    reused_from: Mapped[str | None] = mapped_column(String(32))
    """The job whose finished item this one took over; its file belongs to both."""
    result_sha256: Mapped[str | None] = mapped_column(String(64))
    measures: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    made_by: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Device, batch, dtype, threads and versions: what the bytes may depend on beside the work key."""

    job: Mapped[Job] = relationship()
    image: Mapped[Image] = relationship()
    verdict: Mapped["Verdict | None"] = relationship(passive_deletes=True)

    @property
    def standing(self) -> "Verdict | None":
        """The verdict on the image that it has now."""
        return self.verdict if self.verdict and self.verdict.result_sha256 == self.result_sha256 else None


class Verdict(Base):
    """What a person thinks of a new image, apart from the item's state: of the image with that hash only, and of no
    other that may be made in its place."""

    __tablename__ = "verdict"

    item_id: Mapped[int] = mapped_column(ForeignKey("item.id", ondelete="CASCADE"), primary_key=True)
    decision: Mapped[Decision] = mapped_column(by_value(Decision))
    reason: Mapped[str | None] = mapped_column(String(500))
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[float] = mapped_column(Double, default=now())
    result_sha256: Mapped[str] = mapped_column(String(64))


class Review(Base):
    """Images of a job and of its dataset in random order, for somebody who is to tell which is which."""

    __tablename__ = "review"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), index=True)
    by: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    finished_at: Mapped[float | None] = mapped_column(Double)
    cards: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """Of each its id, which tells nothing, the image, and the item or null where the image itself is shown."""
    answers: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    """By the card's id: `real` or `regrown`."""
