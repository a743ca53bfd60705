"""The audit trail."""

from sqlalchemy import Double, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Base, now
from shared.models.columns import new_id


class AuditEntry(Base):
    """Something that somebody did in a project. Rows are only added."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_owner_created_at", "owner", "created_at", "id"),
        Index("ix_audit_owner_object", "owner", "object", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Double, default=now())
    by: Mapped[str] = mapped_column(String(100))
    """The name that the key has which was used."""
    action: Mapped[str] = mapped_column(String(32))
    """A `shared.audit.Action`."""
    object: Mapped[str] = mapped_column(String(200))
    """The path of what it was done to, as the API has it."""
    count: Mapped[int] = mapped_column(default=1)
    """To how many things in that."""
