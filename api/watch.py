"""What jobs are like at this moment, looked up once for all who ask."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from anyio import to_thread
from sqlalchemy.orm import Session

from api import schemas
from shared.db import Sessions
from shared.states import ArchiveState, JobState

FRESH = 0.5
"""Seconds for which an answer is given again. Clients are told to ask once a second."""
_MOST = 512

Look = Callable[[Session, str, str], schemas.Job]
"""Gives the job of an owner by its id; raises NotFound where they have none of that id."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A job as it is sent."""

    body: bytes
    etag: str
    state: JobState
    steps: int
    """Sampler steps of each of its items."""
    over: bool
    """Nothing about it changes any more by itself: its archive is built, or will never be."""

    @classmethod
    def of(cls, job: schemas.Job) -> Self:
        body = job.model_dump_json().encode()
        building = job.archive is not None and job.archive.state == ArchiveState.BUILDING
        return cls(
            body=body,
            etag=f'"{hashlib.sha256(body).hexdigest()}"',
            state=job.state,
            steps=job.resolved["steps"],
            over=job.finished_at is not None and not building,
        )


@dataclass(slots=True)
class _Glance:
    """One look at the database, under way or done."""

    task: "asyncio.Task[Answer]"
    started: float
    forgotten: bool = False


class Watch:
    """Answers for jobs. However many ask for one, there is one look at a time and at most one each `fresh` seconds.

    What this process changes itself is seen at once (`forget`), what others change after `fresh` seconds, or after the
    time that a look takes if that is longer. For one event loop; `forget` may be called by any thread.
    """

    def __init__(self, sessions: Sessions, look: Look, fresh: float = FRESH) -> None:
        self._sessions = sessions
        self._look = look
        self._fresh = fresh
        # By owner and id, never by the id alone: who asks for another's job finds nothing here, and not even by the
        # time it takes does he learn that somebody watches it. The oldest come first.
        self._glances: OrderedDict[tuple[str, str], _Glance] = OrderedDict()

    async def answer(self, owner: str, job_id: str) -> Answer:
        """The job of an owner.

        Raises:
            NotFound: it is not there, or not theirs.
        """
        key = owner, job_id
        glance = self._glances.get(key)
        if glance is None or glance.forgotten or self._stale(glance):
            glance = self._start(key)
        # Who leaves does not take the look from those who stay.
        return await asyncio.shield(glance.task)

    def forget(self, owner: str, job_id: str) -> None:
        """What is known of a job is out of date. To be called after the commit, before anybody is told of it."""
        glance = self._glances.get((owner, job_id))
        if glance is not None:
            glance.forgotten = True

    def _stale(self, glance: _Glance) -> bool:
        return glance.task.done() and time.monotonic() >= glance.started + self._fresh

    def _start(self, key: tuple[str, str]) -> _Glance:
        def ended(task: "asyncio.Task[Answer]") -> None:
            if (task.cancelled() or task.exception() is not None) and self._glances.get(key) is glance:
                del self._glances[key]

        glance = _Glance(asyncio.create_task(self._ask(*key)), time.monotonic())
        self._glances.pop(key, None)
        self._glances[key] = glance
        glance.task.add_done_callback(ended)
        while len(self._glances) > _MOST or self._stale(next(iter(self._glances.values()))):
            self._glances.popitem(last=False)
        return glance

    async def _ask(self, owner: str, job_id: str) -> Answer:
        def ask() -> Answer:
            with self._sessions.read() as session:
                return Answer.of(self._look(session, owner, job_id))

        return await to_thread.run_sync(ask)
