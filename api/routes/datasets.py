"""Datasets: uploaded, looked at."""

import json
import re
import shutil
import uuid
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, File, Form, Query, Request, Response, UploadFile
from pydantic import ValidationError
from sqlalchemy import select

from api import schemas
from api.deps import Caller, PartsDep, SessionsDep, StorageDep, TrailDep
from api.downloads import answers, download, drawn, known
from api.pages import AskedDep, Page
from api.problems import documented
from api.routes import HexId, Number
from shared import caps, datasets, jobs, previews
from shared.audit import Action
from shared.errors import Fault, Invalid, TooLarge, told
from shared.models import Dataset, Image
from shared.queue import Task
from shared.reading import ID, MAX_PATTERN, Kind, Reading
from shared.states import DatasetState
from shared.storage import sha256, source_key, upload_key

PATH = "/v1/datasets"

router = APIRouter(prefix=PATH, tags=["datasets"])

_CHUNK = 1024 * 1024
_MAX_NAME = 200


def _of(field: str) -> str | None:
    return Reading.model_fields[field].description


def _reading(
    format: Annotated[Kind | None, Form(description=_of("format"))] = None,
    labels: Annotated[Literal["required", "none"], Form(description=_of("labels"))] = "required",
    on_bad_image: Annotated[Literal["reject", "skip"], Form(description=_of("on_bad_image"))] = "reject",
    group_pattern: Annotated[str | None, Form(max_length=MAX_PATTERN, description=_of("group_pattern"))] = None,
    parent: Annotated[str | None, Form(pattern=ID, description=_of("parent"))] = None,
) -> Reading:
    """The form's fields as a value. Raises Invalid for a pattern that is none."""
    try:
        return Reading(
            format=format, labels=labels, on_bad_image=on_bad_image, group_pattern=group_pattern, parent=parent
        )
    except ValidationError as error:
        (fault,) = told(error.errors())
        raise Invalid(str(fault), [Fault(f"body.{fault.where}", fault.what)]) from None


ReadingDep = Annotated[Reading, Depends(_reading)]


@router.post(
    "",
    status_code=202,
    summary="Upload a dataset",
    responses=documented(400, 404, 409, 413, 422, 507),
    form_limits={"max_files": 1, "max_fields": 1 + len(Reading.model_fields)},
)
def create_dataset(
    file: Annotated[UploadFile, File(description="A zip: images, and labels as YOLO, COCO or Pascal VOC have them.")],
    caller: Caller,
    parts: PartsDep,
    trail: TrailDep,
    response: Response,
    reading: ReadingDep,
    name: Annotated[str, Form(max_length=_MAX_NAME, description="A name for people; left out: that of the file.")] = "",
) -> schemas.datasets.Dataset:
    """The archive is stored and checked in the background. Ask for the dataset until it is `ready` or `rejected`.

    The format is found out. What else is known only to you: a pattern for patients or scenes, and that images without
    labels or with damage are meant. A dataset that grew names its `parent`: 404 if that is not there, 409 while it is
    being checked, 422 if it was rejected. A job with the same spec makes only what is new in it.
    """
    if not file.size:
        raise Invalid("The file is empty.", [Fault("body.file", "empty")])
    most = parts.settings.max_upload_bytes
    if file.size > most:
        raise TooLarge(f"The file has {file.size:,} bytes; the limit is {most:,}.")
    with parts.sessions.read() as session:
        caps.check_datasets(session, caller, parts.settings.max_datasets)
        datasets.check_parent(session, caller, reading.parent)
    caps.check_room(caps.room_for_upload(file.size), parts.storage.free(), parts.settings.min_free_bytes)
    dataset_id = uuid.uuid4().hex
    with parts.storage.writing(upload_key(dataset_id)) as stored:
        shutil.copyfileobj(file.file, stored, _CHUNK)
    try:
        with parts.sessions.write() as session:
            title = shown_name(name, file.filename or "")
            row = datasets.create(session, caller, dataset_id, title, file.size, reading)
            trail.note(session, Action.UPLOADED, f"{PATH}/{dataset_id}")
            made = schemas.datasets.Dataset.from_row(row)
    except BaseException:
        parts.storage.delete(upload_key(dataset_id))
        raise
    parts.enqueue(Task.INGEST)
    response.headers.update({"Location": f"{PATH}/{dataset_id}", "Retry-After": "1"})
    return made


@router.get("", summary="List datasets", responses=documented(422))
def list_datasets(caller: Caller, sessions: SessionsDep, asked: AskedDep) -> Page[schemas.datasets.Dataset]:
    """Newest first."""
    with sessions.read() as session:
        found = asked.newest_first(session, select(Dataset).where(Dataset.owner == caller), Dataset)
        return asked.page(found, schemas.datasets.Dataset.from_row)


