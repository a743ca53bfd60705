"""The zip of a finished job, or of what a running one has made so far."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from api import problems, schemas
from api.deps import Caller, Parts, PartsDep, TrailDep
from api.downloads import answers, download
from api.problems import documented
from api.routes import HexId
from api.routes.filters import Filters
from shared import archives, jobs, packing, progress
from shared.audit import Action
from shared.models import Archive, Job
from shared.queue import Task
from shared.states import ArchiveState
from shared.storage import Storage

router = APIRouter(prefix="/v1/jobs/{job_id}/archive", tags=["archives"])


@router.head("", include_in_schema=False)
@router.get(
    "",
    summary="Download what a job made",
    response_class=Response,
    responses={
        307: {"description": "It is fetched from `Location`, soon. `ETag` is still its SHA-256."},
        **answers("application/zip", 409),
    },
)
def get_archive(
    job_id: HexId,
    caller: Caller,
    parts: PartsDep,
    trail: TrailDep,
    request: Request,
    partial: Annotated[
        bool,
        Query(
            description="While there is no archive yet: a zip of what is done so far, made as it is sent, so without "
            "ETag, length and Range. Ask again for more of it."
        ),
    ] = False,
) -> Response:
    """A broken download goes on where it ended, with Range.

    409 with `Retry-After` while the job runs or the archive is built; 409 without it where none will ever be. With
    `partial` it is 409 only while no image is done. One that was removed to save space (`pruned`) is built again when
    it is asked for.
    """
    return trail.downloaded(request, _answer(job_id, caller, parts, request, partial=partial))


def _answer(job_id: str, owner: str, parts: Parts, request: Request, *, partial: bool) -> Response:
    with parts.sessions.read() as session:
        job = jobs.get(session, owner, job_id)
        archive = job.archive
        if partial and (archive is None or archive.state in (ArchiveState.BUILDING, ArchiveState.FAILED)):
            contents = packing.collect(session, job_id)
            if contents.variants():
                return _so_far(request, contents, parts.storage, packing.file_name(job))
        if archive is None:
            return _none_yet(session, job)
        if archive.state == ArchiveState.BUILDING:
            return _later("The archive is being built.")
        if archive.state == ArchiveState.FAILED:
            return problems.response(409, f"The archive could not be built: {archive.error}")
        key, sha256, name = archive.key, archive.sha256, packing.file_name(job)
    if key is None or sha256 is None:
        return _anew(request, parts, owner, job_id)
    presigned = parts.settings.presigned_downloads
    return download(request, parts.storage, key, sha256, name=name, presigned=presigned)


def _anew(request: Request, parts: Parts, caller: str, job_id: str) -> Response:
    """Order an archive that was pruned; HEAD only asks."""
    if request.method == "HEAD":
        return problems.response(409, "The archive was removed to save space. GET has it built again.")
    with parts.sessions.write() as session:
        archives.rebuild(session, job_id)
    parts.watch.forget(caller, job_id)
    parts.enqueue(Task.ARCHIVE)
    return _later("The archive was removed to save space, and is being built again.")


@router.post("", status_code=202, summary="Have the archive built anew", responses=documented(400, 404, 409, 413, 422))
def pack_job(
    job_id: HexId, wanted: Filters, caller: Caller, parts: PartsDep, trail: TrailDep, response: Response
) -> schemas.archives.Archive:
    """Without what was rejected, and without images that do not pass the filters: the next revision, with an ETag of
    its own. It does nothing where the archive is, or is becoming, just that.

    409 while the job runs, whose archive leaves out what is rejected by then, and where no image was made; 422 where
    none would be left.
    """
    with parts.sessions.write() as session:
        job = jobs.get(session, caller, job_id)
        ordered = jobs.pack(session, job, wanted.filters)
        if ordered:
            trail.note(session, Action.CREATED, f"/v1/jobs/{job_id}/archive")
        archive = schemas.archives.Archive.from_row(session.get_one(Archive, job_id), job)
    if ordered:
        parts.watch.forget(caller, job_id)
        parts.enqueue(Task.ARCHIVE)
    response.headers.update({"Location": f"/v1/jobs/{job_id}/archive", "Retry-After": "1"})
    return archive


def _so_far(request: Request, contents: packing.Contents, storage: Storage, name: str) -> Response:
    saved_as = quote(f"{name.removesuffix('.zip')}.partial.zip")
    headers = {"Content-Disposition": f"attachment; filename*=utf-8''{saved_as}", "X-Content-Type-Options": "nosniff"}
    if request.method == "HEAD":
        return Response(media_type="application/zip", headers=headers)
    packed = packing.pack(contents, storage, partial=True)
    return StreamingResponse(packed, media_type="application/zip", headers=headers)


def _none_yet(session: Session, job: Job) -> Response:
    found = progress.of(session, job)
    if job.finished_at is None:
        return _later(f"The job is not over: {found.share:.0%} is done.")
    counts = ", ".join(f"{count} {state}" for state, count in sorted(found.counts.items()))
    return problems.response(409, f"The job made no image, so it has no archive. Its items: {counts}.")


def _later(detail: str) -> Response:
    return problems.response(409, detail, headers={"Retry-After": "1"})
