"""Datasets that come in pieces: the resumable uploads of tus 1.0."""

from collections.abc import Mapping
from contextlib import ExitStack, aclosing
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import ValidationError
from sqlalchemy import select
from starlette.exceptions import HTTPException

from api import schemas, tus
from api.deps import Caller, PartsDep, SessionsDep, TrailDep
from api.pages import AskedDep, Page
from api.problems import documented
from api.reception import Reception, pieces, receiving
from api.routes import HexId
from api.routes.datasets import shown_name
from shared import caps, datasets, models, uploads
from shared.audit import Action
from shared.errors import Fault, Invalid, TooLarge, told
from shared.queue import Task
from shared.reading import Reading
from shared.storage import upload_key

PATH = "/v1/uploads"

router = APIRouter(prefix=PATH, tags=["uploads"])

_Spoken = Depends(tus.spoken)
_DATASET = "Regrow-Dataset"
_BODY = {"requestBody": {"required": True, "content": {tus.PIECE: {"schema": {"type": "string", "format": "binary"}}}}}


@router.options("", status_code=204, summary="What uploads can be like")
def ask_about_uploads(parts: PartsDep, response: Response) -> None:
    """The headers say which version of tus is spoken, with which extensions, and how large a file may be."""
    response.headers.update(
        {
            "Tus-Version": tus.VERSION,
            "Tus-Extension": tus.EXTENSIONS,
            "Tus-Max-Size": str(parts.settings.max_upload_bytes),
            "Tus-Checksum-Algorithm": ",".join(tus.CHECKSUMS),
        }
    )


@router.post(
    "",
    status_code=201,
    summary="Announce an upload",
    responses=documented(404, 409, 412, 413, 422, 507),
    dependencies=[_Spoken],
)
def create_upload(
    caller: Caller,
    parts: PartsDep,
    response: Response,
    size: Annotated[int, Header(alias="Upload-Length", ge=1, lt=2**63, description="Bytes of the whole file.")],
    details: Annotated[
        str,
        Header(
            alias="Upload-Metadata",
            max_length=4096,
            description="`filename`, or `name` for people, and how the dataset is to be read: "
            f"{', '.join(f'`{field}`' for field in Reading.model_fields)}, as POST /v1/datasets has them. Each key with"
            " its value in base64; others are kept.",
        ),
    ] = "",
    concat: Annotated[str, Header(alias="Upload-Concat", description="Not taken: one upload is one file.")] = "",
) -> schemas.uploads.Upload:
    """`Location` says where its bytes go. An upload to which nothing is added for long expires (`Upload-Expires`)."""
    if concat:
        raise Invalid("Parallel uploads (Upload-Concat) are not taken.", [Fault("header.Upload-Concat", "not taken")])
    most = parts.settings.max_upload_bytes
    if size > most:
        raise TooLarge(f"The file has {size:,} bytes; the limit is {most:,}.")
    parts.storage.drop_older(parts.settings.upload_expires_seconds)
    said = tus.metadata(details)
    name, reading = shown_name(said.get("name", ""), said.get("filename", "")), _reading(said)
    caps.check_room(caps.room_for_upload(size), parts.storage.free(), parts.settings.min_free_bytes)
    with parts.sessions.write() as session:
        caps.check_datasets(session, caller, parts.settings.max_datasets)
        datasets.check_parent(session, caller, reading.parent)
        row = uploads.create(session, caller, name, size, parts.settings.upload_expires_seconds, details, reading)
        made = schemas.uploads.Upload.from_row(row)
    response.headers.update({"Location": f"{PATH}/{made.id}", "Upload-Expires": tus.date(made.expires_at)})
    return made


@router.get("", summary="List uploads", responses=documented(422))
def list_uploads(caller: Caller, sessions: SessionsDep, asked: AskedDep) -> Page[schemas.uploads.Upload]:
    """Newest first: those to go on with, and those that are whole until they expire."""
    with sessions.read() as session:
        mine = select(models.Upload).where(models.Upload.owner == caller)
        return asked.page(asked.newest_first(session, mine, models.Upload), schemas.uploads.Upload.from_row)


