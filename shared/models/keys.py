"""Who may speak for a project."""

from sqlalchemy import Double, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Base, now


class ApiKey(Base):
    """Lets a person or a script speak for a project. The key itself is told once and kept nowhere: only its hash is."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """How the key begins, after `rg_`: whoever finds one sees which it is."""
    project: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(100))
    """Whose it is."""
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    expires_at: Mapped[float | None] = mapped_column(Double)
    revoked_at: Mapped[float | None] = mapped_column(Double)
    used_at: Mapped[float | None] = mapped_column(Double)
    """When it was last used, to the minute."""


class SignIn(Base):
    """A browser in which somebody gave their key: it has a cookie, whose hash this is, until they sign out."""

    __tablename__ = "sign_in"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_key.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    expires_at: Mapped[float] = mapped_column(Double)
