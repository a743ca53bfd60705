"""What happens to a job, as it happens: the server's events as typed values, over as many connections as it takes."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from regrow.answers import Item, Job, JobState
from regrow.errors import ProblemError, Unreachable
from regrow.wire import Pauses, Wire, foreign


@dataclass(frozen=True, slots=True)
class Progress:
    """The job has changed, or this is how it was when the connection was made."""

    job: Job


@dataclass(frozen=True, slots=True)
class Settled:
    """An item is done, failed or cancelled."""

    item: Item


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The job is in another state."""

    state: JobState


Event = Progress | Settled | StateChanged


@dataclass(frozen=True, slots=True)
class Message:
    """A Server-Sent Event as it comes."""

    id: str
    event: str
    data: str


def listen(wire: Wire, path: str, over: Callable[[Job], bool], patience: float) -> Iterator[Event]:
    """The events at `path`, until the server ends them and the job is `over`.

    A connection that breaks is made again, for as long as `patience` seconds without an event, and goes on after the
    last event that came.
    """
    last, done = "", False
    pauses = Pauses(patience)
    while not done:
        try:
            with wire.stream(path, {"Last-Event-ID": last} if last else {}) as response:
                if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    raise foreign(response)
                for message in messages(response.iter_bytes()):
                    pauses, last = Pauses(patience), message.id or last
                    event = _event(message)
                    if isinstance(event, Progress):
                        done = over(event.job)
                    if event:
                        yield event
        except (Unreachable, ProblemError) as error:
            done = False
            if isinstance(error, ProblemError) and error.status < 500:
                raise
            if not pauses.wait():
                raise
        else:
            # One that the server ended before the job's end: it had to let us go, and we may come back.
            if not done and not pauses.wait():
                raise Unreachable(wire.base_url, "it ends the stream of events each time")


def _event(message: Message) -> Event | None:
    """The event of a message; None for a kind that a later server may send."""
    data: Any = json.loads(message.data)
    match message.event:
        case "progress":
            return Progress(data)
        case "item":
            return Settled(data)
        case "state":
            return StateChanged(data["state"])
    return None


def messages(chunks: Iterable[bytes]) -> Iterator[Message]:
    """Split a stream into messages. Comments, which only show that the server lives, are passed over.

    By bytes: a file name may hold characters that end a line in Python's eyes, but not in this format.
    """
    rest = b""
    for chunk in chunks:
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
            if "data" in fields:
                yield Message(fields.get("id", ""), fields.get("event", ""), fields["data"])
