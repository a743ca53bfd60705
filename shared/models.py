"""The rows. Times are seconds since 1970 by the database's clock (`db.now`), sizes are bytes, shares are 0..1."""

import uuid
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy import Enum as SqlEnum
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared import logs
from shared.db import Base, now
from shared.states import ArchiveState, DatasetState, Decision, ItemState, TrainingState, WebhookState

BigId = BigInteger().with_variant(Integer, "sqlite")


def _new_id() -> str:
    return uuid.uuid4().hex


def _state(enum: type[Any]) -> SqlEnum:
    # Kept as its value in a plain column: a new state needs no change of a database type.
    return SqlEnum(
        enum, native_enum=False, length=32, create_constraint=False, values_callable=lambda e: [m.value for m in e]
    )


def white_of(mode: str, deep: int) -> int:
    """The grey value that is shown as white of an image of that mode, in a dataset whose 16-bit images have `deep`."""
    return deep if mode == "I;16" else 255


class Leased:
    """Work that one worker at a time holds, by a token, until `lease_until`."""

    token: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[float | None] = mapped_column(Double)
    lapses: Mapped[int] = mapped_column(default=0, server_default="0")


class Asked:
    """What a request has made."""

    request_id: Mapped[str | None] = mapped_column(String(64), default=logs.request_id)
    """Of the request, so that what workers log about it can be told to belong to it."""


class Dataset(Asked, Leased, Base):
    """An uploaded dataset. While `checking`, `token` belongs to the worker that reads it."""

    __tablename__ = "dataset"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=_new_id)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(200))
    state: Mapped[DatasetState] = mapped_column(_state(DatasetState), default=DatasetState.CHECKING)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    upload_size: Mapped[int] = mapped_column(BigInteger, default=0)
    format: Mapped[str] = mapped_column(String(20), default="")
    layout: Mapped[str] = mapped_column(String(1024), default="")
    """As in `formats.samples.Contents`."""
    options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    """How its owner wants it to be read: a `shared.reading.Reading`."""
    report: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    """What was seen beside the counts: `worker.survey` makes it."""
    header: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    """What describes the set as a whole, in a form of its format's own: of YOLO's the data.yaml, as it came."""
    classes: Mapped[list[str]] = mapped_column(JSON, default=list)
    splits: Mapped[list[str]] = mapped_column(JSON, default=list)
    counts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    problems: Mapped[list[dict[str, str]]] = mapped_column(JSON, default=list)
    warnings: Mapped[list[str]] = mapped_column(JSON, default=list)
    white: Mapped[int] = mapped_column(default=255)
    """The grey value shown as white: 255, or for 16-bit images the smallest 2**k - 1 that holds them all."""

    images: Mapped[list["Image"]] = relationship(back_populates="dataset", passive_deletes=True)


class Upload(Base):
    """A file that comes in pieces, of which the first `received` bytes are stored. When all are, there is a dataset of
    the same id."""

    __tablename__ = "upload"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=_new_id)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(200))
    size: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """How the dataset is to be read, as in `Dataset`."""
    details: Mapped[str] = mapped_column(String(4096), default="")
    """What its sender said of it, as the header Upload-Metadata had it."""
    created_at: Mapped[float] = mapped_column(Double, default=now())
    expires_at: Mapped[float] = mapped_column(Double, index=True)


