"""Datasets, their images, and files that are to become one."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, LargeBinary, String, UniqueConstraint, true
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.db import Base, now
from shared.models.columns import Asked, BigId, Leased, by_value, new_id
from shared.states import DatasetState


def white_of(mode: str, deep: int) -> int:
    """The grey value that is shown as white of an image of that mode, in a dataset whose 16-bit images have `deep`."""
    return deep if mode == "I;16" else 255


class Dataset(Asked, Leased, Base):
    """An uploaded dataset. While `checking`, `token` belongs to the worker that reads it."""

    __tablename__ = "dataset"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(200))
    state: Mapped[DatasetState] = mapped_column(by_value(DatasetState), default=DatasetState.CHECKING)
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

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
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
