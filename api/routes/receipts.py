"""Images are forgotten, and there are receipts for it."""

from collections import Counter

from fastapi import APIRouter
from sqlalchemy import select

from api.deps import Caller, PartsDep, SessionsDep, TrailDep
from api.pages import AskedDep, Page
from api.problems import documented
from api.receipts import Forget, Receipt
from api.routes import HexId
from shared import forgetting, jobs, models
from shared.audit import Action
from shared.db import Sessions
from shared.queue import Task

router = APIRouter(tags=["receipts"])


@router.post("/v1/datasets/{dataset_id}/forget", summary="Forget images", responses=documented(400, 404, 409, 413, 422))
def forget_images(dataset_id: HexId, wanted: Forget, caller: Caller, parts: PartsDep, trail: TrailDep) -> Receipt:
    """They go, and all that came from them: originals, masks, variants in all jobs of the dataset, what reports and
    warnings say of them. Archives of those jobs are built anew. What is made of other images goes on.

    It can be said twice: where no image is meant, none goes and there is no receipt.
    """
    by = trail.actor.name
    with parts.sessions.write() as session:
        row = None if wanted.dry_run else forgetting.forget(session, caller, by, dataset_id, wanted.wish)
        if row is None:
            body = forgetting.look(session, caller, by, dataset_id, wanted.wish)
            return Receipt.of_nothing_done(body, dry_run=wanted.dry_run)
        for touched, images in Counter(image["dataset"] for image in row.body["images"]).items():
            trail.note(session, Action.FORGOT, f"/v1/datasets/{touched}", images)
        affected = forgetting.jobs_of(session, row)
    with parts.sessions.write() as session:
        jobs.conclude(session)
    for job_id in affected:
        parts.watch.forget(caller, job_id)
    parts.enqueue(Task.ARCHIVE)
    return _receipt(parts.sessions, caller, row.id)


@router.get("/v1/receipts", summary="List receipts", responses=documented(422))
def list_receipts(caller: Caller, sessions: SessionsDep, asked: AskedDep) -> Page[Receipt]:
    """Newest first. They are kept when their dataset is deleted."""
    with sessions.read() as session:
        mine = select(models.Receipt).where(models.Receipt.owner == caller)
        found = asked.newest_first(session, mine, models.Receipt)
        waiting = forgetting.waiting(session, [row.id for row in found.rows])
        return asked.page(found, lambda row: Receipt.from_row(row, waiting))


@router.get("/v1/receipts/{receipt_id}", summary="A receipt", responses=documented(404, 422))
def get_receipt(receipt_id: HexId, caller: Caller, sessions: SessionsDep) -> Receipt:
    """What was forgotten, and how many files are still to be removed."""
    return _receipt(sessions, caller, receipt_id)


def _receipt(sessions: Sessions, owner: str, receipt_id: str) -> Receipt:
    with sessions.read() as session:
        row = forgetting.get(session, owner, receipt_id)
        return Receipt.from_row(row, forgetting.waiting(session, [row.id]))
