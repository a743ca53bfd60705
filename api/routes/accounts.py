"""What there is to say of a job's images: for people, and for a paper."""

from fastapi import APIRouter, Response

from api.deps import Caller, PartsDep, SessionsDep
from api.problems import documented
from api.routes import HexId
from shared import accounts, jobs

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["review"])

_ASK = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}


def _answers(media_type: str) -> dict[int | str, dict[str, object]]:
    return {200: {"content": {media_type: {}}, "description": "The page."}, **documented(404, 422)}


@router.get("/report", summary="A report on what was made", response_class=Response, responses=_answers("text/html"))
def get_report(job_id: HexId, caller: Caller, parts: PartsDep) -> Response:
    """The archive's report.html, of what is done so far, with verdicts so far and the filters of the latest archive: a
    file that needs neither script nor network. It shows pictures of the originals."""
    with parts.sessions.read() as session:
        account = accounts.gather(session, jobs.get(session, caller, job_id).id)
    headers = _ASK | {"Content-Security-Policy": accounts.CONTENT_SECURITY_POLICY}
    return Response(accounts.page(account, parts.storage), media_type="text/html; charset=utf-8", headers=headers)


@router.get("/methods", summary="A paragraph for a paper", response_class=Response, responses=_answers("text/markdown"))
def get_methods(job_id: HexId, caller: Caller, sessions: SessionsDep) -> Response:
    """The archive's methods.md: every number of the job in sentences, and BibTeX of what it rests on."""
    with sessions.read() as session:
        account = accounts.gather(session, jobs.get(session, caller, job_id).id)
    return Response(accounts.methods(account), media_type="text/markdown; charset=utf-8", headers=_ASK)