class Image(Base):
    """One image of a dataset, with its labels as they came."""

    __tablename__ = "image"
    __table_args__ = (UniqueConstraint("dataset_id", "path"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"), index=True)
    path: Mapped[str] = mapped_column(String(1024))
    split: Mapped[str] = mapped_column(String(100))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    format: Mapped[str] = mapped_column(String(10))
    mode: Mapped[str] = mapped_column(String(10))
    width: Mapped[int]
    height: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)
    boxes: Mapped[list[list[float]]] = mapped_column(JSON, default=list)
    """[class index, x0, y0, x1, y1], the last four in shares of the image."""
    outlines: Mapped[list[list[float] | None]] = mapped_column(JSON, default=list, server_default="[]")
    """For each box the polygon x0, y0, x1, y1, ... that it bounds, in shares; null where the label is a box itself.
    Empty where no label of the image has one."""
    mask_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    """Hash of the mask image that was uploaded with it, stored as originals are."""
    group: Mapped[str | None] = mapped_column(String(200))
    """The patient or scene it is of, found in its path."""
    upright: Mapped[bool] = mapped_column(default=True, server_default=true())
    """Whether EXIF turns it; false where its labels were made for the pixels as they are stored."""
    likeness: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    """What it looks like from afar (`shared.likeness`); null of datasets that were checked before there was one."""
    label_path: Mapped[str | None] = mapped_column(String(1024))
    label: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    """The label file, or what of one that many images share belongs to this."""
    label_sha256: Mapped[str] = mapped_column(String(64))

    dataset: Mapped[Dataset] = relationship(back_populates="images")

    @property
    def white(self) -> int:
        """The grey value of it that is shown as white."""
        return white_of(self.mode, self.dataset.white)


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

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=_new_id)
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
    state: Mapped[TrainingState] = mapped_column(_state(TrainingState), default=TrainingState.PENDING)
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


class Job(Asked, Base):
    """A request to expand a dataset. It has no state: that is computed from its items."""

    __tablename__ = "job"
    # Whose turn it is: an owner's last claim is the end of this index.
    __table_args__ = (Index("ix_job_owner_claimed_at", "owner", "claimed_at"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=_new_id)
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
    state: Mapped[ItemState] = mapped_column(_state(ItemState), default=ItemState.PENDING)
    worker: Mapped[str | None] = mapped_column(String(200))
    step: Mapped[int] = mapped_column(default=0, server_default="0")
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    error: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    started_at: Mapped[float | None] = mapped_column(Double)
    settled_at: Mapped[float | None] = mapped_column(Double)
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
    decision: Mapped[Decision] = mapped_column(_state(Decision))
    reason: Mapped[str | None] = mapped_column(String(500))
    by: Mapped[str] = mapped_column(String(64))
    at: Mapped[float] = mapped_column(Double, default=now())
    result_sha256: Mapped[str] = mapped_column(String(64))


class Review(Base):
    """Images of a job and of its dataset in random order, for somebody who is to tell which is which."""

    __tablename__ = "review"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=_new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), index=True)
    by: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    finished_at: Mapped[float | None] = mapped_column(Double)
    cards: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """Of each its id, which tells nothing, the image, and the item or null where the image itself is shown."""
    answers: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    """By the card's id: `real` or `regrown`."""


class Archive(Leased, Base):
    """The zip of a finished job. While `building`, `token` belongs to the worker that writes it."""

    __tablename__ = "archive"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    state: Mapped[ArchiveState] = mapped_column(_state(ArchiveState), default=ArchiveState.BUILDING)
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
    id: Mapped[str] = mapped_column(String(32), default=_new_id)
    """Of the message, the same at each attempt."""
    url: Mapped[str] = mapped_column(String(2000))
    """Empty: where the settings say."""
    state: Mapped[WebhookState] = mapped_column(_state(WebhookState), default=WebhookState.PENDING)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    next_at: Mapped[float] = mapped_column(Double, default=now())
    attempts: Mapped[int] = mapped_column(default=0)
    body: Mapped[str | None]
    error: Mapped[str | None]
    delivered_at: Mapped[float | None] = mapped_column(Double)

    job: Mapped[Job] = relationship(back_populates="told")


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


class IdempotencyKey(Base):
    """A key that an owner sent with a request for a job, so that the same request makes no second one."""

    __tablename__ = "idempotency_key"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[float] = mapped_column(Double, default=now())


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

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=_new_id)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    dataset_id: Mapped[str] = mapped_column(String(32), index=True)
    created_at: Mapped[float] = mapped_column(Double, default=now())
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    """As `forgetting.look` tells it."""


class AuditEntry(Base):
    """Something that somebody did in a project. Rows are only added."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_owner_created_at", "owner", "created_at", "id"),
        Index("ix_audit_owner_object", "owner", "object", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=_new_id)
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
