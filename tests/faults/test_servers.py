"""The database, the broker, the storage, and at last the whole machine fail in the middle of a job."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from fleet import Process, pool_of
from live import until
from sqlalchemy import select
from stage import SLOW, Stage, open_stage

from shared import workers
from shared.models import Worker
from shared.queue import Queue
from shared.states import ItemState, Wait

pytestmark = pytest.mark.slow


@dataclass
class Cast:
    """The stage, and who is on it: a gpu worker, a cpu worker, a sweep."""

    stage: Stage
    all: list[Process]


def enter(stage: Stage) -> list[Process]:
    return [stage.cpu(), stage.gpu("gpu"), stage.site.fleet.sweep()]


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    # What PostgreSQL has promised must be on the disk when the power goes.
    with open_stage(tmp_path_factory.mktemp("stage"), durable=True) as stage:
        made = Cast(stage, enter(stage))
        stage.prepare()
        yield made


def all_live(cast: Cast) -> bool:
    return all(process.poll() is None for process in cast.all)


def test_a_redis_that_is_killed_with_all_its_data_costs_time_only(cast: Cast) -> None:
    job, _ = cast.stage.in_the_middle()
    cast.stage.redis.kill()
    cast.stage.redis.start()
    cast.stage.check(job)
    assert all_live(cast)


def test_a_job_that_is_made_while_redis_is_away_is_done_when_it_is_back(cast: Cast) -> None:
    cast.stage.redis.kill()
    job = cast.stage.job()
    cast.stage.redis.start()
    cast.stage.check(job)
    assert all_live(cast)


def test_a_postgresql_that_is_stopped_at_once_and_started_again_costs_time_only(cast: Cast) -> None:
    job, _ = cast.stage.in_the_middle()
    cast.stage.postgres.stop_at_once()
    cast.stage.postgres.start()
    cast.stage.check(job)
    assert all_live(cast)


def while_away(stage: Stage, fail: Callable[[], object], mend: Callable[[], object], said: Wait) -> None:
    """A job's storage fails in the middle; the workers say why they wait; it is mended, and the job is done."""
    job, _ = stage.in_the_middle()
    fail()
    try:
        until(lambda: told(stage) == {Queue.GPU: said, Queue.CPU: said}, 120, f"both workers say {said}")
        until(lambda: not stage.site.at_work(job), 120, "nobody holds an item")
        assert stage.site.counts(job).get("pending", 0) > 0
        assert stage.site.counts(job).get("failed", 0) == 0
    finally:
        mend()
    stage.check(job)
    until(lambda: told(stage) == {}, 120, "the workers say that all is well")


def sign(stage: Stage, process: int) -> str | None:
    """What a worker's process says it waits for."""
    with stage.site.sessions.read() as session:
        return session.scalar(select(Worker.trouble).where(Worker.id.endswith(f":{process}")))


def told(stage: Stage) -> dict[Queue, Wait]:
    with stage.site.sessions.read() as session:
        return workers.missing(session)


@pytest.mark.parametrize(("fault", "said"), [("ENOSPC", Wait.STORAGE_LOW), ("EROFS", Wait.STORAGE_AWAY)])
def test_a_storage_that_takes_nothing_makes_work_wait_and_spends_no_attempt(cast: Cast, fault: str, said: Wait) -> None:
    stage = cast.stage
    while_away(stage, lambda: stage.orders.give(step=SLOW, storage=fault), lambda: stage.orders.give(step=SLOW), said)


def test_a_storage_folder_that_is_away_for_a_while_is_not_made_anew_and_spends_no_attempt(cast: Cast) -> None:
    stage, root = cast.stage, cast.stage.site.storage.root
    elsewhere = root.with_name("elsewhere")

    def back() -> None:
        # Neither those who knew the folder nor a new process makes an empty one in its place.
        _, gpu, _ = cast.all
        (old,) = pool_of(gpu)
        old.kill()
        until(
            lambda: any(sign(stage, child.pid) == Wait.STORAGE_AWAY for child in pool_of(gpu) if child != old),
            120,
            "a new child says so",
        )
        assert not root.exists()
        elsewhere.rename(root)

    while_away(stage, lambda: root.rename(elsewhere), back, Wait.STORAGE_AWAY)


def test_a_machine_that_loses_power_goes_on_where_it_was(cast: Cast) -> None:
    stage = cast.stage
    job, _ = stage.in_the_middle()
    for process in list(cast.all):
        stage.site.fleet.kill(process)
    stage.redis.kill()
    stage.postgres.kill()
    stage.postgres.start()
    before = {item.id: item.result_key for item in stage.site.items(job) if item.state == ItemState.DONE}
    assert before
    stage.redis.start()
    cast.all = enter(stage)
    stage.check(job)
    after = {item.id: item.result_key for item in stage.site.items(job)}
    assert {key: after[key] for key in before} == before, "what was done was made again"
