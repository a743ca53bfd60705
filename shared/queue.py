"""The whole contract between the API and the workers: six task names on two queues.

A message carries nothing but "there is work": which work, the database says. So a lost or doubled one does no harm.
"""

import base64
import json
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.transport import redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


class Queue(StrEnum):
    CPU = "cpu"
    GPU = "gpu"


class Task(StrEnum):
    INGEST = "regrow.ingest"
    FETCH = "regrow.fetch"
    EXPAND = "regrow.expand"
    ARCHIVE = "regrow.archive"
    TRAIN = "regrow.train"
    NOTIFY = "regrow.notify"


QUEUE_OF = {
    Task.INGEST: Queue.CPU,
    Task.FETCH: Queue.CPU,
    Task.EXPAND: Queue.GPU,
    Task.ARCHIVE: Queue.CPU,
    Task.TRAIN: Queue.GPU,
    Task.NOTIFY: Queue.CPU,
}

Enqueue = Callable[[Task], None]


def make_app(broker_url: str, **conf: Any) -> Celery:
    """A Celery application on the Redis at `broker_url`."""
    app = Celery("regrow", broker=broker_url, amqp=_Amqp, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=True,
        task_default_queue=Queue.CPU,
        broker_connection_retry_on_startup=True,
        # However long the broker is away: a worker that gave up would have to be started by hand.
        broker_connection_max_retries=None,
        broker_transport_options={"socket_connect_timeout": 2, "socket_timeout": 10},
        **conf,
    )
    return app


def make_enqueue(app: Celery) -> Enqueue:
    """A function that wakes one worker for a task, unless a hint for it lies in the queue already.

    It never fails: the sweep sends again what a broker that was away did not take.
    """

    def enqueue(task: Task) -> None:
        try:
            if not hinted(app, task):
                app.send_task(task, queue=QUEUE_OF[task], retry=False)
        except (BrokerAway, OperationalError) as error:
            log.warning("the broker took no hint for %s, the sweep will send it again: %s", task, str(error))

    return enqueue


class BrokerAway(Exception):
    """The broker did not answer; the message says why."""


def hinted(app: Celery, task: Task) -> bool:
    """Whether a hint for the task waits in its queue, taken by no worker yet. Raises BrokerAway."""
    try:
        with app.connection_for_read(connect_timeout=2) as connection:
            # Never many: a hint is not sent while one like it waits.
            waiting = connection.default_channel.client.lrange(str(QUEUE_OF[task]), 0, 99)
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerAway(str(error)) from error
    return any(_task_of(_decoded(message)) == task for message in waiting)


def ping(app: Celery) -> None:
    """Ask the broker for a sign of life. Raises BrokerAway."""
    hinted(app, Task.INGEST)


class _Channel(redis.Channel):
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except ValueError as error:
            log.warning("something in a queue is not JSON and is thrown away: %s", error)
            return None


class _Transport(redis.Transport):
    """Reads queues in which anybody may have written anything, over which Celery would end the worker, or stop to take
    work. So nothing of it reaches Celery but the name of a task, which is all that a hint says."""

    Channel = _Channel

    def _deliver(self, message: Any, queue: str) -> None:
        if queue in list(Queue):
            task = _task_of(message)
            if task not in list(Task):
                log.warning("something in the queue %s names no task of ours and is thrown away", queue)
                return
            message = _hint(task, queue)
        super()._deliver(message, queue)  # type: ignore[no-untyped-call]


class _Connection(Connection):
    def get_transport_cls(self) -> type[_Transport]:
        return _Transport


class _Amqp(AMQP):  # type: ignore[misc]  # Celery has no types
    Connection = _Connection


def _task_of(message: Any) -> str | None:
    """The task that a decoded message names; None if it is no such message."""
    try:
        named = message["headers"]["task"]
    except (LookupError, TypeError):
        return None
    return named if isinstance(named, str) else None


def _hint(task: str, queue: str) -> dict[str, Any]:
    """A hint as Celery writes one, without arguments."""
    return {
        "headers": {"lang": "py", "task": task, "id": str(uuid4())},
        "properties": {
            "delivery_tag": str(uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
        },
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "body": base64.b64encode(b"[[], {}, {}]").decode(),
    }


def _decoded(message: bytes) -> Any:
    try:
        return json.loads(message)
    except ValueError:
        return None