@router.get("/{dataset_id}", summary="A dataset", responses=documented(404, 422))
def get_dataset(
    dataset_id: HexId, caller: Caller, sessions: SessionsDep, response: Response
) -> schemas.datasets.Dataset:
    """Once it is `ready`, jobs can be made of it; once `rejected`, `problems` says why."""
    with sessions.read() as session:
        dataset = schemas.datasets.Dataset.from_row(datasets.get(session, caller, dataset_id))
    if dataset.state == DatasetState.CHECKING:
        response.headers["Retry-After"] = "1"
    return dataset


@router.delete("/{dataset_id}", status_code=204, summary="Delete a dataset", responses=documented(404, 409, 422))
def delete_dataset(dataset_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> None:
    """With it go all jobs that were made of it, their images and archives: variants contain pixels of the originals.

    409 while one of its jobs is not over. An original that another dataset has too stays with that one. The files
    follow within seconds.
    """
    with parts.sessions.write() as session:
        deleted = jobs.delete_dataset(session, caller, dataset_id)
        for thing in [f"{PATH}/{dataset_id}", *(f"/v1/jobs/{job_id}" for job_id in deleted)]:
            trail.note(session, Action.DELETED, thing)
    for job_id in deleted:
        parts.watch.forget(caller, job_id)


@router.get("/{dataset_id}/images", summary="List a dataset's images", responses=documented(404, 422))
def list_images(
    dataset_id: HexId,
    caller: Caller,
    sessions: SessionsDep,
    asked: AskedDep,
    split: Annotated[
        str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="Only those of this split.")
    ] = None,
) -> Page[schemas.datasets.Image]:
    """With their boxes. There are none until the dataset is `ready`."""
    with sessions.read() as session:
        dataset = datasets.get(session, caller, dataset_id)
        images = select(Image).where(Image.dataset_id == dataset_id)
        if split is not None:
            images = images.where(Image.split == split)
        found = asked.by_number(session, images, Image)
        return asked.page(found, partial(schemas.datasets.Image.from_row, classes=dataset.classes))


@router.get(
    "/{dataset_id}/images/{image_id}/file",
    summary="An image as it was uploaded",
    response_class=Response,
    responses=answers("image/*"),
)
def get_image_file(
    dataset_id: HexId,
    image_id: Number,
    caller: Caller,
    sessions: SessionsDep,
    storage: StorageDep,
    trail: TrailDep,
    request: Request,
) -> Response:
    """The original's bytes."""
    with sessions.read() as session:
        image = datasets.get_image(session, caller, dataset_id, image_id)
        digest, kind = image.sha256, f"image/{image.format.lower()}"
    return trail.downloaded(request, download(request, storage, source_key(digest), digest, kind=kind))


@router.get(
    "/{dataset_id}/images/{image_id}/preview",
    summary="A small picture of an image",
    response_class=Response,
    responses=drawn("image/jpeg"),
)
def get_image_preview(
    dataset_id: HexId,
    image_id: Number,
    caller: Caller,
    parts: PartsDep,
    request: Request,
    size: Annotated[
        int, Query(ge=16, le=previews.LARGEST, description="Pixels of its longer side; never more than the image has.")
    ] = previews.LONG_SIDE,
    boxes: Annotated[bool, Query(description="Whether what is labelled is drawn on it.")] = False,
) -> Response:
    """A JPEG, turned and with black and white as the model sees it. That of the usual size without boxes is kept."""
    with parts.sessions.read() as session:
        image = datasets.get_image(session, caller, dataset_id, image_id)
        white = image.dataset.white
    labels = (image.boxes, image.outlines) if boxes else ([], [])
    shown = [previews.VERSION, image.sha256, image.upright, white, size, *labels]
    etag = f'"{sha256(json.dumps(shown).encode())}"'
    if known(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    jpeg = previews.draw(parts.storage, image.sha256, image.path, size, labels, upright=image.upright, white=white)
    return Response(jpeg, media_type="image/jpeg", headers={"ETag": etag, "Cache-Control": "private, max-age=3600"})


def shown_name(given: str, file: str) -> str:
    """A name for people: the one given, or that of the file without its folders and ending."""
    ours = re.sub(r"\.zip$", "", re.split(r"[/\\]", file)[-1], flags=re.IGNORECASE)
    printable = "".join(filter(str.isprintable, given.strip() or ours))
    return printable.strip()[:_MAX_NAME] or "dataset"
