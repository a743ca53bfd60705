"""What the REST API answers with, as types. Times are RFC 3339 in UTC, sizes bytes, box corners shares of the image."""

from typing import Any, Literal, NotRequired, TypedDict

DatasetState = Literal["checking", "ready", "rejected"]
JobState = Literal[
    "queued", "running", "paused", "succeeded", "completed_with_errors", "failed", "cancelling", "cancelled"
]
Wait = Literal["engine_changed", "prior_changed", "prior_gone", "no_worker", "no_gpu", "storage_low", "storage_away"]
ItemState = Literal["pending", "running", "done", "failed", "cancelled"]
Action = Literal[
    "uploaded",
    "created",
    "downloaded",
    "judged",
    "paused",
    "resumed",
    "cancelled",
    "retried",
    "upgraded",
    "forgot",
    "deleted",
]
TrainingState = Literal["pending", "running", "done", "failed", "cancelled"]
FetchState = TrainingState


class Fault(TypedDict):
    """One thing that is wrong, and the file, line or field it is in."""

    where: str
    what: str


class Counts(TypedDict, total=False):
    """What a dataset holds; empty until it was checked."""

    images: dict[str, int]
    boxes: dict[str, dict[str, int]]
    unlabelled: int


class Reading(TypedDict, total=False):
    """How an upload is to be read; what is left out, or null, is for the server to choose."""

    format: Literal["yolo", "coco", "voc", "darknet"] | None
    labels: Literal["required", "none"]
    on_bad_image: Literal["reject", "skip"]
    group_pattern: str | None
    parent: str | None


class Report(TypedDict):
    """What was seen in a dataset beside its counts; things are listed as {"count": 3, "examples": [...]}."""

    why: str
    labels: str
    without_labels: dict[str, int]
    sizes: dict[str, list[int]]
    metadata: dict[str, int]
    duplicates: dict[str, Any]
    groups: dict[str, Any] | None
    unpaired: dict[str, Any]
    skipped: dict[str, Any]
    forgotten: int
    difference: dict[str, Any] | None


class Dataset(TypedDict):
    id: str
    name: str
    state: DatasetState
    created_at: str
    upload_bytes: int
    reading: Reading
    parent: str | None
    format: str
    layout: str
    classes: list[str]
    splits: list[str]
    counts: Counts
    problems: list[Fault]
    warnings: list[str]
    report: Report | None


class Box(TypedDict):
    class_index: int
    class_name: str
    x0: float
    y0: float
    x1: float
    y1: float
    outline: list[float] | None


class Image(TypedDict):
    id: int
    path: str
    split: str
    width: int
    height: int
    mode: str
    format: str
    bytes: int
    sha256: str
    boxes: list[Box]
    label_path: str | None
    group: str | None
    upright: bool
    mask_sha256: str | None


class Archive(TypedDict):
    state: Literal["building", "ready", "failed", "pruned"]
    bytes: int | None
    sha256: str | None
    error: str | None
    revision: int
    filters: list[dict[str, Any]]
    outdated: bool


class Webhook(TypedDict):
    state: Literal["waiting", "pending", "delivered", "failed"]
    url: str | None
    attempts: int
    next_at: str | None
    delivered_at: str | None
    error: str | None


class Job(TypedDict):
    id: str
    name: str
    dataset_id: str
    state: JobState
    created_at: str
    finished_at: str | None
    counts: dict[ItemState, int]
    total: int
    reused: int
    waits_for: Wait | None
    progress: float
    items_per_second: float | None
    eta_seconds: float | None
    warnings: list[str]
    spec: dict[str, Any]
    resolved: dict[str, Any]
    archive: Archive | None
    webhook: Webhook | None


class Failure(TypedDict):
    type: str
    detail: str


class Item(TypedDict):
    id: int
    image_id: int
    path: str
    split: str
    variant: int
    seed: int
    state: ItemState
    step: int
    steps: int
    attempts: int
    lapses: int
    reused_from: str | None
    error: Failure | None
    seconds: float | None
    sha256: str | None
    measures: dict[str, Any] | None
    verdict: dict[str, Any] | None


Verdict = Literal["accept", "reject"]


class Filter(TypedDict):
    """Images whose `measure` is below `min` or above `max` are left out."""

    measure: str
    min: NotRequired[float | None]
    max: NotRequired[float | None]


class Tally(TypedDict):
    """How many of a job's images are judged."""

    accepted: int
    rejected: int
    undecided: int


class FilterOutlook(TypedDict):
    """What an archive with some filters would hold."""

    total: int
    rejected: int
    dropped: int
    kept: int
    by_class: list[dict[str, Any]]
    by_filter: list[dict[str, Any]]


class Review(TypedDict):
    """A blinded review; `score` and the truth are null while a card is not answered."""

    id: str
    by: str
    seed: int
    created_at: str
    finished_at: str | None
    cards: list[dict[str, Any]]
    score: dict[str, int] | None


class Estimate(TypedDict):
    """What a job would take; `basis` is `measured` or `guess`, `bytes_free` None where it is not known."""

    images: int
    items: int
    long_side: int
    reused: int
    seconds: float
    basis: Literal["measured", "guess"]
    workers: int
    bytes_needed: int
    bytes_free: int | None
    warnings: list[str]


class Forgotten(TypedDict):
    """What was forgotten, or with `dry_run` would be; each image is {"dataset", "path", "sha256", ...}."""

    id: str | None
    created_at: str | None
    dry_run: bool
    by: str
    dataset: str
    name: str
    match: str | None
    group: str | None
    everywhere: bool
    images: list[dict[str, Any]]
    copies: list[dict[str, Any]]
    counts: dict[str, int]
    priors: list[dict[str, Any]]
    files_waiting: int


class AuditEntry(TypedDict):
    """Something that somebody did to what is, or was, at the path `object`."""

    id: str
    created_at: str
    by: str
    action: Action
    object: str
    count: int


class Prior(TypedDict):
    name: str
    sha256: str
    native_size: int
    multiple: int
    bytes: int
    card: str
    kind: Literal["prior", "autoencoder"]
    prompts: bool
    words: list[str]
    origin: Literal["builtin", "folder", "added", "trained", "fetched"]
    training_id: str | None
    source: str | None


class Training(TypedDict):
    id: str
    name: str
    dataset_id: str
    images: int
    state: TrainingState
    created_at: str
    finished_at: str | None
    stage: str
    step: int
    steps: int
    progress: float
    loss: float | None
    eta_seconds: float | None
    waits_for: Wait | None
    attempts: int
    lapses: int
    error: Failure | None
    init: str | None
    licence: str
    settings: dict[str, Any]


class Fetch(TypedDict):
    id: str
    name: str
    repo: str
    revision: str
    file: str | None
    architecture: str | None
    variant: str | None
    state: FetchState
    created_at: str
    finished_at: str | None
    stage: Literal["", "download", "check"]
    received: int
    bytes: int
    progress: float
    waits_for: Wait | None
    attempts: int
    lapses: int
    error: Failure | None


class Priors(TypedDict):
    """The installed priors by name, and one's trainings and fetches that are not over, oldest first."""

    items: list[Prior]
    trainings: list[Training]
    fetches: list[Fetch]


class Who(TypedDict):
    """Whose a key is."""

    project: str
    name: str


class Readiness(TypedDict):
    """Whether the service can do its work, and for each part `ok` or why not."""

    ready: bool
    parts: dict[str, str]
