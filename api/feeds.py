"""What happens to jobs, as a stream of Server-Sent Events: looked up once a second for all who listen to a job."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sse_starlette import ServerSentEvent

from api import schemas, settled
from api.settled import LATE, Mark
from api.watch import Answer, Watch
from shared.db import Sessions
from shared.errors import NotFound
from shared.models import Item

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks at a job."""
BACKLOG = 1024 * 1024
"""Bytes of events that are kept for listeners who are slow to take them."""
SEPARATOR = "\n"
_CHUNK = 100

T = TypeVar("T")
P = ParamSpec("P")


def encode(event: str, data: str, place: float) -> bytes:
    """One event as it is sent; `place` is its id: a time in the order of settling."""
    return ServerSentEvent(data, event=event, id=f"{place:.6f}", sep=SEPARATOR).encode()


def encode_items(rows: Iterable[Item], steps: int) -> list[bytes]:
    """An `item` event for each of some settled items."""
    return [
        encode("item", schemas.items.Item.from_row(row, steps).model_dump_json(), row.settled_at or 0.0) for row in rows
    ]


class Backlog:
    """The latest events, for any number of readers, each at its own pace. It grows for none of them."""

    def __init__(self, size: int = BACKLOG) -> None:
        self._events: list[bytes] = []
        self._size = size
        self._held = 0
        self._gone = 0
        self._news = asyncio.Event()
        self._ended = False

    @property
    def end(self) -> int:
        """The place of the next event there will be."""
        return self._gone + len(self._events)

    def add(self, events: Sequence[bytes]) -> None:
        """Put events at the end, and let go of as many of the oldest as no longer fit."""
        self._events += events
        self._held += sum(map(len, events))
        excess = 0
        while self._held > self._size and excess < len(self._events) - 1:
            self._held -= len(self._events[excess])
            excess += 1
        del self._events[:excess]
        self._gone += excess
        self._wake()

    def close(self) -> None:
        """There will be no more."""
        self._ended = True
        self._wake()

    async def read(self, place: int) -> AsyncIterator[bytes]:
        """What comes at `place` and after it. Ends when there will be no more, or for a reader who is too slow: when
        the next event is no longer kept."""
        while place >= self._gone:
            start = place - self._gone
            events = self._events[start : start + _CHUNK]
            if events:
                place += len(events)
                yield b"".join(events)
            elif self._ended:
                return
            else:
                await self._news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Feed:
    """The events of one job from the moment somebody began to listen."""

    def __init__(self, sessions: Sessions, watch: Watch, owner: str, job_id: str) -> None:
        self.backlog = Backlog()
        self.last: Answer | None = None
        """The job as it was last told; None before `begun`, and for a job that is gone."""
        self.next = 0
        """The place in the backlog of what comes after `last`."""
        self.place = 0.0
        """When the latest item that is known was settled: the id of a snapshot."""
        self.listeners = 0
        self._sessions, self._watch, self._owner, self._job_id = sessions, watch, owner, job_id
        self._after = 0.0
        self._seen: dict[int, float] = {}
        self._begun = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def begun(self) -> None:
        """Wait until it is known what is news from now on."""
        await self._begun.wait()

    async def settled_since(self, place: float) -> AsyncIterator[bytes]:
        """The items settled since `place`, and some from before it, each as an event; page by page."""
        after = place - LATE, 0
        while True:
            rows = await self._ask(settled.page, self._job_id, after)
            if rows and self.last:
                yield b"".join(await to_thread.run_sync(encode_items, rows, self.last.steps))
            if len(rows) < settled.PAGE:
                return
            after = rows[-1].settled_at or 0.0, rows[-1].id

    async def _run(self) -> None:
        try:
            while self.last is None or not self.last.over:
                try:
                    if self.last is None:
                        await self._begin()
                    else:
                        await asyncio.sleep(EVERY)
                        await self._tick(self.last)
                except SQLAlchemyError as error:
                    log.warning("job %s cannot be looked at, it is tried again: %s", self._job_id, error)
                    await asyncio.sleep(EVERY)
        except NotFound:
            log.info("job %s is gone, those who listen to it are let go", self._job_id)
            self.last = None
        finally:
            self._begun.set()
            self.backlog.close()

    async def _begin(self) -> None:
        latest, found = await self._ask(settled.beginning, self._job_id)
        # Nothing that was settled before this turns up any more.
        self._after = min((mark.read_at - LATE for mark in found), default=latest)
        self._note(latest, found)
        self.last = await self._watch.answer(self._owner, self._job_id)
        self._begun.set()

    async def _tick(self, last: Answer) -> None:
        answer = await self._watch.answer(self._owner, self._job_id)
        if answer.etag == last.etag:
            return
        # After the answer, so that every item that it counts is sent before it.
        found = await self._ask(settled.marks, self._job_id, self._after)
        new = [mark.item_id for mark in found if self._seen.get(mark.item_id) != mark.settled_at]
        for start in range(0, len(new), settled.PAGE):
            rows = await self._ask(settled.named, new[start : start + settled.PAGE])
            self.backlog.add(await to_thread.run_sync(encode_items, rows, answer.steps))
        self._after = max(self._after, min((mark.read_at - LATE for mark in found), default=0.0))
        self._note(max((mark.settled_at for mark in found), default=0.0), found)
        if answer.state != last.state:
            self.backlog.add([encode("state", f'{{"state":"{answer.state}"}}', self.place)])
        self.backlog.add([encode("progress", answer.body.decode(), self.place)])
        self.last, self.next = answer, self.backlog.end

    def _note(self, latest: float, found: Sequence[Mark]) -> None:
        self.place = max(self.place, latest)
        self._seen = {mark.item_id: mark.settled_at for mark in found if mark.settled_at > self._after}

    async def _ask(self, question: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask the database in a thread."""

        def asked() -> T:
            with self._sessions.read() as session:
                return question(session, *args, **kwargs)

        return await to_thread.run_sync(asked)


class Feeds:
    """The feeds of the jobs that somebody listens to."""

    def __init__(self, sessions: Sessions, watch: Watch) -> None:
        self._sessions, self._watch = sessions, watch
        self._feeds: dict[tuple[str, str], Feed] = {}

    def __len__(self) -> int:
        return len(self._feeds)

    @asynccontextmanager
    async def joined(self, owner: str, job_id: str) -> AsyncIterator[Feed]:
        """The feed of an owner's job, begun; it goes on as long as anybody is in such a block."""
        key = owner, job_id
        feed = self._feeds.get(key)
        if feed is None or feed.task.done():
            feed = self._feeds[key] = Feed(self._sessions, self._watch, owner, job_id)
        feed.listeners += 1
        try:
            await feed.begun()
            yield feed
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                feed.task.cancel()
                if self._feeds.get(key) is feed:
                    del self._feeds[key]
