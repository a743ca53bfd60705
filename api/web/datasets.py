"""Pages about datasets: sent, checked, looked at, deleted."""

from functools import partial
from typing import Annotated, get_args

from fastapi import File, Form, Query, Request, Response, UploadFile
from sqlalchemy import select

from api import schemas
from api.deps import Caller, PartsDep, SessionsDep, TrailDep
from api.pages import Asked, AskedDep
from api.routes import HexId
from api.routes import datasets as rest
from api.routes import uploads as upload_rest
from api.routes.datasets import ReadingDep
from api.web.site import go, router, show
from shared import datasets, progress
from shared.models import Dataset, Image, Job, Upload
from shared.reading import Kind, Reading

pages = router()

_IMAGES = 24
_SHOWN_JOBS = 20


@pages.get("/datasets", name="page_datasets")
def show_datasets(request: Request, caller: Caller, parts: PartsDep, asked: AskedDep) -> Response:
    """All datasets, newest first, and where to send a new one."""
    with parts.sessions.read() as session:
        found = asked.newest_first(session, select(Dataset).where(Dataset.owner == caller), Dataset)
        made = [schemas.datasets.Dataset.from_row(row) for row in found.rows]
        begun = select(Upload).where(Upload.owner == caller, Upload.received < Upload.size)
        unfinished = [
            schemas.uploads.Upload.from_row(row) for row in session.scalars(begun.order_by(Upload.created_at.desc()))
        ]
    return show(
        request,
        "datasets.html",
        datasets=made,
        next=found.next,
        unfinished=unfinished,
        fields=Reading.model_fields,
        formats=get_args(Kind),
        parents=[each for each in made if each.state == "ready"],
        most=parts.settings.max_upload_bytes,
    )


@pages.post("/datasets", name="page_create_dataset")
def create_dataset(
    file: Annotated[UploadFile, File()],
    caller: Caller,
    parts: PartsDep,
    trail: TrailDep,
    response: Response,
    reading: ReadingDep,
    name: Annotated[str, Form()] = "",
) -> Response:
    """Take a zip from a browser without scripts."""
    return go(f"/datasets/{rest.create_dataset(file, caller, parts, trail, response, reading, name).id}")


@pages.post("/uploads/{upload_id}/delete", name="page_delete_upload")
def delete_upload(upload_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> Response:
    """Throw away what was sent of an upload."""
    upload_rest.delete_upload(upload_id, caller, parts, trail)
    return go("/datasets")


@pages.get("/datasets/{dataset_id}", name="page_dataset")
def show_dataset(
    dataset_id: HexId,
    request: Request,
    caller: Caller,
    sessions: SessionsDep,
    cursor: Annotated[str | None, Query()] = None,
    split: Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")] = "",
) -> Response:
    """One dataset: being checked, what is in it, or why it was rejected."""
    asked = Asked(cursor, _IMAGES, request, Response())
    with sessions.read() as session:
        row = datasets.get(session, caller, dataset_id)
        wanted = select(Image).where(Image.dataset_id == dataset_id)
        if split:
            wanted = wanted.where(Image.split == split)
        found = asked.by_number(session, wanted, Image)
        images = list(map(partial(schemas.datasets.Image.from_row, classes=row.classes), found.rows))
        mine = select(Job).where(Job.dataset_id == dataset_id).order_by(Job.created_at.desc()).limit(_SHOWN_JOBS)
        jobs = session.scalars(mine).all()
        numbers = progress.of_all(session, jobs)
        told = [schemas.jobs.Job.from_row(job, numbers[job.id]) for job in jobs]
        dataset = schemas.datasets.Dataset.from_row(row)
    return show(
        request, "dataset.html", dataset=dataset, images=images, next=found.next, cursor=cursor, split=split, jobs=told
    )


@pages.post("/datasets/{dataset_id}/delete", name="page_delete_dataset")
def delete_dataset(dataset_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> Response:
    """Delete a dataset with all that was made of it."""
    rest.delete_dataset(dataset_id, caller, parts, trail)
    return go("/datasets")
