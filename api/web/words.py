"""States, numbers and times as a person reads them."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from shared.audit import Action
from shared.states import ArchiveState, DatasetState, ItemState, JobState, Wait

STATES: Mapping[str, str] = {
    DatasetState.CHECKING: "being checked",
    DatasetState.READY: "ready",
    DatasetState.REJECTED: "rejected",
    JobState.QUEUED: "waiting for its turn",
    JobState.RUNNING: "running",
    JobState.PAUSED: "paused",
    JobState.SUCCEEDED: "finished",
    JobState.COMPLETED_WITH_ERRORS: "finished, some images failed",
    JobState.FAILED: "failed",
    JobState.CANCELLING: "being cancelled",
    JobState.CANCELLED: "cancelled",
    ItemState.PENDING: "waiting",
    ItemState.DONE: "done",
    ArchiveState.BUILDING: "being built",
}

WAITS: Mapping[str, str] = {
    Wait.ENGINE_CHANGED: "It was made for an earlier version of the engine. Decide below what becomes of the images "
    "that are done.",
    Wait.PRIOR_CHANGED: "Its prior was changed since. Decide below what becomes of the images that are done.",
    Wait.PRIOR_GONE: "Its prior was deleted. Install one of that name again, or cancel the job.",
    Wait.NO_WORKER: "No worker has been seen for half a minute. Whoever runs the service must start one; the job then "
    "goes on by itself.",
    Wait.NO_GPU: "The worker waits for the GPU that the service was told to use. The job goes on by itself when it is "
    "there.",
    Wait.STORAGE_LOW: "The disk is nearly full. Delete datasets or jobs that are not needed; the job then goes on by "
    "itself.",
    Wait.STORAGE_AWAY: "The storage folder cannot be written to. The job goes on by itself when it can.",
}
"""Why nobody works on what waits."""

LABELS: Mapping[str, str] = {
    "variants": "New images for each source image",
    "max_images": "Source images at most",
    "webhook": "Tell this address when it is over",
    "mask": "Mask",
    "repo": "Repository",
    "revision": "Commit",
    "mu": "Mean of the threshold (mu)",
    "sigma": "Spread (sigma)",
    "margin": "Rim around labels",
    "gaussian_distance": "the nearer to a label, the more is kept",
    "gaussian_distance_all": "the same, labels included",
    "outside_boxes": "labels and nothing else is kept",
    "random": "pixels are kept by chance",
    "random_inside_boxes": "pixels inside labels are hidden by chance",
    "erase_in_boxes": "a rectangle in each label is hidden",
    "box": "one rectangle of the image is hidden",
    "boxes_regrown": "labels are hidden and nothing else",
    "uploaded": "mask images that came with the dataset",
    "inpaint": "hide pixels and regrow them",
    "gaussian_blur": "sharpen what is blurred",
    "motion_blur": "sharpen what was moved",
    "downsample": "enlarge what is small",
    "jpeg": "mend what JPEG lost",
    "true": "yes",
    "false": "no",
}
"""Names of fields and choices that say more than their keys."""

EVENTS: Mapping[str, str] = {
    "asked": "asked for",
    "began": "the first image was begun",
    "latest": "the latest image",
    "over": "over",
    Action.PAUSED: "paused",
    Action.RESUMED: "resumed",
    Action.CANCELLED: "cancelled",
    Action.RETRIED: "what was left was to be tried again",
    Action.UPGRADED: "moved to the present engine and prior",
}
"""What happens to a job."""

_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def state(value: str) -> str:
    """A state in words."""
    return STATES.get(value, value)


def wait(value: str) -> str:
    """A reason to wait as a sentence that says what to do."""
    return WAITS[value]


def event(what: str) -> str:
    """Something that happened to a job, in words."""
    return EVENTS[what]


def size(count: int) -> str:
    """Bytes as `3.4 MB`."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Seconds as `12 s`, `5 min`, `3 h 20 min` or `2 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if minutes < 60:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} d {hours % 24} h"


def number(value: float) -> str:
    """A whole number with commas, another with three digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def percent(share: float) -> str:
    """A share as `42 %`; 100 % only of what is whole."""
    return f"{min(int(share * 100), 100)} %"


def moment(seconds: float) -> str:
    """Seconds since 1970 as `2026-05-01 12:00 UTC`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def iso(seconds: float) -> str:
    """Seconds since 1970 as a program reads them."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def plural(count: int, one: str, many: str = "") -> str:
    """`1 image`, `1,200 images`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def label(key: str) -> str:
    """The name of a field or choice."""
    return LABELS.get(key, key.replace("_", " ").capitalize())


def option(key: str) -> str:
    """A choice: its key, and what it means where that is not plain."""
    if key in ("true", "false"):
        return LABELS[key]
    return f"{key}: {LABELS[key]}" if key in LABELS else key


def prose(text: str) -> Markup:
    """A sentence whose `names` are set as such."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  (it was escaped)


def as_json(value: Any) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=2)


FILTERS: Mapping[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (state, wait, event, size, duration, number, percent, moment, iso, plural, prose, label, option)
} | {"json": as_json}
