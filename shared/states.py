"""The states of things. A job has none of its own: it is computed from its items."""

from collections.abc import Mapping
from enum import StrEnum


class DatasetState(StrEnum):
    CHECKING = "checking"
    READY = "ready"
    REJECTED = "rejected"


class ItemState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ArchiveState(StrEnum):
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    PRUNED = "pruned"


class TrainingState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FetchState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WebhookState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


LIVE_FETCH = (FetchState.PENDING, FetchState.RUNNING)
LIVE_TRAINING = (TrainingState.PENDING, TrainingState.RUNNING)
"""Not over."""


class Decision(StrEnum):
    """What a person thinks of a new image."""

    ACCEPT = "accept"
    REJECT = "reject"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class Wait(StrEnum):
    """Why work waits that nobody does. The last three are what a worker says of itself."""

    ENGINE_CHANGED = "engine_changed"
    PRIOR_CHANGED = "prior_changed"
    PRIOR_GONE = "prior_gone"
    NO_WORKER = "no_worker"
    NO_GPU = "no_gpu"
    STORAGE_LOW = "storage_low"
    STORAGE_AWAY = "storage_away"


def job_state(counts: Mapping[ItemState, int], *, paused: bool, cancel_requested: bool) -> JobState:
    """The state of a job, from how many of its items are in which state and what its owner asked for."""
    pending, running = counts.get(ItemState.PENDING, 0), counts.get(ItemState.RUNNING, 0)
    done, failed = counts.get(ItemState.DONE, 0), counts.get(ItemState.FAILED, 0)
    if pending + running == 0:
        if counts.get(ItemState.CANCELLED, 0):
            return JobState.CANCELLED
        if failed == 0:
            return JobState.SUCCEEDED
        return JobState.COMPLETED_WITH_ERRORS if done else JobState.FAILED
    if cancel_requested:
        return JobState.CANCELLING
    if paused:
        return JobState.PAUSED
    return JobState.RUNNING if running + done + failed else JobState.QUEUED
