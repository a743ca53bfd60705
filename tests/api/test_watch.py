"""One look at a job for all who ask for it."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from live import until
from service import MISSING, Service
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api import schemas
from api import watch as watches
from api.routes.jobs import look
from api.watch import Watch
from shared import jobs
from shared.db import Sessions
from shared.errors import NotFound
from shared.queue import Task
from shared.storage import Folder

LONG = 600.0


@pytest.fixture
def slow(
    make_app: Callable[[float], FastAPI], sessions: Sessions, storage: Folder, hints: list[Task]
) -> Iterator[Service]:
    """A service whose answers for a job are given again for as long as a test lasts."""
    app = make_app(LONG)
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield Service(client, sessions, storage, hints)


def looks(asked: list[str]) -> int:
    return sum("FROM job" in statement for statement in asked)


def test_a_job_that_a_hundred_clients_ask_for_at_once_is_looked_up_once(service: Service) -> None:
    job_id = service.job(service.ready(1))["id"]
    watch = Watch(service.sessions, look, fresh=LONG)

    async def ask() -> list[watches.Answer]:
        return await asyncio.gather(*[watch.answer("local", job_id) for _ in range(100)])

    with service.queries() as asked:
        answers = asyncio.run(ask())
    assert looks(asked) == 1
    assert {answer.etag for answer in answers} == {service.client.get(f"/v1/jobs/{job_id}").headers["etag"]}


def test_an_answer_is_given_again_until_it_is_no_longer_fresh(service: Service) -> None:
    job_id = service.job(service.ready(1), variants=1)["id"]

    async def before_and_after(fresh: float) -> tuple[str, str]:
        watch = Watch(service.sessions, look, fresh)
        first = await watch.answer("local", job_id)
        service.do(1)
        return first.state, (await watch.answer("local", job_id)).state

    assert asyncio.run(before_and_after(LONG)) == ("queued", "queued")
    job_id = service.job(service.ready(2), variants=1, reuse=False)["id"]
    assert asyncio.run(before_and_after(0.0)) == ("queued", "running")


def test_who_asks_while_an_answer_is_renewed_need_not_wait_and_is_told_the_old_one(service: Service) -> None:
    job_id = service.job(service.ready(1), variants=1)["id"]
    go_on = threading.Event()
    seen: list[str] = []

    def dawdle(session: Session, owner: str, wanted: str) -> schemas.jobs.Job:
        job = look(session, owner, wanted)
        seen.append(job.state)
        assert len(seen) == 1 or go_on.wait(30)
        return job

    # Fresh for a second, and given on for 600 more.
    watch = Watch(service.sessions, dawdle, fresh=1.0)

    async def ask() -> tuple[str, str, str]:
        first = await watch.answer("local", job_id)
        await asyncio.sleep(1.1)
        service.do(1)
        second = await watch.answer("local", job_id)
        await asyncio.to_thread(until, lambda: len(seen) == 2, 30, "a new look is taken")
        go_on.set()
        while (third := await watch.answer("local", job_id)) == second:
            await asyncio.sleep(0.01)
        return first.state, second.state, third.state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watches, "_GRACE", 600.0)
        assert asyncio.run(ask()) == ("queued", "queued", "succeeded")
    assert seen[:2] == ["queued", "succeeded"]


def test_who_asks_for_anothers_job_finds_nothing_although_it_is_being_watched(service: Service) -> None:
    job_id = service.job(service.ready(1))["id"]
    watch = Watch(service.sessions, look, fresh=LONG)

    async def refused(owner: str, wanted: str) -> str:
        with pytest.raises(NotFound) as refusal:
            await watch.answer(owner, wanted)
        return refusal.value.detail.replace(wanted, "")

    async def ask() -> tuple[str, str]:
        await watch.answer("local", job_id)
        return await refused("somebody", job_id), await refused("somebody", MISSING)

    foreign, missing = asyncio.run(ask())
    assert foreign == missing


def test_what_is_not_there_is_looked_for_again(service: Service) -> None:
    watch = Watch(service.sessions, look, fresh=LONG)
    job_id = service.job(service.ready(1))["id"]
    with service.sessions.write() as session:
        row = jobs.get(session, "local", job_id)
        row.owner = "somebody"

    async def ask() -> bytes:
        with pytest.raises(NotFound):
            await watch.answer("local", job_id)
        with service.sessions.write() as session:
            jobs.get(session, "somebody", job_id).owner = "local"
        return (await watch.answer("local", job_id)).body

    assert job_id in asyncio.run(ask()).decode()


def test_a_look_that_began_before_a_change_is_no_answer_to_who_asks_after_it(service: Service) -> None:
    job_id = service.job(service.ready(1), variants=1)["id"]
    read, go_on = threading.Event(), threading.Event()

    def dawdle(session: Session, owner: str, wanted: str) -> schemas.jobs.Job:
        job = look(session, owner, wanted)
        if not read.is_set():
            read.set()
            go_on.wait(30)
        return job

    watch = Watch(service.sessions, dawdle, fresh=LONG)

    async def ask() -> tuple[str, str, str]:
        early = asyncio.create_task(watch.answer("local", job_id))
        await asyncio.to_thread(read.wait, 30)
        service.do(1)
        watch.forget("local", job_id)
        late = await watch.answer("local", job_id)
        go_on.set()
        return (await early).state, late.state, (await watch.answer("local", job_id)).state

    assert asyncio.run(ask()) == ("queued", "succeeded", "succeeded")


def test_only_the_latest_answers_are_kept(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "_MOST", 3)
    dataset_id = service.ready(1)
    first, *others = [service.job(dataset_id)["id"] for _ in range(4)]
    watch = Watch(service.sessions, look, fresh=LONG)

    async def ask() -> tuple[int, int]:
        for job_id in (first, *others):
            await watch.answer("local", job_id)
        with service.queries() as known:
            for job_id in others:
                await watch.answer("local", job_id)
        with service.queries() as forgotten:
            await watch.answer("local", first)
        return looks(known), looks(forgotten)

    assert asyncio.run(ask()) == (0, 1)


def test_whatever_a_caller_changes_about_a_job_he_sees_at_once(slow: Service) -> None:
    calls = [
        path
        for path, methods in slow.get("/openapi.json")["paths"].items()
        if path.startswith("/v1/jobs/{job_id}/") and path.count("{") == 1 and "post" in methods
    ]
    assert "/v1/jobs/{job_id}/cancel" in calls
    for path in calls:
        job_id = slow.job(slow.ready(2), variants=2, reuse=False)["id"]
        slow.get(f"/v1/jobs/{job_id}")
        answer = slow.client.post(path.format(job_id=job_id), json={})
        with slow.sessions.read() as session:
            now = look(session, "local", job_id).model_dump(mode="json")
        assert slow.get(f"/v1/jobs/{job_id}") == now, path
        assert answer.status_code >= 400 or answer.json() == now, path
        slow.client.post(f"/v1/jobs/{job_id}/cancel")
