"""Jobs: how far they are, what they would take, and who is told of their end."""

from dataclasses import asdict
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.archives import Archive
from api.schemas.fields import Share, Time
from shared import estimates, models
from shared.progress import Progress
from shared.states import ItemState, JobState, Wait, WebhookState, job_state


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
    long_side: int = Field(description="Of the canvas in pixels, as asked for or as it follows from the images.")
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
