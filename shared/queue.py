"""The whole contract between the API and the workers: three task names on two queues.

A message carries nothing but "there is work": which work, the database says. So a lost or doubled one does no harm.
"""

import json
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


class Queue(StrEnum):
    CPU = "cpu"
    GPU = "gpu"


class Task(StrEnum):
    INGEST = "regrow.ingest"
    EXPAND = "regrow.expand"
    ARCHIVE = "regrow.archive"


QUEUE_OF = {Task.INGEST: Queue.CPU, Task.EXPAND: Queue.GPU, Task.ARCHIVE: Queue.CPU}

Enqueue = Callable[[Task], None]


def make_app(broker_url: str, **conf: Any) -> Celery:
    """A Celery application on the Redis at `broker_url`."""
    app = Celery("regrow", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=True,
        task_default_queue=Queue.CPU,
        broker_connection_retry_on_startup=True,
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
            log.warning("the broker took no hint for %s, the sweep will send it again: %s", task, error)

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
    return any(json.loads(message)["headers"]["task"] == task for message in waiting)


def ping(app: Celery) -> None:
    """Ask the broker for a sign of life. Raises BrokerAway."""
    hinted(app, Task.INGEST)