@router.head("/{upload_id}", include_in_schema=False, dependencies=[_Spoken])
@router.get("/{upload_id}", summary="An upload", responses=documented(404, 410, 412, 422), dependencies=[_Spoken])
def get_upload(upload_id: HexId, caller: Caller, sessions: SessionsDep, response: Response) -> schemas.uploads.Upload:
    """HEAD tells the same in the headers of tus. `Regrow-Dataset` is the dataset's path, once all is there."""
    with sessions.read() as session:
        row = uploads.get(session, caller, upload_id)
        found, details = schemas.uploads.Upload.from_row(row), row.details
    headers = {"Cache-Control": "no-store", "Upload-Length": str(found.bytes)}
    if details:
        headers["Upload-Metadata"] = details
    response.headers.update(headers | _progress(found.id, found.offset, found.bytes, found.expires_at))
    return found


@router.patch(
    "/{upload_id}",
    status_code=204,
    summary="Add to an upload",
    responses=documented(400, 404, 409, 410, 412, 413, 415, 422, 423, 460, 507),
    dependencies=[_Spoken],
    openapi_extra=_BODY,
)
async def add_to_upload(
    upload_id: HexId,
    caller: Caller,
    parts: PartsDep,
    trail: TrailDep,
    request: Request,
    response: Response,
    offset: Annotated[int, Header(alias="Upload-Offset", ge=0, lt=2**63, description="Where the bytes belong.")],
    checksum: Annotated[
        str | None, Header(alias="Upload-Checksum", description="A hash's name and the piece's hash in base64.")
    ] = None,
) -> None:
    """At its end, which `Upload-Offset` must name. With the last byte it becomes a dataset (`Regrow-Dataset`).

    What came before a connection broke is kept. A second request at the same time ends the first (423).
    """
    if request.headers.get("content-type", "").lower() != tus.PIECE:
        raise HTTPException(415, f"A piece of an upload has the Content-Type {tus.PIECE}.")
    expected = tus.checksum(checksum)
    async with parts.right_of_way.alone(upload_id):
        with ExitStack() as held:

            def begin() -> Reception:
                with parts.sessions.read() as session:
                    upload = uploads.growing(session, caller, upload_id, offset)
                _refuse_more(request, upload)
                expires = parts.settings.upload_expires_seconds
                return held.enter_context(receiving(parts.sessions, parts.storage, trail, upload, expected, expires))

            reception = await to_thread.run_sync(begin)
            async with aclosing(pieces(request)) as body:
                async for piece in body:
                    await to_thread.run_sync(reception.add, piece)
            expires_at = await to_thread.run_sync(reception.finish)
        upload = reception.upload
        if upload.received == upload.size:
            await to_thread.run_sync(parts.storage.drop, upload.key)
            await to_thread.run_sync(parts.enqueue, Task.INGEST)
    response.headers.update(_progress(upload.id, upload.received, upload.size, expires_at))


@router.delete(
    "/{upload_id}",
    status_code=204,
    summary="Give up an upload",
    responses=documented(404, 410, 412, 422),
    dependencies=[_Spoken],
)
def delete_upload(upload_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> None:
    """Its bytes go. A dataset that it has become stays: that has a DELETE of its own."""
    with parts.sessions.write() as session:
        uploads.delete(session, caller, upload_id)
        trail.note(session, Action.DELETED, f"{PATH}/{upload_id}")
    parts.storage.drop(upload_key(upload_id))


def _reading(said: Mapping[str, str]) -> Reading:
    """How the dataset is to be read. Raises Invalid."""
    try:
        return Reading.model_validate({key: said[key] for key in Reading.model_fields if said.get(key)})
    except ValidationError as error:
        faults = [Fault(f"header.Upload-Metadata.{each.where}", each.what) for each in told(error.errors())]
        raise Invalid("; ".join(map(str, faults)), faults) from None


def _refuse_more(request: Request, upload: uploads.Growing) -> None:
    """Refuse a body that says beforehand that it is more than is missing."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > upload.size - upload.received:
        raise TooLarge(f"{int(length):,} bytes are more than the {upload.size - upload.received:,} that are missing.")


def _progress(upload_id: str, received: int, size: int, expires_at: float) -> dict[str, str]:
    headers = {"Upload-Offset": str(received)}
    if received == size:
        return headers | {_DATASET: f"/v1/datasets/{upload_id}"}
    return headers | {"Upload-Expires": tus.date(expires_at)}
