"""Datasets and their images."""

from typing import Self

from pydantic import BaseModel, Field

from api.problems import Place
from api.report import Counts, Report
from api.schemas.fields import Share, Time
from shared import models
from shared.reading import Reading
from shared.states import DatasetState


class Dataset(BaseModel):
    """An uploaded dataset."""

    id: str
    name: str
    state: DatasetState = Field(description="`checking` until a worker has read it.")
    created_at: Time
    upload_bytes: int
    reading: Reading = Field(description="How it was to be read.")
    parent: str | None = Field(description="The dataset it grew from, which may be gone; null if it named none.")
    format: str = Field(description="`yolo`, `coco`, `voc` or `darknet`; empty while checking.")
    layout: str = Field(
        description="The folder of its images, or with COCO its documents, `{split}` standing for the split; empty "
        "while checking."
    )
    classes: list[str] = Field(description="Class names in the upload's own order.")
    splits: list[str]
    counts: Counts | dict[str, int] = Field(description="Empty unless `ready`.")
    problems: list[Place] = Field(description="Why it was rejected: each fault that was found.")
    warnings: list[str]
    report: Report | None = Field(
        description="Null unless `ready`, and of datasets that were checked before there was one."
    )

    @classmethod
    def from_row(cls, row: models.Dataset) -> Self:
        reading = Reading.model_validate(row.options or {})
        return cls(
            id=row.id,
            name=row.name,
            state=row.state,
            created_at=row.created_at,
            upload_bytes=row.upload_size,
            reading=reading,
            parent=reading.parent,
            format=row.format,
            layout=row.layout,
            classes=row.classes,
            splits=row.splits,
            counts=Counts.model_validate(row.counts) if row.counts else {},
            problems=[Place.model_validate(problem) for problem in row.problems],
            warnings=row.warnings,
            report=Report.model_validate(row.report) if row.report else None,
        )


class Box(BaseModel):
    """A labelled rectangle, in shares of the image's width and height from its upper left corner."""

    class_index: int
    class_name: str
    x0: Share
    y0: Share
    x1: Share
    y1: Share
    outline: list[Share] | None = Field(
        description="The polygon it bounds, as x, y, x, y, ...; null if the label is a rectangle itself."
    )


class Image(BaseModel):
    """One image of a dataset."""

    id: int
    path: str = Field(description="Its name in the upload.")
    split: str
    width: int
    height: int
    mode: str = Field(description="L, LA, RGB, RGBA, or I;16 for 16-bit grey.")
    format: str
    bytes: int
    sha256: str
    boxes: list[Box]
    label_path: str | None = Field(description="The name in the upload of the file its labels are in.")
    group: str | None = Field(description="The patient or scene it is of, found by `group_pattern`.")
    upright: bool = Field(
        description="False if its labels were made for its pixels as they are stored, although EXIF turns it."
    )
    mask_sha256: str | None = Field(description="Of the mask image that came with it; null if none did.")

    @classmethod
    def from_row(cls, row: models.Image, classes: list[str]) -> Self:
        boxes = [
            Box(class_index=int(index), class_name=classes[int(index)], x0=x0, y0=y0, x1=x1, y1=y1, outline=outline)
            for (index, x0, y0, x1, y1), outline in zip(row.boxes, row.outlines or [None] * len(row.boxes), strict=True)
        ]
        return cls(
            id=row.id,
            path=row.path,
            split=row.split,
            width=row.width,
            height=row.height,
            mode=row.mode,
            format=row.format,
            bytes=row.size,
            sha256=row.sha256,
            boxes=boxes,
            label_path=row.label_path,
            group=row.group,
            upright=row.upright,
            mask_sha256=row.mask_sha256,
        )
