"""Our own processes are killed in the middle of a job, one kind after the other, and the job ends as if they had not.

Two gpu workers whose clocks differ by two minutes, a cpu worker, two sweeps and the API run all the while.
"""

import json
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
import redis
from fleet import Process, pool_of
from live import free_port, until
from stage import Stage, gone, process_of

from regrow.client import Client
from regrow.errors import ClientError
from shared.queue import Task
from shared.states import ItemState

pytestmark = pytest.mark.slow


@dataclass
class Cast:
    """The stage, and who is on it."""

    stage: Stage
    gpu: dict[str, Process]
    cpu: Process
    sweeps: list[Process]
    api: Process
    port: int

    def again(self, name: str) -> None:
        self.gpu[name] = self.stage.gpu(name, FAULTY_CLOCK=CLOCKS[name])

    def child_of(self, name: str) -> int:
        """The pool's child of a gpu worker; 0 while there is none."""
        return next((child.pid for child in pool_of(self.gpu[name])), 0)

    def parent_of(self, child: int) -> str:
        """Which gpu worker a pool's child belongs to."""
        parent = psutil.Process(child).ppid()
        return next(name for name, process in self.gpu.items() if process.pid == parent)


CLOCKS = {"early": "-60", "late": "60"}


@pytest.fixture(scope="module")
def cast(stage: Stage) -> Iterator[Cast]:
    fleet, port = stage.site.fleet, free_port()
    cpu, sweeps = stage.cpu(), [fleet.sweep(), fleet.sweep()]
    made = Cast(stage, {}, cpu, sweeps, fleet.api(port), port)
    for name in CLOCKS:
        made.again(name)
    stage.prepare()
    until(lambda: stage.site.gpu_workers() == 2, 180, "both gpu workers are up")
    return made


def test_workers_whose_clocks_differ_by_two_minutes_leave_each_other_their_items(cast: Cast) -> None:
    """Leases are four seconds long: by the workers' own clocks those of one would lapse at once, the other's never."""
    stage = cast.stage
    for _ in range(10):  # on a busy machine one may have done all before the other is awake, or not renew in time
        job = stage.job()
        stage.check(job)
        items = stage.site.items(job)
        if len({item.worker for item in items}) == 2 and not any(item.lapses for item in items):
            return
    pytest.fail("in no job both made items and let none lapse")


def test_a_killed_child_is_replaced_and_what_it_had_is_made_again(cast: Cast) -> None:
    stage = cast.stage
    job, item = stage.frozen_in_the_middle()
    name = cast.parent_of(process_of(item))
    os.kill(process_of(item), signal.SIGKILL)
    stage.check(job)
    assert [each.lapses > 0 for each in stage.site.items(job) if each.id == item.id] == [True]
    assert cast.gpu[name].poll() is None
    until(lambda: cast.child_of(name) not in (0, process_of(item)), 60, "there is a new child")


def test_a_killed_parent_takes_its_child_along(cast: Cast) -> None:
    stage = cast.stage
    job, item = stage.in_the_middle()
    child = process_of(item)
    name = cast.parent_of(child)
    stage.site.fleet.kill_alone(cast.gpu[name])
    until(lambda: gone(child), 60, "the orphan ends")
    stage.check(job)
    cast.again(name)


def test_a_worker_that_is_told_to_end_hands_its_items_back(cast: Cast) -> None:
    stage = cast.stage
    job, item = stage.in_the_middle()
    child, name = process_of(item), cast.parent_of(process_of(item))
    stage.site.fleet.ask_to_end(cast.gpu[name])
    assert gone(child)
    assert item.worker not in stage.site.at_work(job)
    stage.check(job)
    cast.again(name)


def test_all_workers_are_killed_and_new_ones_go_on(cast: Cast) -> None:
    stage = cast.stage
    job, _ = stage.in_the_middle()
    for process in (*cast.gpu.values(), cast.cpu):
        stage.site.fleet.kill(process)
    before = {item.id: item.result_key for item in stage.site.items(job) if item.state == ItemState.DONE}
    cast.cpu = stage.cpu()
    for name in CLOCKS:
        cast.again(name)
    stage.check(job)
    after = {item.id: item.result_key for item in stage.site.items(job)}
    assert {key: after[key] for key in before} == before, "what was done was made again"


def test_without_a_sweep_nothing_is_lost_and_a_new_one_frees_what_the_dead_held(cast: Cast) -> None:
    stage = cast.stage
    job, item = stage.frozen_in_the_middle()
    for sweep in cast.sweeps:
        stage.site.fleet.kill(sweep)
    os.kill(process_of(item), signal.SIGKILL)
    others = [each.id for each in stage.site.items(job) if each.id != item.id]

    def rest() -> bool:
        return all(each.state == ItemState.DONE for each in stage.site.items(job) if each.id in others)

    until(rest, 180, "all others are done without a sweep")
    held = {each.id: each.state for each in stage.site.items(job)}[item.id]
    assert held == ItemState.RUNNING
    cast.sweeps = [stage.site.fleet.sweep(), stage.site.fleet.sweep()]
    stage.check(job)


