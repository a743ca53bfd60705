"""One batch is settled while the next is sampled; whatever happens meanwhile, nothing is lost and nothing is twice."""

import dataclasses
import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from expanding import items, run, with_prior
from live import until
from sqlalchemy import func, select, update
from torch.nn.functional import avg_pool2d, interpolate

from shared import items as life
from shared import jobs
from shared.models import Archive, Item, Job
from shared.queue import Task
from shared.states import ItemState
from shared.storage import Folder
from worker import overlap, tasks
from worker.main import Bench
from worker.studio import Studio

MakeJob = Callable[..., Job]
PATIENCE = 30


class Sampler:
    """A prior that costs nothing; `on_item` is called with the number of each item when its sampling begins, and
    `on_step` before each step."""

    def __init__(
        self, on_item: Callable[[int], None] = lambda _: None, on_step: Callable[[], None] = lambda: None
    ) -> None:
        self.steps = 0
        self.begun = 0
        self._last = torch.tensor(0)
        self._on_item, self._on_step = on_item, on_step

    def eps(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if t[0] >= self._last:
            self.begun += 1
            self._on_item(self.begun)
        self._last = t[0]
        self.steps += 1
        self._on_step()
        return z * 0

    def into(self, studio: Studio) -> Studio:
        return with_prior(
            studio,
            eps=self.eps,
            encode=lambda x: avg_pool2d(x, 8),
            decode=lambda z: interpolate(z, scale_factor=8),
            latent_shape=lambda height, width: (3, height // 8, width // 8),
        )


def storing(studio: Studio, write: Callable[[str], None], after: Callable[[str], None] = lambda _: None) -> Studio:
    """Its storage calls `write` with the key before it stores a new image, and `after` when it has."""

    class Watched(Folder):
        def write(self, key: str, data: bytes) -> None:
            write(key)
            super().write(key, data)
            after(key)

    return dataclasses.replace(studio, storage=Watched(studio.storage.root))


def states(studio: Studio) -> list[ItemState]:
    return [item.state for item in items(studio)]


def untouched(studio: Studio) -> bool:
    """Whether nothing counts against any item."""
    return all((item.attempts, item.lapses) == (0, 0) for item in items(studio))


def files(studio: Studio) -> list[str]:
    return sorted(str(path.relative_to(studio.storage.root)) for path in studio.storage.root.glob("jobs/**/*.*"))


def keys(studio: Studio) -> list[str]:
    return sorted(item.result_key for item in items(studio) if item.result_key)


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE)


def test_the_first_image_is_stored_while_the_second_is_sampled(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1)
    second = threading.Event()
    sampler = Sampler(lambda number: second.set() if number == 2 else None)
    run(storing(sampler.into(studio), lambda _: wait_for(second)))
    assert states(studio) == [ItemState.DONE] * 3
    assert untouched(studio), "the second waited for the first"
    assert files(studio) == keys(studio)


def test_while_a_batch_is_not_settled_no_third_is_claimed(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1)
    held: list[int] = []

    def slow(_key: str) -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end and len(held) < 3:
            held.append(states(studio).count(ItemState.RUNNING))
            held[:] = [max(held)]
            time.sleep(0.01)

    run(storing(Sampler().into(studio), slow))
    assert held == [2]
    assert states(studio) == [ItemState.DONE] * 3


def test_an_image_that_cannot_be_stored_fails_its_item_though_it_was_the_last(
    studio: Studio, make_job: MakeJob
) -> None:
    make_job(variants=1)
    culprit = items(studio)[-1].id

    def broken(key: str) -> None:
        if f"/{culprit}-" in key:
            time.sleep(0.2)
            raise RuntimeError("this one")

    run(storing(Sampler().into(studio), broken))
    assert states(studio) == [ItemState.DONE, ItemState.DONE, ItemState.FAILED]
    failed = items(studio)[-1]
    assert (failed.attempts, failed.error) == (3, {"type": "unexpected", "detail": "RuntimeError: this one"})


def test_a_disk_that_fills_up_while_the_next_is_sampled_holds_both_back(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, sampler={"steps": 200, "finish": 0})
    second, refused = threading.Event(), list[int]()
    sampler = Sampler(
        lambda number: second.set() if number == 2 else None, lambda: time.sleep(0.05) if second.is_set() else None
    )

    def full(_key: str) -> None:
        wait_for(second)
        refused.append(1)
        if len(refused) < 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run(storing(sampler.into(studio), full))
    assert sampler.steps < 300, "the second was sampled to its end"
    assert states(studio) == [ItemState.PENDING] * 3
    assert untouched(studio)
    run(Sampler().into(studio))
    assert states(studio) == [ItemState.DONE] * 3


def test_who_is_told_to_end_settles_what_was_sampled_and_hands_the_rest_back(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1)
    storing_it, told = threading.Event(), threading.Event()

    def end_in_the_second(number: int) -> None:
        if number == 2:
            wait_for(storing_it)
            told.set()
            raise SystemExit

    def write(_key: str) -> None:
        storing_it.set()
        wait_for(told)
        time.sleep(0.1)

    with pytest.raises(SystemExit):
        run(storing(Sampler(end_in_the_second).into(studio), write))
    assert states(studio) == [ItemState.DONE, ItemState.PENDING, ItemState.PENDING]
    assert untouched(studio)
    assert [item.lease_until for item in items(studio)] == [None] * 3
    assert files(studio) == keys(studio)


def test_who_is_told_to_end_does_not_wait_for_ever_for_a_disk(
    studio: Studio, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(variants=1)
    monkeypatch.setattr(overlap, "LAST_WORD", 0.1)
    free = threading.Event()

    def end_in_the_second(number: int) -> None:
        if number == 2:
            raise SystemExit

    stored: list[str] = []
    with pytest.raises(SystemExit):
        run(storing(Sampler(end_in_the_second).into(studio), lambda _: wait_for(free), stored.append))
    assert states(studio) == [ItemState.PENDING] * 3
    assert untouched(studio)
    free.set()
    until(lambda: bool(stored) and not files(studio), PATIENCE, "the file of the late image is gone")
    assert states(studio) == [ItemState.PENDING] * 3


def test_sigterm_while_the_last_image_is_stored_lets_it_be_stored(
    studio: Studio, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(variants=1, max_images=1)

    def end(_signal: int, _frame: Any) -> None:
        raise SystemExit

    def write(_key: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(SystemExit):
            run(storing(Sampler().into(studio), write))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert states(studio) == [ItemState.DONE]


def test_a_lease_that_is_lost_while_its_image_is_stored_leaves_no_file(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1)
    stolen: list[str] = []

    def steal(key: str) -> None:
        if not stolen:
            stolen.append(key)
            with studio.sessions.write() as session:
                life.hand_back(session, key.rpartition("-")[2].partition(".")[0])

    run(storing(Sampler().into(studio), lambda _: None, steal))
    assert states(studio) == [ItemState.DONE] * 3
    assert stolen[0] not in files(studio)
    assert files(studio) == keys(studio)


def test_a_lease_is_renewed_until_its_image_is_stored(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, max_images=1)

    def lease() -> float:
        return items(studio)[0].lease_until or 0.0

    def write(_key: str) -> None:
        for _ in range(5):
            before = lease()
            until(lambda before=before: lease() > before, PATIENCE, "the lease is renewed")

    soon = studio.settings.model_copy(update={"renew_seconds": 0.02})
    run(storing(Sampler().into(dataclasses.replace(studio, settings=soon)), write))
    assert states(studio) == [ItemState.DONE]


def test_a_job_is_concluded_when_its_last_image_is_settled_and_not_when_the_next_jobs_is_sampled(
    studio: Studio, make_job: MakeJob
) -> None:
    ids = [make_job(variants=1, max_images=1).id for _ in range(2)]
    finished: list[str] = []

    def conclude() -> None:
        with studio.sessions.write() as session:
            finished.extend(jobs.conclude(session))

    def on_item(number: int) -> None:
        if number == 2:
            until(lambda: finished == ids[:1], PATIENCE, "the first job is concluded")

    run(Sampler(on_item).into(studio), conclude)
    assert finished == ids


def test_the_task_ends_when_all_is_settled_and_has_the_archive_built(
    studio: Studio, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(variants=1)
    slow = storing(Sampler().into(studio), lambda _: time.sleep(0.1))
    sent: list[Task] = []
    bench = Bench(slow.settings, slow.sessions, slow.storage, sent.append, slow.name)
    monkeypatch.setattr(tasks, "bench", lambda: bench)
    monkeypatch.setattr(tasks, "studio", lambda: slow)
    tasks.expand()
    assert states(studio) == [ItemState.DONE] * 3
    assert sent.count(Task.ARCHIVE) == 1
    with studio.sessions.read() as session:
        assert session.scalar(select(func.count()).select_from(Archive)) == 1


def test_while_an_item_that_outlived_a_worker_is_made_nothing_else_is_held(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1)
    with studio.sessions.write() as session:
        session.execute(update(Item).where(Item.id != items(studio)[0].id).values(lapses=1))
    held: list[int] = []
    sampler = Sampler(lambda _: held.append(states(studio).count(ItemState.RUNNING)))
    run(storing(sampler.into(studio), lambda _: time.sleep(0.2)))
    assert held == [1, 1, 1]
    assert states(studio) == [ItemState.DONE] * 3


def test_when_the_device_fails_what_was_sampled_before_is_settled_before_the_process_ends(
    studio: Studio, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(variants=1)
    at_the_end: list[ItemState] = []

    class Ended(BaseException):
        pass

    def exit_(_code: int) -> None:
        at_the_end.extend(states(studio))
        raise Ended

    def broken(number: int) -> None:
        if number == 2:
            raise torch.AcceleratorError("CUDA error: an illegal memory access, says the test")

    monkeypatch.setattr(os, "_exit", exit_)
    with pytest.raises(Ended):
        run(storing(Sampler(broken).into(studio), lambda _: time.sleep(0.2)))
    assert at_the_end == [ItemState.DONE, ItemState.RUNNING, ItemState.PENDING]
