"""The installation in numbers."""

from typing import Any

import pytest
from rows import Make, add_dataset, cancel, claim, new_image, settle
from sqlalchemy import event, text, update

from shared import census, jobs, workers
from shared.db import Sessions, now
from shared.figures import Meter
from shared.models import Dataset, Item, Job
from shared.states import ItemState, Wait


def count(sessions: Sessions) -> census.Census:
    with sessions.read() as session:
        return census.take(session)


def test_an_empty_installation_has_nothing(sessions: Sessions) -> None:
    found = count(sessions)
    assert set(found.items) == set(ItemState)
    assert sum(found.items.values()) == sum(found.waiting.values()) == found.open_jobs == found.oldest_waiting == 0
    assert found.workers == ()


def test_items_are_counted_by_state_and_what_waits_by_kind(sessions: Sessions, make_job: Make) -> None:
    make_job(images=3, variants=2)
    done, *_ = claim(sessions, 2)
    assert settle(sessions, done)
    paused = make_job(images=1, variants=5)
    cancelled = make_job(images=1, variants=4)
    cancel(sessions, cancelled)
    with sessions.write() as session:
        jobs.pause(session, session.get_one(Job, paused))
        session.add(Dataset(owner="local", name="new"))
    found = count(sessions)
    assert found.items == {"pending": 9, "running": 1, "done": 1, "failed": 0, "cancelled": 4}
    # Neither those of a paused job nor a cancelled one's.
    assert found.waiting == {"items": 4, "datasets": 1, "archives": 0, "trainings": 0, "fetches": 0, "webhooks": 0}
    assert found.open_jobs == 2


def test_the_job_that_waits_longest_is_the_one_nobody_came_back_to(sessions: Sessions, make_job: Make) -> None:
    first, second = make_job(), make_job()
    with sessions.write() as session:
        session.execute(update(Job).where(Job.id == first).values(created_at=now() - 1000, claimed_at=now() - 50))
        session.execute(update(Job).where(Job.id == second).values(created_at=now() - 300))
    assert 300 <= count(sessions).oldest_waiting < 400
    with sessions.write() as session:
        jobs.pause(session, session.get_one(Job, second))
    assert 50 <= count(sessions).oldest_waiting < 150


def test_workers_are_there_with_their_figures_and_the_sweep_is_none_of_a_queue(sessions: Sessions) -> None:
    meter = Meter()
    meter.lapsed("items", 2)
    with sessions.write() as session:
        workers.seen(session, "w:1", "gpu", "cuda:0, NVIDIA H100", Wait.STORAGE_LOW)
        workers.seen(session, "sweep@w:2", "", "", figures=meter.read())
        workers.seen(session, "gone:3", "cpu", "cpu")
        session.flush()
        session.get_one(workers.Worker, "gone:3").seen_at -= workers.ALIVE_FOR + 1
    sweep, gpu = count(sessions).workers
    assert (gpu.name, gpu.queues, gpu.trouble, gpu.figures.steps) == ("w:1", ("gpu",), "storage_low", 0)
    assert (sweep.queues, sweep.figures.lapses) == ((), {"items": 2})
    with sessions.read() as session:
        assert workers.missing(session) == {"cpu": Wait.NO_WORKER, "gpu": Wait.STORAGE_LOW}


def test_counting_reads_indexes_and_no_items(sessions: Sessions) -> None:
    with sessions.write() as session:
        dataset_id = add_dataset(session, *(new_image(str(number)) for number in range(200)))
        session.add(job := Job(owner="local", dataset_id=dataset_id, name="", spec={}, resolved={"engine": "2"}))
        session.flush()
        images = session.execute(text("SELECT id FROM image")).scalars().all()
        rows = [
            {"job_id": job.id, "image_id": image, "variant": variant, "seed": 1, "work_key": "k" * 64, "state": "done"}
            for image in images
            for variant in range(50)
        ]
        session.execute(Item.__table__.insert(), rows)  # type: ignore[attr-defined]
    with sessions.engine.connect() as connection:
        # PostgreSQL reads an index alone where it knows that all see the rows.
        statement = "ANALYZE" if connection.dialect.name == "sqlite" else "VACUUM ANALYZE"
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(statement))
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "FROM item" in statement:
            asked.append((statement, parameters))

    event.listen(sessions.engine, "before_cursor_execute", note)
    assert count(sessions).items["done"] == 10_000
    event.remove(sessions.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if sessions.engine.dialect.name == "sqlite" else "EXPLAIN "
    assert len(asked) >= 3
    with sessions.engine.connect() as connection:
        for statement, parameters in asked:
            plan = "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters))
            used = "ix_item_settled" if "'done'" in statement else "ix_item_live"
            assert used in plan, f"{statement}\n{plan}"
            assert "Seq Scan on item" not in plan
            if "'done'" in statement:
                only = "USING COVERING INDEX" if sessions.engine.dialect.name == "sqlite" else "Index Only Scan"
                assert only in plan, plan


@pytest.mark.parametrize("figures", [{}, {"made": 3, "news": "of a newer version"}])
def test_a_worker_of_another_version_is_counted(sessions: Sessions, figures: dict[str, Any]) -> None:
    with sessions.write() as session:
        workers.seen(session, "w:1", "gpu", "cpu", figures=figures)
    assert count(sessions).workers[0].figures.made == figures.get("made", 0)