def test_an_api_that_is_killed_costs_a_polling_client_nothing(cast: Cast) -> None:
    stage = cast.stage
    job = stage.job()
    told: dict[str, Any] = {}

    def poll() -> None:
        with Client(f"http://127.0.0.1:{cast.port}") as client:
            told.update(client.wait_job(job, on_poll=lambda answer: told.update(seen=answer["state"])))

    until(lambda: _listens(cast.port), 120, "the API listens")
    poller = threading.Thread(target=poll)
    poller.start()
    until(lambda: "seen" in told, 60, "the client got an answer")
    stage.site.fleet.kill(cast.api)
    cast.api = stage.site.fleet.api(cast.port)
    stage.check(job)
    poller.join(120)
    assert (told["state"], told["counts"]["done"]) == ("succeeded", len(stage.undisturbed.items))


def test_an_api_that_is_killed_during_an_upload_leaves_no_half_dataset(cast: Cast) -> None:
    stage = cast.stage
    until(lambda: _listens(cast.port), 120, "the API listens")
    (stage.home / "large.zip").write_bytes(bytes(50_000_000))  # more than lies in any buffer on the way

    def cut(sent: int, _all: int) -> None:
        if sent > 1_000_000:
            cast.api.kill()

    with Client(f"http://127.0.0.1:{cast.port}") as client, pytest.raises(ClientError):
        client.upload(stage.home / "large.zip", on_progress=cut)
    stage.site.fleet.kill(cast.api)
    cast.api = stage.site.fleet.api(cast.port)
    until(lambda: _listens(cast.port), 120, "the API listens again")
    assert stage.datasets() == {stage.dataset}
    assert list(stage.site.storage.root.glob("uploads/*")) == []
    with Client(f"http://127.0.0.1:{cast.port}") as client:
        uploaded = client.wait_dataset(client.upload(stage.home / "phantoms.zip")["id"])
    assert uploaded["state"] == "ready"


def like_a_hint(headers: dict[str, Any], properties: dict[str, Any] | None = None, **more: Any) -> bytes:
    """What lies in a queue, but for what is wrong with it."""
    told = {
        "delivery_tag": secrets.token_hex(4),
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "gpu"},
    }
    kind = {"content-type": "application/json", "content-encoding": "utf-8", "body": "W1tdLCB7fSwge31d"}
    whole = kind | {"headers": headers, "properties": told if properties is None else properties} | more
    return json.dumps(whole).encode()


NO_HINTS = [
    *(b"", b"\xff\xfe\x00", b"not json", b"{}", b"[]", b"17", b'"regrow.expand"', b'{"body": "x"}'),
    like_a_hint({}),
    like_a_hint({"task": "regrow.expand"}),
    like_a_hint({"task": ["regrow.expand"], "id": "1"}),
    like_a_hint({"task": "regrow.expand", "id": "1", "timelimit": 17}),
    like_a_hint({"task": "regrow.expand", "id": "1"}, {}),
    like_a_hint({"task": "regrow.expand", "id": "1"}, {"delivery_tag": "1"}),
    like_a_hint({"task": "regrow.expand", "id": "1"}, body="%%%"),
    like_a_hint({"task": "regrow.expand", "id": "1"}, body="e30="),
    like_a_hint({"task": "regrow.expand", "id": "1"}, **{"content-type": "application/x-python-serialize"}),
]


def test_doubled_stale_and_unknown_hints_and_plain_rubbish_do_no_harm(cast: Cast) -> None:
    stage = cast.stage
    fleet = dict(cast.gpu) | {"cpu": cast.cpu}
    app = stage.site.app
    with redis.Redis.from_url(stage.redis.url) as broker:
        job = stage.job()
        for queue in ("gpu", "cpu"):
            for task in (*Task, "regrow.no_such_task"):  # a hint for work there is none of, on either queue
                for _ in range(3):
                    app.send_task(task, queue=queue)
            app.send_task(Task.EXPAND, args=[1, "two"], kwargs={"three": 3}, queue=queue)
            for rubbish in NO_HINTS:
                broker.lpush(queue, rubbish)
        stage.check(job)
        until(lambda: broker.llen("gpu") == broker.llen("cpu") == 0, 120, "the queues are empty")
        # Whoever lives takes further hints.
        stage.check(stage.job())
    assert {name: process.poll() for name, process in fleet.items()} == dict.fromkeys(fleet)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
