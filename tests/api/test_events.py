"""What happens to a job, told to those who listen."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from live import free_port, until
from service import MISSING, Service, on_both_databases
from sqlalchemy import update

from api import settled
from api.feeds import Backlog
from shared import items as life
from shared import jobs, priors
from shared.models import Item
from shared.spec import ExpansionSpec
from shared.storage import result_key

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 45.0
on_postgres = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


@dataclass(frozen=True)
class Event:
    kind: str
    id: str
    data: dict[str, Any]


@contextmanager
def listening(service: Service, job_id: str, since: str | None = None) -> Iterator[Iterator[Event]]:
    """The events of a job, as they come; they end when the server ends them."""
    headers = {"Last-Event-ID": since} if since is not None else {}
    with service.client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield parsed(answer.iter_lines())


def parsed(lines: Iterator[str]) -> Iterator[Event]:
    """Fails a while after nothing but signs of life has come."""
    end = time.monotonic() + PATIENCE
    while block := list(takewhile(bool, lines)):
        fields = dict(line.split(": ", 1) for line in block if not line.startswith(":"))
        if fields:
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            end = time.monotonic() + PATIENCE
        elif time.monotonic() > end:
            pytest.fail("no more events come, and the stream does not end")


def heard(events: Iterator[Event], enough: Callable[[list[Event]], bool]) -> list[Event]:
    """The next events, until they are enough."""
    told: list[Event] = []
    for event in events:
        told.append(event)
        if enough(told):
            return told
    pytest.fail(f"the stream ended with {told}")


def next_of(events: Iterator[Event], kind: str) -> Event:
    return heard(events, lambda told: told[-1].kind == kind)[-1]


def next_where(events: Iterator[Event], **counts: int) -> Event:
    """The next `progress` of a job with such counts."""
    fits = {"counts": {"pending": 0, "running": 0, "done": 0, "failed": 0, "cancelled": 0} | counts}
    return heard(events, lambda told: told[-1].data.items() >= fits.items())[-1]


def items_of(events: list[Event]) -> list[dict[str, Any]]:
    """The items told of, each once, by their ids."""
    told = {event.data["id"]: event.data for event in events if event.kind == "item"}
    return [told[item_id] for item_id in sorted(told)]


def next_items(events: Iterator[Event], count: int) -> list[dict[str, Any]]:
    return items_of(heard(events, lambda told: len(items_of(told)) == count))


def all_of(service: Service, job_id: str, since: str | None = None) -> list[Event]:
    """What one is told who begins to listen now, and is the only one."""
    until(lambda: not service.feeds, PATIENCE, "those who listened before have gone")
    with listening(service, job_id, since) as events:
        return list(events)


def listed(service: Service, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.get(f"/v1/jobs/{job_id}/items")["items"]
    return found


@on_both_databases
def test_a_listener_is_told_the_whole_story_of_a_job(live: Service) -> None:
    job = live.job(live.ready(3), variants=1)
    with listening(live, job["id"]) as events:
        told = [next(events)]
        assert (told[0].kind, told[0].data) == ("progress", job)
        live.do(1)
        told += heard(events, lambda told: told[-1].kind == "progress" and told[-1].data["counts"]["done"] == 1)
        assert told[-1].data == live.get(f"/v1/jobs/{job['id']}")
        live.fail(1)
        told += heard(events, lambda told: told[-1].kind == "progress" and told[-1].data["counts"]["failed"] == 1)
        live.client.post(f"/v1/jobs/{job['id']}/cancel")
        told += heard(events, lambda told: told[-1].kind == "progress" and told[-1].data["archive"] is not None)
        assert told[-1].data["archive"]["state"] == "building"
        live.pack(b"zip")
        told += events
    assert (told[-1].kind, told[-1].data) == ("progress", live.get(f"/v1/jobs/{job['id']}"))
    assert told[-1].data["archive"]["state"] == "ready"
    assert [item["state"] for item in items_of(told)] == ["done", "failed", "cancelled"]
    assert items_of(told) == listed(live, job["id"])
    states = [event.data["state"] for event in told if event.kind == "state"]
    assert [state for state in states if state != "cancelling"] == ["running", "cancelled"]
    for place, event in enumerate(told):
        if event.kind == "progress":
            counts = event.data["counts"]
            assert len(items_of(told[:place])) >= counts["done"] + counts["failed"] + counts["cancelled"]


def test_the_stream_of_a_job_that_can_have_no_archive_ends_too(live: Service) -> None:
    failed = live.job(live.ready(1), variants=1)["id"]
    live.fail(1)
    assert [event.kind for event in all_of(live, failed)] == ["progress"]
    unpacked = live.job(live.ready(1), variants=1)["id"]
    live.do(1)
    with listening(live, unpacked) as events:
        assert next(events).data["archive"]["state"] == "building"
        live.pack(None)
        assert [event.data["archive"]["state"] for event in events] == ["failed"]


@on_both_databases
def test_who_comes_back_is_told_what_was_settled_meanwhile(live: Service) -> None:
    job_id = live.job(live.ready(4), variants=1)["id"]
    with listening(live, job_id) as events:
        snapshot = next(events)
        live.do(1)
        seen = next_of(events, "item")
    live.do(1)
    live.fail(1)
    for since in (snapshot.id, seen.id, "0"):
        with listening(live, job_id, since) as events:
            assert next(events).kind == "progress"
            assert next_items(events, 3) == [item for item in listed(live, job_id) if item["state"] != "pending"]
    live.do(1)
    live.pack(b"zip")
    assert [event.kind for event in all_of(live, job_id)] == ["progress"]
    events = all_of(live, job_id, seen.id)
    assert [event.kind for event in events] == ["progress"] + ["item"] * 4
    assert [float(event.id) for event in events[1:]] == sorted(float(event.id) for event in events[1:])


def test_what_was_settled_long_before_the_last_event_is_not_told_again(live: Service) -> None:
    job_id = live.job(live.ready(2), variants=1)["id"]
    live.do(1)
    with live.sessions.write() as session:
        session.execute(update(Item).where(Item.state == "done").values(settled_at=Item.settled_at - 1000))
    live.do(1)
    live.pack(b"zip")
    snapshot, item = all_of(live, job_id, all_of(live, job_id)[0].id)
    assert item.data["id"] == max(each["id"] for each in listed(live, job_id))
    assert item.id == snapshot.id


@on_postgres
def test_an_item_whose_transaction_ends_late_is_told_all_the_same(live: Service) -> None:
    job_id = live.job(live.ready(3), variants=1)["id"]
    slow, quick = live.claim(2)
    with listening(live, job_id) as events:
        next(events)
        with live.sessions.write() as late:
            assert life.settle(late, slow, result(slow))
            with live.sessions.write() as session:
                assert life.settle(session, quick, result(quick))
            first = next_of(events, "item")
            next_where(events, running=1, done=1, pending=1)
        second = next_of(events, "item")
    assert (first.data["id"], second.data["id"]) == (quick.item_id, slow.item_id)
    assert float(second.id) < float(first.id)
    with listening(live, job_id, first.id) as events:
        assert [item["id"] for item in next_items(events, 2)] == sorted([quick.item_id, slow.item_id])


@on_both_databases
def test_many_items_that_end_at_the_same_moment_are_all_told(live: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "PAGE", 3)
    job_id = live.job(live.ready(2), variants=10)["id"]
    with listening(live, job_id) as events:
        next(events)
        live.client.post(f"/v1/jobs/{job_id}/cancel")
        told = list(events)
    assert len(listed(live, job_id)) == 20
    assert items_of(told) == items_of(all_of(live, job_id, "0")) == listed(live, job_id)


def test_an_item_that_is_tried_again_is_told_of_again(live: Service) -> None:
    job_id = live.job(live.ready(2), variants=1)["id"]
    with listening(live, job_id) as events:
        next(events)
        live.fail(1)
        failed = next_of(events, "item").data
        next_where(events, failed=1, pending=1)
        with live.sessions.write() as session:
            assert jobs.retry(session, jobs.get(session, "local", job_id)) == 1
        live.do(2)
        assert [item["state"] for item in next_items(events, 2)] == ["done", "done"]
    assert failed["state"] == "failed"


def test_a_job_that_is_not_there_or_not_ones_own_has_no_stream(live: Service) -> None:
    spec = ExpansionSpec(dataset_id=live.ready(1, owner="somebody"))
    with live.sessions.write() as session:
        theirs = jobs.create(session, "somebody", spec, priors.find(session, "local", "builtin"), 100).id
    for job_id in (theirs, MISSING, "1"):
        live.get(f"/v1/jobs/{job_id}/events", 404)


@pytest.mark.parametrize("since", ["yesterday", "-1", "nan", "inf", ""])
def test_an_event_id_that_is_none_is_refused(live: Service, since: str) -> None:
    job_id = live.job(live.ready(1))["id"]
    problem = live.get(f"/v1/jobs/{job_id}/events", 422, **{"Last-Event-ID": since})
    assert problem["errors"][0]["where"] == "header.last-event-id"


def test_those_who_listen_to_a_job_that_is_deleted_are_let_go(live: Service) -> None:
    job_id = live.job(live.ready(1))["id"]
    with listening(live, job_id) as events:
        next(events)
        with live.sessions.write() as session:
            jobs.delete(session, jobs.get(session, "local", job_id))
        assert list(events) == []


def test_a_silent_stream_shows_that_it_is_alive(live: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routes.events.PING_SECONDS", 0.1)
    job_id = live.job(live.ready(1))["id"]
    with live.client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=PATIENCE) as answer:
        assert next(line for line in answer.iter_lines() if line.startswith(":"))


@on_both_databases
def test_fifty_listeners_cost_no_more_than_one(live: Service) -> None:
    job_id = live.job(live.ready(4), variants=1)["id"]
    told: list[list[dict[str, Any]]] = []
    ready = threading.Semaphore(0)

    def listen() -> None:
        with listening(live, job_id) as events:
            next(events)
            ready.release()
            told.append(items_of(list(events)))

    live.client = httpx.Client(base_url=live.client.base_url, trust_env=False, limits=httpx.Limits(), timeout=60)
    threads = [threading.Thread(target=listen) for _ in range(50)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert ready.acquire(timeout=PATIENCE)
    started = time.monotonic()
    with live.queries() as asked:
        time.sleep(3)
        until(lambda: any("FROM job" in statement for statement in asked), PATIENCE, "somebody looks at the job")
        looks = sum("FROM job" in statement for statement in list(asked))
    assert looks <= time.monotonic() - started + 1
    live.do(4)
    live.pack(b"zip")
    for thread in threads:
        thread.join(PATIENCE)
    assert told == [listed(live, job_id)] * 50
    live.client.close()


def test_nobody_looks_any_more_when_the_last_listener_has_gone(live: Service) -> None:
    job_id = live.job(live.ready(1))["id"]
    with listening(live, job_id) as one, listening(live, job_id) as another:
        assert next(one) == next(another)
        assert live.feeds
    until(lambda: not live.feeds, PATIENCE, "the server has seen them go")
    time.sleep(0.5)
    with live.queries() as asked:
        time.sleep(2)
    assert asked == []


@on_postgres
def test_a_stream_outlives_a_database_that_is_away_for_a_moment(
    live: Service, database_url: str, postgres_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = live.job(live.ready(2), variants=1)["id"]
    work, *_ = live.claim(1)
    name = database_url.rpartition("/")[2]
    with listening(live, job_id) as events, psycopg.connect(postgres_server, autocommit=True) as server:
        next(events)
        server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        until(lambda: "cannot be looked at" in caplog.text, PATIENCE, "it is noticed that the database is away")
        server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        with live.sessions.write() as session:
            assert life.settle(session, work, result(work))
        assert next_of(events, "item").data["id"] == work.item_id


def test_a_server_that_is_told_to_end_waits_for_no_listener(live: Service, database_url: str, tmp_path: Path) -> None:
    job_id = live.job(live.ready(1))["id"]
    port = free_port()
    named = {
        "REGROW_DATA": str(tmp_path),
        "REGROW_DATABASE_URL": database_url,
        "REGROW_BROKER_URL": "redis://localhost",
    }
    with (tmp_path / "api.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--factory", "api.main:from_settings", "--port", str(port)],
            env=os.environ | named,
            cwd=ROOT,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            until(lambda: _answers(client), PATIENCE, "the API answers")
            with client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=PATIENCE) as answer:
                events = parsed(answer.iter_lines())
                assert next(events).kind == "progress"
                server.send_signal(signal.SIGTERM)
                # Without a time limit of its own, the server waits for open answers as long as they stay open.
                server.wait(PATIENCE)
    finally:
        server.kill()
        server.wait()
    assert b"Traceback" not in (tmp_path / "api.log").read_bytes()


def test_a_reader_who_is_too_slow_is_let_go_and_holds_up_nobody() -> None:
    async def play() -> tuple[list[bytes], list[bytes], int]:
        backlog = Backlog(size=100)
        quick, slow = backlog.read(0), backlog.read(0)
        backlog.add([b"first"])
        told, late = [await anext(quick)], [await anext(slow)]
        for number in range(50):
            backlog.add([b"event %02d" % number])
            told.append(await anext(quick))
        backlog.close()
        kept = sum([len(b"".join([event async for event in backlog.read(place)])) > 0 for place in range(51)])
        return told, late + [event async for event in slow], kept

    told, late, kept = asyncio.run(play())
    assert told == [b"first"] + [b"event %02d" % number for number in range(50)]
    assert late == [b"first"]
    assert kept == 100 // len(b"event 00")


def test_a_reader_within_the_backlog_misses_nothing() -> None:
    async def play() -> bytes:
        backlog = Backlog()
        backlog.add([b"a"])
        start = backlog.end
        backlog.add([b"b", b"c"])
        backlog.add([])
        backlog.add([b"d"] * 250)
        backlog.close()
        return b"".join([event async for event in backlog.read(start)])

    assert asyncio.run(play()) == b"bc" + b"d" * 250


def _answers(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/healthz").status_code == 200
    return False


def result(work: life.Work) -> life.Result:
    return life.Result(result_key(work.job_id, work.item_id, work.token, "png"), "0" * 64, 1.0, {}, {})
