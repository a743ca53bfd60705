"""Clients that poll a job, and clients that listen to one. Both run in a process of their own, on bare sockets."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import psycopg
from sqlalchemy import make_url

from benchmarks import ground
from benchmarks.tables import table
from shared import items
from shared.db import Sessions
from shared.items import Result, Work

Address = tuple[str, int]

_HELD, _STEPS = 16, 100
_API = "api"
"""The database knows the API by this name, so that its questions can be told from those of others."""


def poll(clients: int, rate: float, seconds: float) -> None:
    """Clients that ask for one running job with its ETag over kept connections: at a pace, then as fast as they can."""
    lines = []
    with _served() as (address, _, sessions, job_id), _worked_on(sessions):
        for wanted in (rate, 0.0):
            with _elsewhere(_poll, address, job_id, clients, wanted, seconds) as there:
                counts, latencies, wall = there.recv()
            p50, p99 = (f"{ground.share(latencies, part) * 1e3:.1f}" for part in (0.5, 0.99))
            answers = ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()))
            asked = f"{wanted:.0f}" if wanted else "no limit"
            lines.append((clients, asked, f"{len(latencies) / wall:.0f}", p50, p99, answers))
    table(("clients", "wanted a second", "answers a second", "p50 ms", "p99 ms", "statuses"), lines)


def listen(listeners: int, seconds: float) -> None:
    """What the listeners of one job cost the database, counted there."""
    with _served() as (address, url, sessions, job_id):
        lines = [("waits", *_heard(address, url, job_id, count, seconds)) for count in (1, listeners)]
        with _worked_on(sessions):
            lines += [("runs", *_heard(address, url, job_id, count, seconds)) for count in (1, listeners)]
    table(("the job", "listeners", "s", "transactions a second", "queries a second", "events a second"), lines)


def _heard(address: Address, url: str, job_id: str, count: int, seconds: float) -> tuple[object, ...]:
    # Those who listened before have gone by then.
    time.sleep(3)
    with psycopg.connect(url, autocommit=True) as connection, _elsewhere(_listen, address, job_id, count) as there:
        there.recv()
        before, started = _asked(connection), time.monotonic()
        time.sleep(seconds)
        after, wall = _asked(connection), time.monotonic() - started
        there.send("enough")
        events = there.recv()
    transactions, queries = ((after[place] - before[place]) / wall for place in range(2))
    return count, f"{wall:.0f}", f"{transactions:.2f}", f"{queries:.2f}", f"{events / wall:.0f}"


def _asked(connection: "psycopg.Connection[Any]") -> tuple[int, int]:
    """The API's transactions and queries so far."""
    row = connection.execute(
        "SELECT coalesce(sum(calls) FILTER (WHERE query ILIKE 'commit%%'), 0),"
        " coalesce(sum(calls) FILTER (WHERE query ILIKE 'select%%'), 0)"
        " FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = %s",
        [_API],
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


@contextmanager
def _served() -> Iterator[tuple[Address, str, Sessions, str]]:
    """Address of the API on a PostgreSQL of its own, URL of its database, and a job of 2,000 items."""
    with ground.postgres(None) as url, ground.sessions(url) as sessions, TemporaryDirectory() as home:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            connection.execute(f"CREATE ROLE {_API} SUPERUSER LOGIN")
        job_id = ground.make_job(sessions, images=200, variants=10)
        as_api = make_url(url).set(username=_API).render_as_string(hide_password=False)
        with ground.api(as_api, Path(home)) as address:
            yield address, url, sessions, job_id


@contextmanager
def _worked_on(sessions: Sessions) -> Iterator[None]:
    """Meanwhile a worker is at it: a step and an item a second."""
    end = Event()
    thread = Thread(target=_work, args=(sessions, end), daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _work(sessions: Sessions, end: Event) -> None:
    held: list[Work] = []
    step = 0
    while not end.wait(1):
        if not held:
            with sessions.write() as session:
                held = items.claim(session, "bench", _HELD, 30, priors=[ground.PRIOR])
        step = (step + 1) % _STEPS
        with sessions.write() as session:
            items.renew(session, held[0].token, step, 30)
        work = held.pop()
        with sessions.write() as session:
            items.settle(session, work, Result(f"jobs/{work.item_id}", ground.PRIOR, 1.0, {}, {}))


@contextmanager
def _elsewhere(run: Callable[..., Any], *arguments: object) -> Iterator[Connection]:
    """A process that runs an async function with a pipe, whose other end this gives."""
    spawn = get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_run, args=(run, there, arguments), daemon=True)
    process.start()
    try:
        yield here
    finally:
        process.join(30)
        process.kill()


def _run(run: Callable[..., Any], there: Connection, arguments: tuple[object, ...]) -> None:
    there.send(asyncio.run(run(there, *arguments)))


async def _poll(
    _there: Connection, address: Address, job_id: str, clients: int, rate: float, seconds: float
) -> tuple[Counter[str], list[float], float]:
    """How often each status was answered, the seconds each answer took, and how long it took in all."""
    counts: Counter[str] = Counter()
    latencies: list[float] = []
    every = clients / rate if rate else 0.0
    begin = time.perf_counter() + 1

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        etag, due = "", begin + every * number / clients
        while due < begin + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(_request(address, f"/v1/jobs/{job_id}", f"If-None-Match: {etag}\r\n" if etag else ""))
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            await reader.readexactly(int(fields.get("content-length", 0)))
            # Since it was due, not since it was sent: who is kept waiting asks late, and has waited all the same.
            latencies.append(time.perf_counter() - due)
            counts[head.split()[1]] += 1
            etag = fields["etag"]
            due = due + every if every else time.perf_counter()
        writer.close()

    await asyncio.gather(*[client(number) for number in range(clients)])
    return counts, latencies, time.perf_counter() - begin


async def _listen(there: Connection, address: Address, job_id: str, listeners: int) -> int:
    """Listens until it is told that it is enough; returns how many events came since all had begun."""
    heard = 0
    begun = asyncio.Semaphore(0)

    async def listener() -> None:
        nonlocal heard
        reader, writer = await asyncio.open_connection(*address, limit=2**20)
        writer.write(_request(address, f"/v1/jobs/{job_id}/events", "Accept: text/event-stream\r\n"))
        await reader.readuntil(b"\n\n")
        begun.release()
        while line := await reader.readline():
            heard += line.startswith(b"event: ")

    tasks = [asyncio.create_task(listener()) for _ in range(listeners)]
    for _ in tasks:
        await begun.acquire()
    heard = 0
    there.send("all listen")
    await asyncio.to_thread(there.recv)
    told = heard
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return told


def _request(address: Address, path: str, header: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n{header}\r\n".encode()
