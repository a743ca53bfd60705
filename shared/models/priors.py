"""Priors, and those that are being trained or fetched."""

from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.db import Base, now
from shared.models.columns import Asked, Leased, by_value, new_id
from shared.models.datasets import Dataset
from shared.states import FetchState, TrainingState


class Prior(Base):
    """An installed prior, or an autoencoder that may guide one, written by whoever can see its folder: the API may
    not."""

    __tablename__ = "prior"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True, default="", server_default="")
    """Whose training made it; empty for what the operator installed, which is for all."""
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    native_size: Mapped[int]
    multiple: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)
    card: Mapped[str] = mapped_column(default="")
    training_id: Mapped[str | None] = mapped_column(String(32))
    """The training that made it here, and under which its folder lies in storage; the row of that may be gone."""
    fetch_id: Mapped[str | None] = mapped_column(String(32))
    """The same of the fetch that brought it here."""
    source: Mapped[str | None] = mapped_column(String(300))
    """Where it was fetched from: the repository and its commit."""
    trained_on: Mapped[list[str]] = mapped_column(JSON, default=list, server_default="[]", deferred=True)
    """Hashes of the images it learned from, as far as its card tells."""
    kind: Mapped[Literal["prior", "autoencoder"]] = mapped_column(String(20), default="prior", server_default="prior")
    """`prior`, or `autoencoder`."""
    path: Mapped[str | None] = mapped_column(String(4096))
    """Where it lies, if it was added where it is."""
    channels: Mapped[int | None]
    """Of its latents, whose sides are by `factor` smaller than a picture's; null if it was described before."""
    factor: Mapped[int | None]
    prompts: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether it can be told what to draw."""
    words: Mapped[list[str]] = mapped_column(JSON, default=list, server_default="[]")
    """Those that it has learned beside its vocabulary, such as `<fracture>`."""

    @property
    def made_by(self) -> str | None:
        """The training or the fetch under whose id its folder lies in storage."""
        return self.training_id or self.fetch_id


class Training(Asked, Leased, Base):
    """A prior that is being trained. While it is `running`, `token` belongs to the worker that trains it."""

    __tablename__ = "training"
    __table_args__ = (
        # Of one name an owner has one training that may still become a prior.
        Index(
            "uq_training_live_name",
            "owner",
            "name",
            unique=True,
            postgresql_where=text("state IN ('pending', 'running')"),
            sqlite_where=text("state IN ('pending', 'running')"),
        ),
        UniqueConstraint("owner", "key"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(100))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"), index=True)
    key: Mapped[str | None] = mapped_column(String(255))
    """The Idempotency-Key that came with the request."""
    request_sha256: Mapped[str] = mapped_column(String(64))
    settings: Mapped[dict[str, Any]] = mapped_column(JSON)
    init: Mapped[str | None] = mapped_column(String(100))
    """The prior it starts from."""
    init_sha256: Mapped[str | None] = mapped_column(String(64))
    licence: Mapped[str] = mapped_column(String(500), default="")
    images: Mapped[int]
    """How many images it learns from."""
    state: Mapped[TrainingState] = mapped_column(by_value(TrainingState), default=TrainingState.PENDING)
    worker: Mapped[str | None] = mapped_column(String(200))
    stage: Mapped[str] = mapped_column(String(50), default="")
    step: Mapped[int] = mapped_column(default=0)
    steps: Mapped[int] = mapped_column(default=0)
    """In all its stages; 0 until a worker has begun."""
    loss: Mapped[float | None] = mapped_column(Double)
    step_seconds: Mapped[float | None] = mapped_column(Double)
    """Mean of the latest steps."""
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[float] = mapped_column(Double, default=now())
    claimed_at: Mapped[float | None] = mapped_column(Double)
    yielded_at: Mapped[float | None] = mapped_column(Double)
    """When it made way for the items of jobs; null while it has not, and once it goes on."""
    finished_at: Mapped[float | None] = mapped_column(Double)

    dataset: Mapped[Dataset] = relationship()


class Fetch(Asked, Leased, Base):
    """A prior that is fetched from a hub. While it is `running`, `token` belongs to the worker that fetches it."""

    __tablename__ = "fetch"
    __table_args__ = (
        # Of one name an owner has one fetch that may still become a prior.
        Index(
            "uq_fetch_live_name",
            "owner",
            "name",
            unique=True,
            postgresql_where=text("state IN ('pending', 'running')"),
            sqlite_where=text("state IN ('pending', 'running')"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(100))
    repo: Mapped[str] = mapped_column(String(200))
    revision: Mapped[str] = mapped_column(String(40))
    """A commit, and never a name of one."""
    options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """Which of its files are wanted: `file`, `architecture` and `variant` of a `shared.fetches.FetchSpec`."""
    state: Mapped[FetchState] = mapped_column(by_value(FetchState), default=FetchState.PENDING)
    worker: Mapped[str | None] = mapped_column(String(200))
    stage: Mapped[str] = mapped_column(String(50), default="")
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of all files together; 0 until a worker has asked."""
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[float] = mapped_column(Double, default=now())
    claimed_at: Mapped[float | None] = mapped_column(Double)
    next_at: Mapped[float] = mapped_column(Double, default=now())
    """Not tried before."""
    finished_at: Mapped[float | None] = mapped_column(Double)
