"""The audit trail: who did what."""

from typing import Annotated

from fastapi import APIRouter, Query

from api import schemas
from api.deps import Caller, SessionsDep
from api.pages import AskedDep, Page
from api.problems import documented
from shared import audit
from shared.audit import Action
from shared.models import AuditEntry

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get("", summary="Who did what", responses=documented(422))
def list_audit(
    caller: Caller,
    sessions: SessionsDep,
    asked: AskedDep,
    object: Annotated[
        str | None,
        Query(
            max_length=200,
            pattern=r"^/[^\x00]*$",
            description="Only what was done to this and to what is in it, given by its path: `/v1/jobs/…`.",
        ),
    ] = None,
    action: Annotated[list[Action] | None, Query(description="Only this; it may be said several times.")] = None,
) -> Page[schemas.audit.AuditEntry]:
    """Newest first. An entry outlives what it is about. Of a thing that somebody downloads again within an hour, in
    parts or as a whole, there is one entry.
    """
    with sessions.read() as session:
        wanted = audit.entries(caller, object, action or [])
        return asked.page(asked.newest_first(session, wanted, AuditEntry), schemas.audit.AuditEntry.from_row)
