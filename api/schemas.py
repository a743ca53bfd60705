"""What crosses the wire."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from api import tus
from api.problems import Place
from api.report import Counts, Report
from shared import estimates, models
from shared.audit import Action
from shared.filters import Threshold
from shared.jobs import outdated
from shared.priors import BUILTIN
from shared.progress import Progress
from shared.reading import Reading
from shared.states import (
    LIVE_TRAINING,
    ArchiveState,
    DatasetState,
    Decision,
    ItemState,
    JobState,
    TrainingState,
    Wait,
    WebhookState,
    job_state,
)


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[
    float,
    PlainSerializer(_rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-05-01T12:00:00.123Z"]}),
]
"""Seconds since 1970 in the database, RFC 3339 in UTC on the wire."""

Share = Annotated[float, Field(ge=0, le=1)]


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


class Upload(BaseModel):
    """A file that comes in pieces."""

    id: str
    name: str
    created_at: Time
    expires_at: Time = Field(description="When it is forgotten, unless something is added to it before.")
    bytes: int = Field(description="How long the file is.")
    offset: int = Field(description="How much of it is stored: where to go on.")
    metadata: dict[str, str] = Field(description="What its sender said of it.")
    dataset: str | None = Field(description="The dataset's path, once all is there.")

    @classmethod
    def from_row(cls, row: models.Upload) -> Self:
        return cls(
            id=row.id,
            name=row.name,
            created_at=row.created_at,
            expires_at=row.expires_at,
            bytes=row.size,
            offset=row.received,
            metadata=tus.metadata(row.details),
            dataset=f"/v1/datasets/{row.id}" if row.received == row.size else None,
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


class Archive(BaseModel):
    """The zip of a finished job."""

    state: ArchiveState
    bytes: int | None
    sha256: str | None
    error: str | None
    revision: int = Field(description="How many were ordered so far, this one included. Only the last is kept.")
    filters: list[Threshold] = Field(description="What was left out of it by its measures.")
    outdated: bool = Field(
        description="Whether verdicts were given or taken back since it was ordered. A `POST` to it builds it anew."
    )

    @classmethod
    def from_row(cls, row: models.Archive, job: models.Job) -> Self:
        return cls(
            state=row.state,
            bytes=row.size,
            sha256=row.sha256,
            error=row.error,
            revision=job.revision,
            filters=[Threshold.model_validate(each) for each in row.filters],
            outdated=outdated(job, row),
        )


class Webhook(BaseModel):
    """Whether somebody was told that a job is over."""

    state: Literal["waiting", "pending", "delivered", "failed"] = Field(
        description="`waiting`: the job is not over; `pending`: it is delivered at the next opportunity, after "
        "`next_at`; `failed`: it was given up."
    )
    url: str | None = Field(description="Who is told; null: whom the installation names.")
    attempts: int
    next_at: Time | None = Field(description="When it is tried again, at the earliest; null unless it is `pending`.")
    delivered_at: Time | None
    error: str | None = Field(description="What is wrong with the last attempt.")

    @classmethod
    def from_row(cls, url: str, row: models.Webhook | None) -> Self:
        known = url or None
        if row is None:
            return cls(state="waiting", url=known, attempts=0, next_at=None, delivered_at=None, error=None)
        return cls(
            state=row.state.value,
            url=known,
            attempts=row.attempts,
            next_at=row.next_at if row.state == WebhookState.PENDING else None,
            delivered_at=row.delivered_at,
            error=row.error,
        )


class Job(BaseModel):
    """A request to expand a dataset, and how far it is."""

    id: str
    name: str
    dataset_id: str
    state: JobState = Field(description="Computed from the states of its items.")
    created_at: Time
    finished_at: Time | None
    counts: dict[ItemState, int] = Field(description="Items in each state.")
    total: int
    reused: int = Field(description="Items taken over from earlier jobs, which need not be made again.")
    waits_for: Wait | None = Field(
        description="Why nobody works on what is pending. `engine_changed`, `prior_changed`: the job was made for "
        "another one, and `/upgrade` decides what becomes of it. `prior_gone`: its prior was deleted. `no_worker`, "
        "`no_gpu`, `storage_low`, `storage_away`: it goes on by itself when that is over."
    )
    progress: Share = Field(description="0..1, counted in sampler steps.")
    items_per_second: float | None = Field(description="Null while it is not known.")
    eta_seconds: float | None = Field(description="From running time only; null while it is not known.")
    warnings: list[str]
    spec: dict[str, Any] = Field(description="What was asked for.")
    resolved: dict[str, Any] = Field(description="The same with every number filled in.")
    archive: Archive | None = Field(description="Null until the job is over, and if it made no image.")
    webhook: Webhook | None = Field(description="Whether somebody was told of its end; null if nobody is to be.")

    @classmethod
    def from_row(cls, row: models.Job, progress: Progress) -> Self:
        state = job_state(
            progress.counts, paused=row.paused_at is not None, cancel_requested=row.cancelled_at is not None
        )
        return cls(
            id=row.id,
            name=row.name,
            dataset_id=row.dataset_id,
            state=state,
            created_at=row.created_at,
            finished_at=row.finished_at,
            counts=dict.fromkeys(ItemState, 0) | progress.counts,
            total=sum(progress.counts.values()),
            reused=progress.reused,
            waits_for=progress.waits_for,
            progress=progress.share,
            items_per_second=progress.items_per_second,
            eta_seconds=progress.eta_seconds,
            warnings=row.warnings,
            spec=row.spec,
            resolved=row.resolved,
            archive=Archive.from_row(row.archive, row) if row.archive else None,
            webhook=None if row.webhook is None else Webhook.from_row(row.webhook, row.told),
        )


class Estimate(BaseModel):
    """What a job would take."""

    images: int = Field(description="Source images that would be expanded.")
    items: int = Field(description="New images in the end.")
    reused: int = Field(description="Those of them that were made before, and would be taken over.")
    seconds: float = Field(description="Of all workers that are there now, if they do nothing else.")
    basis: Literal["measured", "guess"] = Field(
        description="`measured`: images like these were made on this installation before; `guess`: from the size of "
        "the prior, which may be wrong by much."
    )
    workers: int = Field(description="Workers that make images and are there now.")
    bytes_needed: int = Field(description="For the new images and the zip, roughly.")
    bytes_free: int | None = Field(description="What the storage has left; null where that is not known.")
    warnings: list[str] = Field(description="What the job would warn of, and what stands in its way now.")

    @classmethod
    def of(cls, estimate: estimates.Estimate) -> Self:
        return cls(**asdict(estimate))


class Upgrade(BaseModel):
    """What becomes of the images that an earlier engine or prior has made."""

    model_config = ConfigDict(extra="forbid")

    done: Literal["keep", "remake"] = Field(
        description="`keep`: they stay, and the job will hold images of both; `remake`: all are made again."
    )


class Failure(BaseModel):
    """Why an item or a training failed, or why its last attempt did."""

    type: str
    detail: str


class Verdict(BaseModel):
    """What a person thinks of a new image."""

    verdict: Decision
    reason: str | None
    by: str
    at: Time

    @classmethod
    def from_row(cls, row: models.Verdict) -> Self:
        return cls(verdict=row.decision, reason=row.reason, by=row.by, at=row.at)


class Item(BaseModel):
    """One image to be made: a variant of a source image."""

    id: int
    image_id: int
    path: str = Field(description="The source image's name in the upload.")
    split: str
    variant: int
    seed: int
    state: ItemState
    step: int = Field(description="Sampler steps taken.")
    steps: int = Field(description="Sampler steps in all.")
    attempts: int = Field(description="How often it failed.")
    lapses: int = Field(description="How many workers vanished while they had it.")
    reused_from: str | None = Field(description="The job it was taken over from; null if it was made for this one.")
    error: Failure | None
    seconds: float | None
    sha256: str | None = Field(description="Of the new image's file.")
    measures: dict[str, Any] | None = Field(
        description="What was measured of it: `GET /v1/jobs/{id}/measures` says what each means."
    )
    verdict: Verdict | None = Field(description="What somebody thinks of it; its state does not change by that.")

    @classmethod
    def from_row(cls, row: models.Item, steps: int) -> Self:
        return cls(
            id=row.id,
            image_id=row.image_id,
            path=row.image.path,
            split=row.image.split,
            variant=row.variant,
            seed=row.seed,
            state=row.state,
            step=row.step,
            steps=steps,
            attempts=row.attempts,
            lapses=row.lapses,
            reused_from=row.reused_from,
            error=Failure.model_validate(row.error) if row.error else None,
            seconds=row.seconds,
            sha256=row.result_sha256,
            measures=row.measures,
            verdict=Verdict.from_row(row.standing) if row.standing else None,
        )


class Prior(BaseModel):
    """An installed prior."""

    name: str
    sha256: str
    native_size: int = Field(description="Long side of the canvas it was trained on, in pixels.")
    multiple: int = Field(description="The canvas's sides are multiples of this many pixels.")
    bytes: int
    card: str = Field(description="Its model card: what it is, from what, under which licence.")
    kind: Literal["prior", "autoencoder"] = Field(
        description="An `autoencoder` is no prior by itself: it may guide one as `sampler.guidance_vae`."
    )
    prompts: bool = Field(description="Whether it can be told what to draw by `sampler.prompt`.")
    words: list[str] = Field(description="Words of a prompt that it was taught, such as `<fracture>`.")
    origin: Literal["builtin", "folder", "added", "trained"] = Field(
        description="Whether it comes with Regrow, was put into a folder of priors, was added where it lies, or was "
        "trained here."
    )
    training_id: str | None = Field(description="The training that made it here; it may be deleted by now.")

    @classmethod
    def from_row(cls, row: models.Prior) -> Self:
        kept: Literal["builtin", "folder"] = "builtin" if row.name == BUILTIN else "folder"
        return cls(
            origin="trained" if row.training_id else "added" if row.path else kept,
            kind=row.kind,
            prompts=row.prompts,
            words=row.words,
            training_id=row.training_id,
            name=row.name,
            sha256=row.sha256,
            native_size=row.native_size,
            multiple=row.multiple,
            bytes=row.size,
            card=row.card,
        )


class Training(BaseModel):
    """A prior that is being trained, and how far it is."""

    id: str
    name: str = Field(description="What jobs will call the prior.")
    dataset_id: str
    images: int = Field(description="How many images it learns from: those of the split `train`, each once.")
    state: TrainingState
    created_at: Time
    finished_at: Time | None
    stage: str = Field(description="What is trained at this moment; empty until a worker has begun.")
    step: int
    steps: int = Field(description="Steps of all stages; 0 until a worker has begun.")
    progress: Share = Field(description="0..1, counted in steps.")
    loss: float | None = Field(description="Of the latest step; what it means depends on the stage.")
    eta_seconds: float | None = Field(description="From running time only; null while it is not known.")
    waits_for: Wait | None = Field(
        description="Why nobody works on it although it is `pending`: `no_worker`, `no_gpu`, `storage_low`, "
        "`storage_away`; `prior_gone` or `prior_changed` if that is so of the prior it starts from. Null if that is "
        "only a matter of its turn."
    )
    attempts: int = Field(description="How often it failed.")
    lapses: int = Field(description="How many workers vanished since its last checkpoint.")
    error: Failure | None
    init: str | None = Field(description="The prior it starts from.")
    licence: str
    settings: dict[str, Any] = Field(description="Every number of it.")

    @classmethod
    def from_row(cls, row: models.Training, waits_for: Wait | None) -> Self:
        live = row.state in LIVE_TRAINING
        left = row.step_seconds * (row.steps - row.step) if live and row.step_seconds is not None else None
        plain = ("id", "name", "dataset_id", "images", "state", "created_at", "finished_at", "stage", "step", "steps")
        more = ("loss", "attempts", "lapses", "init", "licence", "settings")
        return cls(
            **{name: getattr(row, name) for name in plain + more},
            progress=row.step / row.steps if row.steps else 0.0,
            eta_seconds=left,
            waits_for=waits_for,
            error=Failure.model_validate(row.error) if row.error else None,
        )


class HeldOut(BaseModel):
    """How well a training did on images that it does not learn from."""

    stage: str = Field(description="`autoencoder`: PSNR in dB, the more the better; `denoiser`: loss, the less.")
    step: int = Field(description="Step of that stage.")
    held_out: float


class History(BaseModel):
    """The figures of a training, as they were at its last checkpoint."""

    points: list[HeldOut]


class Priors(BaseModel):
    """The installed priors, by name, and the caller's trainings that are not over, oldest first."""

    items: list[Prior]
    trainings: list[Training]


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """Whether work can be done, and if not, what is missing."""

    ready: bool
    parts: dict[str, str] = Field(
        description="`database`, `migrations`, `broker`, `storage` and `workers`: `ok`, or why not.",
        examples=[
            {
                "database": "ok",
                "migrations": "ok",
                "broker": "ok",
                "storage": "ok",
                "workers": "no worker seen on queue gpu in the last 30 s",
            }
        ],
    )


class AuditEntry(BaseModel):
    """Something that somebody did."""

    id: str
    created_at: Time
    by: str = Field(description="The name of the key that was used; `local` without one.")
    action: Action
    object: str = Field(
        description="The path of what it was done to; there may be nothing any more.", examples=["/v1/jobs/…/archive"]
    )
    count: int = Field(description="To how many things in that: images that were forgotten, items that were judged.")

    @classmethod
    def from_row(cls, row: models.AuditEntry) -> Self:
        return cls(
            id=row.id,
            created_at=row.created_at,
            by=row.by,
            action=Action(row.action),
            object=row.object,
            count=row.count,
        )
