"""The zip of a finished job."""

import re

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api import problems
from api.deps import Caller, SessionsDep, StorageDep
from api.downloads import answers, download
from api.routes import HexId
from shared import jobs, progress
from shared.models import Job
from shared.states import ArchiveState

router = APIRouter(prefix="/v1/jobs/{job_id}/archive", tags=["archives"])


@router.head("", include_in_schema=False)
@router.get(
    "",
    summary="Download what a job made",
    response_class=Response,
    responses=answers("application/zip", 409),
)
def get_archive(
    job_id: HexId, caller: Caller, sessions: SessionsDep, storage: StorageDep, request: Request
) -> Response:
    """A broken download goes on where it ended, with Range.

    409 with `Retry-After` while the job runs or the archive is built; 409 without it where none will ever be.
    """
    with sessions.read() as session:
        job = jobs.get(session, caller, job_id)
        archive = job.archive
        if archive is None:
            return _none_yet(session, job)
        if archive.state == ArchiveState.BUILDING:
            return _later("The archive is being built.")
        if archive.key is None or archive.sha256 is None:
            return problems.response(409, f"The archive could not be built: {archive.error}")
        key, sha256, name = archive.key, archive.sha256, _file_name(job)
    return download(request, storage.path(key), sha256, name=name)


def _none_yet(session: Session, job: Job) -> Response:
    found = progress.of(session, job)
    if job.finished_at is None:
        return _later(f"The job is not over: {found.share:.0%} is done.")
    counts = ", ".join(f"{count} {state}" for state, count in sorted(found.counts.items()))
    return problems.response(409, f"The job made no image, so it has no archive. Its items: {counts}.")


def _later(detail: str) -> Response:
    return problems.response(409, detail, headers={"Retry-After": "1"})


def _file_name(job: Job) -> str:
    """The job's name as a file name that every system takes."""
    return (re.sub(r"[^\w.-]+", "_", job.name).strip("._") or job.id) + ".zip"
