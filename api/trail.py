"""The audit trail as routes write it."""

from dataclasses import dataclass

from fastapi import Request, Response
from sqlalchemy.orm import Session

from shared import audit
from shared.audit import Action, Actor
from shared.db import Sessions


@dataclass(frozen=True, slots=True)
class Trail:
    """Notes what the caller of a request does."""

    sessions: Sessions
    actor: Actor

    def note(self, session: Session, action: Action, thing: str, count: int = 1) -> None:
        """Note a change in its own transaction. `thing` is the path of what was changed."""
        audit.note(session, self.actor, action, thing, count)

    def downloaded(self, request: Request, answer: Response) -> Response:
        """Note that what the request asks for is sent, before it is; the answer is given back as it came.

        Not where nothing is sent: a HEAD, and what the caller has already.
        """
        if request.method == "GET" and answer.status_code < 400 and answer.status_code != 304:
            thing = request.url.path
            with self.sessions.read() as session:
                known = audit.downloaded_lately(session, self.actor, thing)
            if not known:
                with self.sessions.write() as session:
                    audit.note(session, self.actor, Action.DOWNLOADED, thing)
        return answer
