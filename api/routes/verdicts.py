"""What people think of a job's new images."""

from typing import Annotated, Self

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.deps import Caller, PartsDep, SessionsDep, TrailDep
from api.problems import documented
from api.routes import HexId
from shared import items, jobs, verdicts
from shared.audit import Action
from shared.models import Job
from shared.spec import Text
from shared.states import Decision, ItemState
from shared.strict import Strict
from shared.verdicts import Opinion

router = APIRouter(prefix="/v1/jobs/{job_id}/verdicts", tags=["review"])

MOST = 10_000


class Judgement(Strict):
    """A verdict on an item's image."""

    item: int = Field(ge=0, lt=2**63, description="The item, which must be `done`.")
    verdict: Decision | None = Field(description="Null takes back what was said.")
    reason: Text | None = Field(None, max_length=500, description="Why; it goes into the archive's left_out.jsonl.")


class Tally(BaseModel):
    """How many of a job's images are judged."""

    accepted: int
    rejected: int
    undecided: int = Field(description="Images that are made, and of which nobody has said anything.")

    @classmethod
    def of(cls, session: Session, job: Job) -> Self:
        said, made = verdicts.counts(session, job.id), items.counts(session, job.id).get(ItemState.DONE, 0)
        accepted, rejected = (said.get(decision, 0) for decision in (Decision.ACCEPT, Decision.REJECT))
        return cls(accepted=accepted, rejected=rejected, undecided=made - accepted - rejected)


@router.post("", summary="Accept or reject new images", responses=documented(400, 404, 409, 413, 422))
def judge_items(
    job_id: HexId,
    judgements: Annotated[list[Judgement], Body(min_length=1, max_length=MOST, description="Each item once.")],
    caller: Caller,
    parts: PartsDep,
    trail: TrailDep,
) -> Tally:
    """All are noted, or none. Said again they change nothing; `null` takes one back.

    The items stay `done`. Rejected images are left out of archives that are built from then on: while the job runs that
    is its archive, afterwards the next revision, which a `POST` to the archive orders.
    """
    opinions = [Opinion(each.item, each.verdict, each.reason) for each in judgements]
    with parts.sessions.write() as session:
        job = jobs.get(session, caller, job_id)
        changed = verdicts.judge(session, job, trail.actor.name, opinions)
        if changed:
            trail.note(session, Action.JUDGED, f"/v1/jobs/{job_id}", changed)
        tally = Tally.of(session, job)
    if changed:
        parts.watch.forget(caller, job_id)
    return tally


@router.get("", summary="How many images are accepted and rejected", responses=documented(404, 422))
def count_verdicts(job_id: HexId, caller: Caller, sessions: SessionsDep) -> Tally:
    """The verdicts themselves are with the items: `GET /v1/jobs/{id}/items?verdict=reject` lists what is rejected."""
    with sessions.read() as session:
        return Tally.of(session, jobs.get(session, caller, job_id))
