"""Pages about jobs and their images: watched, told what to do, downloaded."""

from typing import Annotated, Literal

from fastapi import Form, Query, Request, Response
from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from api import schemas
from api.deps import Caller, PartsDep, SessionsDep, TrailDep
from api.pages import Asked, AskedDep
from api.routes import HexId, Number
from api.routes import jobs as rest
from api.web import history
from api.web.site import go, router, show
from shared import datasets, items, jobs, progress
from shared.measures import MEASURES
from shared.models import Image, Item, Job
from shared.spec import ResolvedSpec
from shared.states import ItemState, JobState

pages = router()

_NEWEST = 12
_FAILED = 20
_ON_A_PAGE = 24
_CHANGES = {
    "cancel": rest.cancel_job,
    "pause": rest.pause_job,
    "resume": rest.resume_job,
    "retry": rest.retry_job,
}


@pages.get("/jobs", name="page_jobs")
def show_jobs(request: Request, caller: Caller, sessions: SessionsDep, asked: AskedDep) -> Response:
    """All jobs, newest first."""
    with sessions.read() as session:
        mine = select(Job).where(Job.owner == caller).options(joinedload(Job.archive), joinedload(Job.told))
        found = asked.newest_first(session, mine, Job)
        numbers = progress.of_all(session, found.rows)
        told = [schemas.jobs.Job.from_row(row, numbers[row.id]) for row in found.rows]
    return show(request, "jobs.html", jobs=told, next=found.next)


@pages.get("/jobs/{job_id}", name="page_job")
def show_job(job_id: HexId, request: Request, caller: Caller, sessions: SessionsDep) -> Response:
    """One job. The page asks for itself again whenever there is news."""
    with sessions.read() as session:
        row = jobs.get(session, caller, job_id)
        job = rest.look(session, caller, job_id)
        over = job.state not in (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED, JobState.CANCELLING)
        return show(
            request,
            "job.html",
            job=job,
            over=over and (job.archive is None or job.archive.state != "building"),
            dataset=datasets.get(session, caller, job.dataset_id).name,
            rivals=progress.rivals(session, row) if job.state == JobState.QUEUED else 0,
            happened=history.of(session, row),
            newest=_some(session, job, ItemState.DONE, _NEWEST),
            failed=_some(session, job, ItemState.FAILED, _FAILED),
        )


@pages.post("/jobs/{job_id}/{what}", name="page_change_job")
def change_job(
    job_id: HexId, what: Literal["cancel", "pause", "resume", "retry"], caller: Caller, parts: PartsDep, trail: TrailDep
) -> Response:
    """Cancel, pause, resume or retry a job."""
    _CHANGES[what](job_id, caller, parts, trail)
    return go(f"/jobs/{job_id}")


@pages.post("/jobs/{job_id}/decision/upgrade", name="page_upgrade_job")
def upgrade_job(
    job_id: HexId, done: Annotated[Literal["keep", "remake"], Form()], caller: Caller, parts: PartsDep, trail: TrailDep
) -> Response:
    """Go on with a new engine or prior."""
    rest.upgrade_job(job_id, schemas.jobs.Upgrade(done=done), caller, parts, trail)
    return go(f"/jobs/{job_id}")


@pages.post("/jobs/{job_id}/decision/delete", name="page_delete_job")
def delete_job(job_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> Response:
    """Delete a job with all that it made."""
    rest.delete_job(job_id, caller, parts, trail)
    return go("/jobs")


@pages.get("/jobs/{job_id}/items", name="page_items")
def show_items(
    job_id: HexId,
    request: Request,
    caller: Caller,
    sessions: SessionsDep,
    state: ItemState = ItemState.DONE,
    cursor: Annotated[str | None, Query()] = None,
) -> Response:
    """The images of a job in one state, page by page."""
    asked = Asked(cursor, _ON_A_PAGE, request, Response())
    with sessions.read() as session:
        job = rest.look(session, caller, job_id)
        found = asked.by_number(session, _of(job).where(Item.state == state), Item)
        told = [schemas.items.Item.from_row(row, job.resolved["steps"]) for row in found.rows]
    return show(request, "items.html", job=job, items=told, next=found.next, wanted=state, states=list(ItemState))


@pages.get("/jobs/{job_id}/items/{item_id}", name="page_item")
def show_item(
    job_id: HexId,
    item_id: Number,
    request: Request,
    caller: Caller,
    sessions: SessionsDep,
    view: Literal["compare", "mask", "difference"] = "compare",
    boxes: bool = True,
    factor: Annotated[int, Query(ge=1, le=32)] = 4,
) -> Response:
    """One image: before and after, what was hidden, what changed."""
    with sessions.read() as session:
        row = items.get(session, caller, job_id, item_id)
        resolved = ResolvedSpec.model_validate(row.job.resolved)
        done = select(Item.id).where(Item.job_id == job_id, Item.state == ItemState.DONE)
        return show(
            request,
            "item.html",
            item=schemas.items.Item.from_row(row, resolved.steps),
            job_id=job_id,
            job=row.job.name,
            dataset_id=row.job.dataset_id,
            source=row.image,
            masked=resolved.mask is not None,
            measures=MEASURES,
            view=view,
            boxes=boxes,
            factor=factor,
            before=session.scalar(done.where(Item.id < item_id).order_by(Item.id.desc()).limit(1)),
            after=session.scalar(done.where(Item.id > item_id).order_by(Item.id).limit(1)),
        )


def _of(job: schemas.jobs.Job) -> Select[Item]:
    source = joinedload(Item.image).load_only(Image.path, Image.split)
    return select(Item).where(Item.job_id == job.id).options(source, joinedload(Item.verdict))


def _some(session: Session, job: schemas.jobs.Job, state: ItemState, most: int) -> list[schemas.items.Item]:
    """The items in a state that were settled last."""
    latest = _of(job).where(Item.state == state).order_by(Item.settled_at.desc(), Item.id.desc()).limit(most)
    return [schemas.items.Item.from_row(row, job.resolved["steps"]) for row in session.scalars(latest)]
