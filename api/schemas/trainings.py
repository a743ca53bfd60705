"""Priors that are being trained."""

from typing import Any, Self

from pydantic import BaseModel, Field

from api.schemas.fields import Failure, Share, Time
from shared import models
from shared.states import LIVE_TRAINING, TrainingState, Wait


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
