"""Jobs: made, watched, cancelled."""

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from api import schemas
from api.deps import Caller, EnqueueDep, PartsDep, SessionsDep, WatchDep
from api.downloads import known
from api.pages import AskedDep, Page
from api.problems import documented
from api.routes import HexId
from shared import jobs, priors, progress
from shared.models import Job
from shared.queue import Task
from shared.spec import ExpansionSpec

PATH = "/v1/jobs"

router = APIRouter(prefix=PATH, tags=["jobs"])


@router.post("", status_code=202, summary="Expand a dataset", responses=documented(400, 404, 409, 413, 422))
def create_job(spec: ExpansionSpec, caller: Caller, parts: PartsDep, response: Response) -> schemas.Job:
    """One item is made for each labelled image and variant; workers take them from there."""
    with parts.sessions.write() as session:
        prior = priors.find(session, spec.prior)
        job = _told(session, jobs.create(session, caller, spec, prior, parts.settings.max_items))
    parts.enqueue(Task.EXPAND)
    response.headers.update({"Location": f"{PATH}/{job.id}", "Retry-After": "1"})
    return job


@router.get("", summary="List jobs", responses=documented(422))
def list_jobs(caller: Caller, sessions: SessionsDep, asked: AskedDep) -> Page[schemas.Job]:
    """Newest first."""
    with sessions.read() as session:
        mine = select(Job).where(Job.owner == caller).options(joinedload(Job.archive))
        found = asked.newest_first(session, mine, Job)
        numbers = progress.of_all(session, found.rows)
        return asked.page(found, lambda row: schemas.Job.from_row(row, numbers[row.id]))


@router.get(
    "/{job_id}",
    summary="A job and how far it is",
    response_model=schemas.Job,
    responses={
        304: {"description": "Nothing has changed since the caller got the ETag that If-None-Match names."},
        **documented(404, 422),
    },
)
async def get_job(job_id: HexId, caller: Caller, watch: WatchDep, request: Request) -> Response:
    """`Retry-After` is there as long as something may still change. What workers do may be seen a second late."""
    answer = await watch.answer(caller, job_id)
    headers = {"ETag": answer.etag} | ({} if answer.over else {"Retry-After": "1"})
    if known(request, answer.etag):
        return Response(status_code=304, headers=headers)
    return Response(answer.body, headers=headers, media_type="application/json")


@router.post("/{job_id}/cancel", summary="Cancel a job", responses=documented(404, 422))
def cancel_job(
    job_id: HexId, caller: Caller, sessions: SessionsDep, enqueue: EnqueueDep, watch: WatchDep
) -> schemas.Job:
    """Items that wait end at once, running ones when their worker next looks. It does nothing to a job that is over.

    What was done stays, and is put into the archive.
    """
    with sessions.write() as session:
        jobs.cancel(session, jobs.get(session, caller, job_id))
    with sessions.write() as session:
        finished = jobs.conclude(session)
    watch.forget(caller, job_id)
    if finished:
        enqueue(Task.ARCHIVE)
    with sessions.read() as session:
        return _told(session, jobs.get(session, caller, job_id))


def look(session: Session, owner: str, job_id: str) -> schemas.Job:
    """The job of an owner as everybody is told of it; raises NotFound."""
    return _told(session, jobs.get(session, owner, job_id))


def _told(session: Session, job: Job) -> schemas.Job:
    return schemas.Job.from_row(job, progress.of(session, job))
