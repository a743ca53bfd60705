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
"""Seconds after which a new look is taken, when somebody asks. Clients are told to ask once a second."""
_GRACE = 0.6
"""Share of that for which the old answer is given on, while the new look is taken: nobody has to wait for it."""
_MOST = 512

Look = Callable[[Session, str, str], schemas.jobs.Job]
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
    def of(cls, job: schemas.jobs.Job) -> Self:
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
class _Sight:
    """What is known of one job, and the look that is under way."""

    answer: Answer | None = None
    seen: float = 0.0
    """When the look that gave the answer began."""
    task: "asyncio.Task[Answer] | None" = None
    forgotten: bool = False


class Watch:
    """Answers for jobs. However many ask for one, there is one look at a time and at most one each `fresh` seconds.

    What this process changes itself is seen at once (`forget`); what others change after 1.6 times `fresh` seconds at
    most, or after the time that a look takes if that is longer. For one event loop; any thread may call `forget`.
    """

    def __init__(self, sessions: Sessions, look: Look, fresh: float = FRESH) -> None:
        self._sessions = sessions
        self._look = look
        self._fresh = fresh
        # By owner and id, never by the id alone: who asks for another's job finds nothing here, and not even by the
        # time it takes does he learn that somebody watches it. Those looked at longest ago come first.
        self._sights: OrderedDict[tuple[str, str], _Sight] = OrderedDict()

    async def answer(self, owner: str, job_id: str) -> Answer:
        """The job of an owner.

        Raises:
            NotFound: it is not there, or not theirs.
        """
        key = owner, job_id
        sight = self._sights.get(key)
        if sight is None or sight.forgotten:
            sight = _Sight()
        age = time.monotonic() - sight.seen
        if sight.answer is not None and age < self._fresh:
            return sight.answer
        task = sight.task or self._start(key, sight)
        if sight.answer is not None and age < self._fresh * (1 + _GRACE):
            return sight.answer
        # Who leaves does not take the look from those who stay.
        return await asyncio.shield(task)

    def forget(self, owner: str, job_id: str) -> None:
        """What is known of a job is out of date. To be called after the commit, before anybody is told of it."""
        sight = self._sights.get((owner, job_id))
        if sight is not None:
            sight.forgotten = True

    def _start(self, key: tuple[str, str], sight: _Sight) -> "asyncio.Task[Answer]":
        started = time.monotonic()

        def ended(task: "asyncio.Task[Answer]") -> None:
            sight.task = None
            if not task.cancelled() and task.exception() is None:
                sight.answer, sight.seen = task.result(), started
            elif self._sights.get(key) is sight:
                del self._sights[key]

        task = sight.task = asyncio.create_task(self._ask(*key))
        task.add_done_callback(ended)
        self._sights[key] = sight
        self._sights.move_to_end(key)
        while len(self._sights) > _MOST or self._outdated(next(iter(self._sights.values()))):
            self._sights.popitem(last=False)
        return task

    def _outdated(self, sight: _Sight) -> bool:
        return sight.task is None and time.monotonic() - sight.seen >= self._fresh * (1 + _GRACE)

    async def _ask(self, owner: str, job_id: str) -> Answer:
        def ask() -> Answer:
            with self._sessions.read() as session:
                return Answer.of(self._look(session, owner, job_id))

        return await to_thread.run_sync(ask)
