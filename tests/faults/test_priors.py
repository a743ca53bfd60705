"""Sampling itself goes wrong on one item, and all others are done as if it had not."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import until
from sqlalchemy import update
from stage import SLOW, Stage, gone, process_of

from shared.leases import MAX_LAPSES
from shared.models import Item
from shared.states import ItemState

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def playing(stage: Stage) -> Iterator[Stage]:
    """Two gpu workers, a cpu worker and a sweep are on the stage."""
    fleet = stage.site.fleet
    fleet.env["REGROW_HANG_SECONDS"] = "4"
    stage.cpu()
    fleet.sweep()
    for name in ("one", "two"):
        stage.gpu(name)
    stage.prepare()
    until(lambda: stage.site.gpu_workers() == 2, 180, "both gpu workers are up")
    return stage


@pytest.fixture(autouse=True)
def _mended(stage: Stage) -> Iterator[None]:
    yield
    stage.orders.give(step=SLOW)


def test_items_that_cannot_be_made_fail_alone_and_each_says_why(playing: Stage) -> None:
    stage = playing
    full, nan, kill = 0, 2, 4
    faults = {stage.seeds[full]: "full", stage.seeds[nan]: "nan", stage.seeds[kill]: "kill"}
    stage.orders.give(step=SLOW, faults=faults)
    job = stage.job()
    # As if it had ended so many processes before: each takes a worker seconds to replace.
    set_lapses(stage, job, stage.seeds[kill], MAX_LAPSES - 2)
    stage.check(
        job,
        {
            stage.keys[full]: "out_of_memory",
            stage.keys[nan]: "numerical_fault",
            stage.keys[kill]: "worker_lost",
        },
    )
    items = stage.site.items(job)
    assert [(items[number].attempts, items[number].lapses) for number in (full, nan, kill)] == [
        (1, 0),
        (1, 0),
        (0, MAX_LAPSES),
    ]


def test_a_device_that_breaks_down_ends_its_process_and_another_makes_the_item(playing: Stage) -> None:
    ends_a_process(playing, "broken")


def test_a_sampler_that_hangs_ends_its_process_and_another_makes_the_item(playing: Stage) -> None:
    ends_a_process(playing, "hang")


def test_who_settles_after_the_lease_lapsed_leaves_nothing_behind(playing: Stage) -> None:
    stage = playing
    stage.orders.give(step=SLOW, dawdle=True)
    job = stage.job()
    until(lambda: stage.orders.dawdler.exists() and bool(stage.orders.dawdler.read_text()), 180, "one dawdles")
    dawdler = int(stage.orders.dawdler.read_text())
    os.kill(dawdler, signal.SIGSTOP)
    try:
        # It holds a second one, which it samples meanwhile.
        held = [
            each for each in stage.site.items(job) if each.state == ItemState.RUNNING and process_of(each) == dawdler
        ]
        stale = {each.id: path for each in held for path in folder(stage, job).glob(f"{each.id}-{each.token}.*")}
        assert len(stale) == 1
        ((late, file),) = stale.items()
        until(lambda: state(stage, late, job) == ItemState.DONE, 240, "another has made the item")
    finally:
        stage.orders.give(step=SLOW)
        os.kill(dawdler, signal.SIGCONT)
    until(lambda: not file.exists(), 60, "the late one's file is gone")
    stage.check(job)
    kept = {item.result_key for item in stage.site.items(job)}

    def others_are_gone() -> bool:
        return {f"jobs/{job}/items/{path.name}" for path in folder(stage, job).iterdir()} == kept

    until(others_are_gone, 60, "nothing lies beside the images that were kept")


def test_a_batch_that_does_not_fit_the_memory_is_halved_until_it_does(playing: Stage) -> None:
    stage = playing
    for process in [each for each in stage.site.fleet.running if "gpu" in each.args]:
        stage.site.fleet.ask_to_end(process)
    stage.orders.give(step=SLOW, faults=dict.fromkeys(stage.seeds, "crowded"))
    job = stage.job()
    stage.gpu("batched", FAULTY_BATCH="4")
    stage.check(job)
    log = (stage.site.fleet.data / "batched.log").read_text()
    assert "a batch of 4 is made 2 by 2" in log
    assert log.count("a batch of 2 is made 1 by 1") == 2
    assert len(re.findall("a batch of . is made", log)) == 3, "the next batch was as large again"


def ends_a_process(stage: Stage, fault: str) -> None:
    """A job whose first item does what is said until that ended its process."""
    stage.orders.give(step=SLOW, faults={stage.seeds[0]: fault})
    job = stage.job()
    until(lambda: bool(stage.site.items(job)[0].worker), 240, "a worker has the item")
    process = process_of(stage.site.items(job)[0])
    until(lambda: gone(process), 240, "the process has ended")
    stage.orders.give(step=SLOW)
    stage.check(job)
    assert stage.site.items(job)[0].lapses > 0


def set_lapses(stage: Stage, job: str, seed: int, lapses: int) -> None:
    with stage.site.sessions.write() as session:
        session.execute(update(Item).where(Item.job_id == job, Item.seed == seed).values(lapses=lapses))


def state(stage: Stage, item_id: int, job: str) -> ItemState:
    return next(item.state for item in stage.site.items(job) if item.id == item_id)


def folder(stage: Stage, job: str) -> Path:
    return stage.site.storage.path(f"jobs/{job}/items")
