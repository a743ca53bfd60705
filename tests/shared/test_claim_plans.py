"""What is asked for each item reads the few rows that are live, however many are done."""

from typing import Any

from sqlalchemy import event, text, update

from shared import datasets, items, jobs
from shared.datasets import Contents, NewImage
from shared.db import Sessions, now
from shared.models import Dataset, Item, Prior
from shared.spec import ExpansionSpec

PRIOR = Prior(name="builtin", sha256="p" * 64, native_size=128, multiple=16, size=1, card="")


def image(number: int) -> NewImage:
    return NewImage(
        path=f"images/train/{number}.png",
        split="train",
        sha256=f"{number:064}",
        format="PNG",
        mode="L",
        width=100,
        height=80,
        size=1000,
        boxes=[[0, 0.1, 0.1, 0.2, 0.2]],
        label_path=f"labels/train/{number}.txt",
        label=b"0 .15 .15 .1 .1\n",
        label_sha256="l" * 64,
    )


def add_jobs(sessions: Sessions) -> None:
    """A job of 3,000 items of which nearly all are done, and a younger one of which nothing is."""
    with sessions.write() as session:
        session.add(dataset := Dataset(owner="local", name="set"))
        session.flush()
        claim = datasets.claim(session, 30)
        assert claim is not None
        contents = Contents("yolo", "images/{split}", None, ("a",), ("train",), (), 255, list(map(image, range(30))))
        assert datasets.accept(session, claim, contents)
    spec = ExpansionSpec(dataset_id=dataset.id, variants=100, reuse=False)
    with sessions.write() as session:
        older = jobs.create(session, "local", spec, PRIOR, 3000)
        jobs.create(session, "local", spec, PRIOR, 3000)
        most = (Item.job_id == older.id) & (Item.variant < 100)
        session.execute(update(Item).where(most).values(state="done", settled_at=now()))
    with sessions.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))


def test_what_is_asked_for_each_item_looks_at_live_items_only(sessions: Sessions) -> None:
    add_jobs(sessions)
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        # The last of a claim reads what it took by its ids.
        if " item.state IN " in statement:
            asked.append((statement, parameters))

    event.listen(sessions.engine, "before_cursor_execute", note)
    for owner_turn in range(2):
        with sessions.write() as session:
            assert len(items.claim(session, f"w{owner_turn}", 4, 30, priors=[PRIOR.sha256])) == 4
    with sessions.write() as session:
        assert items.waiting(session)
        assert jobs.conclude(session) == []
    event.remove(sessions.engine, "before_cursor_execute", note)
    assert len(asked) == 6
    explain = "EXPLAIN QUERY PLAN " if sessions.engine.dialect.name == "sqlite" else "EXPLAIN "
    with sessions.engine.connect() as connection:
        for statement, parameters in asked:
            plan = "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters))
            assert "ix_item_live" in plan, f"{statement}\n{plan}"
