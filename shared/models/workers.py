"""Workers, as they are seen."""

from typing import Any

from sqlalchemy import JSON, Double, String
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Base


class Worker(Base):
    """A worker process that gave a sign of life at `seen_at`."""

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    queues: Mapped[str] = mapped_column(String(100))
    """With commas between their names; the sweep has none."""
    device: Mapped[str] = mapped_column(String(100))
    trouble: Mapped[str | None] = mapped_column(String(32))
    """Why it takes no work at present: a `shared.workers.Trouble`."""
    seen_at: Mapped[float] = mapped_column(Double)
    figures: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    """What it has counted: a `shared.figures.Figures`."""
