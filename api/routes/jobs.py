"""Jobs: made, watched, and told what to do. What a route asks for may be the case already: each can be repeated."""

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from api import schemas
from api.deps import Caller, Parts, PartsDep, SessionsDep, TrailDep, WatchDep
from api.downloads import known
from api.pages import AskedDep, Page
from api.problems import documented
from api.routes import HexId, IdempotencyKey
from api.trail import Trail
from shared import caps, estimates, jobs, priors, progress, webhooks
from shared.audit import Action
from shared.models import Job
from shared.queue import Task
from shared.spec import ExpansionSpec
from shared.states import JobState

PATH = "/v1/jobs"

router = APIRouter(prefix=PATH, tags=["jobs"])


@router.post("", status_code=202, summary="Expand a dataset", responses=documented(400, 404, 409, 413, 422, 507))
def create_job(
    spec: ExpansionSpec,
    caller: Caller,
    parts: PartsDep,
    trail: TrailDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> schemas.jobs.Job:
    """One item is made for each labelled image and variant; workers take them from there.

    With `reuse`, what was finished before from the same source, labels and numbers is taken over. 507 where the new
    images and their archive would not fit on the disk: `needed` and `free` are bytes.
    """
    try:
        job = _create(parts, trail, caller, spec, idempotency_key)
    except IntegrityError:
        # The same request came twice at the same moment, or its dataset was being deleted: now either is a fact.
        job = _create(parts, trail, caller, spec, idempotency_key)
    response.headers.update({"Location": f"{PATH}/{job.id}", "Retry-After": "1"})
    return job


@router.post("/estimate", summary="What a job would take", responses=documented(400, 404, 409, 413, 422))
def estimate_job(spec: ExpansionSpec, caller: Caller, parts: PartsDep) -> schemas.jobs.Estimate:
    """Time, room on the disk, and warnings, at no cost. What would be refused as a job is refused here."""
    settings, free = parts.settings, parts.storage.free()
    with parts.sessions.read() as session:
        prior = priors.find(session, caller, spec.prior)
        return schemas.jobs.Estimate.of(
            estimates.of(session, caller, spec, prior, settings.max_items, free, settings.min_free_bytes)
        )


@router.get("", summary="List jobs", responses=documented(422))
def list_jobs(caller: Caller, sessions: SessionsDep, asked: AskedDep) -> Page[schemas.jobs.Job]:
    """Newest first."""
    with sessions.read() as session:
        mine = select(Job).where(Job.owner == caller).options(joinedload(Job.archive), joinedload(Job.told))
        found = asked.newest_first(session, mine, Job)
        numbers = progress.of_all(session, found.rows)
        return asked.page(found, lambda row: schemas.jobs.Job.from_row(row, numbers[row.id]))


@router.get(
    "/{job_id}",
    summary="A job and how far it is",
    response_model=schemas.jobs.Job,
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
def cancel_job(job_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> schemas.jobs.Job:
    """Items that wait end at once, running ones when their worker next looks. It does nothing to a job that is over.

    What was done stays, and is put into the archive. `/retry` takes the cancel back.
    """
    return _tell(parts, trail, caller, job_id, jobs.cancel, Action.CANCELLED)


@router.post("/{job_id}/pause", summary="Pause a job", responses=documented(404, 422))
def pause_job(job_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> schemas.jobs.Job:
    """Workers take nothing more of it; what they are at is finished. It does nothing to a job that is over."""
    return _tell(parts, trail, caller, job_id, jobs.pause, Action.PAUSED)


@router.post("/{job_id}/resume", summary="Let a paused job go on", responses=documented(404, 422))
def resume_job(job_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> schemas.jobs.Job:
    """It does nothing to a job that is not paused."""
    return _tell(parts, trail, caller, job_id, jobs.resume, Action.RESUMED)


@router.post("/{job_id}/retry", summary="Try what failed or was cancelled again", responses=documented(404, 422))
def retry_job(job_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> schemas.jobs.Job:
    """Failed and cancelled items wait again, as if for the first time; items that are done stay.

    The archive is built anew afterwards. It does nothing where there is none of either.
    """
    return _tell(parts, trail, caller, job_id, jobs.retry, Action.RETRIED)


@router.post(
    "/{job_id}/upgrade", summary="Go on with a new engine or prior", responses=documented(400, 404, 409, 413, 422)
)
def upgrade_job(
    job_id: HexId, wanted: schemas.jobs.Upgrade, caller: Caller, parts: PartsDep, trail: TrailDep
) -> schemas.jobs.Job:
    """A job that was made for an earlier engine or prior waits (`waits_for`), because images of two engines are never
    mixed silently. This decides. Its settings stay. It does nothing to a job that fits already.

    409 while a worker of the earlier engine is at it.
    """

    def upgrade(session: Session, job: Job) -> None:
        jobs.upgrade(session, job, priors.find(session, job.owner, job.resolved["prior"]), wanted.done)

    return _tell(parts, trail, caller, job_id, upgrade, Action.UPGRADED)


@router.delete("/{job_id}", status_code=204, summary="Delete a job", responses=documented(404, 422))
def delete_job(job_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> None:
    """It is gone at once, with its items, images and archive, in whatever state it was; a worker that is at it stops.

    Images that another job has taken over stay with that one. The files follow within seconds.
    """
    with parts.sessions.write() as session:
        jobs.delete(session, jobs.get(session, caller, job_id))
        trail.note(session, Action.DELETED, f"{PATH}/{job_id}")
    parts.watch.forget(caller, job_id)


def _create(parts: Parts, trail: Trail, owner: str, spec: ExpansionSpec, key: str | None) -> schemas.jobs.Job:
    with parts.sessions.write() as session:
        earlier = jobs.sent_before(session, owner, spec, key)
        job_id = (earlier or _new(session, parts, owner, spec, key)).id
        if earlier is None:
            trail.note(session, Action.CREATED, f"{PATH}/{job_id}")
    return _concluded(parts, owner, job_id)


def _new(session: Session, parts: Parts, owner: str, spec: ExpansionSpec, key: str | None) -> Job:
    settings = parts.settings
    if spec.webhook:
        webhooks.check(spec.webhook, settings)
    caps.check_jobs(session, owner, settings.max_jobs)
    prior = priors.find(session, owner, spec.prior, hold=True)
    told = webhooks.INSTALLATION if settings.webhook_url else None
    job = jobs.create(session, owner, spec, prior, settings.max_items, key, told)
    caps.check_items(session, owner, settings.max_project_items)
    caps.check_room(caps.room_for_job(session, job), parts.storage.free(), settings.min_free_bytes)
    return job


def _tell(
    parts: Parts, trail: Trail, owner: str, job_id: str, change: Callable[[Session, Job], object], action: Action
) -> schemas.jobs.Job:
    with parts.sessions.write() as session:
        job = jobs.get(session, owner, job_id)
        before = _decided(job)
        if change(session, job) or _decided(job) != before:
            trail.note(session, action, f"{PATH}/{job_id}")
    return _concluded(parts, owner, job_id)


def _concluded(parts: Parts, owner: str, job_id: str) -> schemas.jobs.Job:
    """The job, after what may have ended or begun by a change is seen to."""
    with parts.sessions.write() as session:
        finished = jobs.conclude(session)
    parts.watch.forget(owner, job_id)
    with parts.sessions.read() as session:
        job = look(session, owner, job_id)
    if job.state in (JobState.QUEUED, JobState.RUNNING):
        parts.enqueue(Task.EXPAND)
    if finished:
        parts.enqueue(Task.ARCHIVE)
    return job


def _decided(job: Job) -> tuple[object, ...]:
    """What changes when a job is told something that is not the case already."""
    return job.paused_at, job.cancelled_at, job.finished_at, job.resolved


def look(session: Session, owner: str, job_id: str) -> schemas.jobs.Job:
    """The job of an owner as everybody is told of it; raises NotFound."""
    return _told(session, jobs.get(session, owner, job_id))


def _told(session: Session, job: Job) -> schemas.jobs.Job:
    return schemas.jobs.Job.from_row(job, progress.of(session, job))
