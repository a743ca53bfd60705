"""Claims and settles: how many a second, and how long one claim takes among a million items."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import delete, event, func, select, text

import migrations
from benchmarks import ground
from benchmarks.tables import table
from shared import items
from shared.db import Sessions
from shared.items import Result
from shared.models import Item, Job

_LEASE = 30.0


def queue(count: int, workers: int, batch: int, database: str | None) -> None:
    """Processes that claim and settle, and do nothing in between, until all items are done."""
    spawn = get_context("spawn")
    with ground.postgres(database) as url, ground.sessions(url) as sessions:
        images = min(count, 1000)
        ground.make_job(sessions, images, -(-count // images))
        barrier = spawn.Barrier(workers + 1)
        running = [spawn.Process(target=_work, args=(url, f"w{number}", batch, barrier)) for number in range(workers)]
        for process in running:
            process.start()
        barrier.wait(120)
        started = time.perf_counter()
        for process in running:
            process.join()
        wall = time.perf_counter() - started
        with sessions.read() as session:
            done = session.scalar(select(func.count()).where(Item.state == "done")) or 0
            lapses = session.scalar(select(func.sum(Item.lapses))) or 0
    table(
        ("workers", "items", "a claim", "s", "settled a second", "left or lost"),
        [(workers, done, batch, f"{wall:.1f}", f"{done / wall:.0f}", images * -(-count // images) - done + lapses)],
    )


def claim(rows: int, jobs: int, claims: int, database: str | None) -> None:
    """How long a claim takes on PostgreSQL and on SQLite, and the plans of its statements."""
    with ground.postgres(database) as url:
        _claims("PostgreSQL", url, rows, jobs, claims, "EXPLAIN ")
    with TemporaryDirectory(prefix="regrow-bench-") as home:
        _claims("SQLite", f"sqlite:///{Path(home) / 'regrow.db'}", rows, jobs, claims, "EXPLAIN QUERY PLAN ")


def _work(url: str, name: str, batch: int, barrier: Barrier) -> None:
    with ground.sessions(url) as sessions:
        with sessions.read() as session:
            session.execute(select(Item.id).limit(1))
        barrier.wait(120)
        while True:
            with sessions.write() as session:
                works = items.claim(session, name, batch, _LEASE, priors=[ground.PRIOR])
            if not works:
                return
            for work in works:
                with sessions.write() as session:
                    items.settle(session, work, Result(f"jobs/{work.item_id}", ground.PRIOR, 1.0, {}, {}))


def _claims(name: str, url: str, rows: int, jobs: int, claims: int, explain: str) -> None:
    with ground.sessions(url) as sessions:
        migrations.upgrade(sessions.engine)
        total = _fill(sessions, rows, jobs)
        _claim(sessions, 1)
        lines = []
        for batch in (1, 16):
            with _timed(sessions) as spent:
                measured = [(_claim(sessions, batch), spent.pop()) for _ in range(claims)]
            whole, inside = zip(*measured, strict=True)
            figures = [f"{ground.share(part, p) * 1e3:.2f}" for part in (whole, inside) for p in (0.5, 0.99)]
            lines.append((name, f"{total:,}", jobs, batch, *figures))
        header = ("database", "item rows", "jobs", "a claim", "p50 ms", "p99 ms", "statements p50", "statements p99")
        table(header, lines)
        _print_plans(sessions, explain)


def _claim(sessions: Sessions, batch: int) -> float:
    started = time.perf_counter()
    with sessions.write() as session:
        works = items.claim(session, "bench", batch, _LEASE, priors=[ground.PRIOR])
    seconds = time.perf_counter() - started
    if len(works) != batch:
        raise RuntimeError(f"{len(works)} items were claimed, not {batch}")
    return seconds


@contextmanager
def _timed(sessions: Sessions) -> Iterator[list[float]]:
    """The seconds that statements took in the database, the driver included, for each transaction since."""
    spent: list[float] = []
    running: list[float] = []

    def before(*_: Any) -> None:
        running.append(-time.perf_counter())

    def after(*_: Any) -> None:
        running[-1] += time.perf_counter()

    def ended(_connection: Any) -> None:
        spent.append(sum(running))
        running.clear()

    listeners = (("before_cursor_execute", before), ("after_cursor_execute", after), ("commit", ended))
    for name, listener in listeners:
        event.listen(sessions.engine, name, listener)
    yield spent
    for name, listener in listeners:
        event.remove(sessions.engine, name, listener)


def _fill(sessions: Sessions, rows: int, jobs: int) -> int:
    """So many items in so many jobs, the first half of each image's variants done; returns how many there are."""
    images = 1000
    variants = -(-rows // (jobs * images))
    first = ground.make_job(sessions, images, 1)
    if sessions.engine.dialect.name == "postgresql":
        numbers = f"generate_series(1, {variants}) AS variant(n)"
    else:
        counted = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {}) SELECT n FROM c"
        numbers = f"({counted.format(variants)}) AS variant"
    with sessions.write() as session:
        session.execute(delete(Item))
        job = session.get_one(Job, first)
        copied = {name: getattr(job, name) for name in ("owner", "dataset_id", "name", "spec", "resolved")}
        session.add_all(Job(**copied) for _ in range(jobs - 1))
        session.flush()
        session.execute(
            text(
                "INSERT INTO item (job_id, image_id, variant, seed, work_key, state, settled_at)"  # noqa: S608
                " SELECT job.id, image.id, variant.n, 1, job.id || '-' || image.id || '-' || variant.n,"
                f" CASE WHEN variant.n <= {variants // 2} THEN 'done' ELSE 'pending' END,"
                f" CASE WHEN variant.n <= {variants // 2} THEN 1.0 END FROM job, image, {numbers}"
            )
        )
    # What a server does by itself before long.
    with sessions.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
    return jobs * images * variants


def _print_plans(sessions: Sessions, explain: str) -> None:
    """The plans of what a claim asks, as the database would carry it out now."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(sessions.engine, "before_cursor_execute", note)
    _claim(sessions, 16)
    event.remove(sessions.engine, "before_cursor_execute", note)
    for statement, parameters in asked:
        if statement.startswith(("SELECT job.id, job.priority", "WITH", "UPDATE item")):
            print("\n" + " ".join(statement.split())[:100] + " ...")
            for line in _plan(sessions, explain + statement, parameters):
                print("    " + line)
    print()


def _plan(sessions: Sessions, statement: str, parameters: Any) -> Sequence[str]:
    with sessions.engine.connect() as connection:
        return [str(row[-1]) for row in connection.exec_driver_sql(statement, parameters)]
