"""The life of a job, on SQLite and on PostgreSQL."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
from rows import PRIOR, Make, add_dataset, cancel, claim, counts, expire, new_image, result, settle
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared import archives, items, jobs
from shared.db import Sessions
from shared.errors import Conflict, Invalid, KeyReused, NotFound
from shared.models import Archive, Dataset, Image, Item, Job, Trash
from shared.spec import ENGINE_VERSION, ExpansionSpec
from shared.states import ArchiveState, ItemState, JobState, job_state
from shared.storage import source_key


def test_a_job_has_an_item_for_each_labelled_image_and_variant(sessions: Sessions) -> None:
    with sessions.write() as session:
        images = [new_image("1"), new_image("2"), new_image("3", boxes=0), new_image("4", split="valid")]
        spec = ExpansionSpec(dataset_id=add_dataset(session, *images), variants=3)
        job = jobs.create(session, "local", spec, PRIOR, 100)
        items = session.scalars(select(Item).where(Item.job_id == job.id)).all()
        assert {(item.image.path, item.variant) for item in items} == {
            (f"images/train/{n}.png", variant) for n in "12" for variant in (1, 2, 3)
        }
        assert len({item.seed for item in items}) == len({item.work_key for item in items}) == 6
        assert job.warnings == ["1 images without a label are not expanded."]


def test_the_same_request_gives_the_same_seeds_and_work_keys_in_another_dataset(sessions: Sessions) -> None:
    keys = []
    with sessions.write() as session:
        for order in ("123", "321"):
            spec = ExpansionSpec(dataset_id=add_dataset(session, *map(new_image, order)))
            job = jobs.create(session, "local", spec, PRIOR, 100)
            rows = session.scalars(select(Item).where(Item.job_id == job.id))
            keys.append({(row.image.path, row.variant, row.seed, row.work_key) for row in rows})
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"sampler": {"steps": 7}}, {"blend": "none"}, {"operator": {"mask": {"sigma": 0.5}}}]
)
def test_what_changes_pixels_changes_the_work_key(
    sessions: Sessions, make_job: Make, change: dict[str, object]
) -> None:
    ids = make_job(1, 1), make_job(1, 1, **change)
    with sessions.read() as session:
        keys = [session.scalar(select(Item.work_key).where(Item.job_id == job_id)) for job_id in ids]
    assert keys[0] != keys[1]


def test_a_split_that_is_not_there_is_refused_naming_those_that_are(make_job: Make) -> None:
    with pytest.raises(Invalid, match=r"no split 'nope'. It has: train"):
        make_job(splits=["nope"])


def test_a_job_without_an_item_is_refused(sessions: Sessions) -> None:
    with sessions.write() as session:
        spec = ExpansionSpec(dataset_id=add_dataset(session, new_image("1", boxes=0)))
        with pytest.raises(Invalid, match="nothing to expand"):
            jobs.create(session, "local", spec, PRIOR, 100)


def test_another_owners_dataset_is_not_found(sessions: Sessions) -> None:
    with sessions.write() as session:
        spec = ExpansionSpec(dataset_id=add_dataset(session, new_image("1"), owner="somebody"))
        with pytest.raises(NotFound):
            jobs.create(session, "local", spec, PRIOR, 100)


def test_a_dataset_still_being_checked_is_a_conflict(sessions: Sessions) -> None:
    with sessions.write() as session:
        dataset = Dataset(owner="local", name="set")
        session.add(dataset)
        session.flush()
        with pytest.raises(Conflict, match="still being checked"):
            jobs.create(session, "local", ExpansionSpec(dataset_id=dataset.id), PRIOR, 100)


def test_a_canvas_that_does_not_fit_the_prior_is_refused(make_job: Make) -> None:
    with pytest.raises(Invalid, match="multiple of 16"):
        make_job(canvas={"long_side": 100})


def test_a_job_is_concluded_once_and_then_its_archive_waits(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(1, 2)
    first, second = claim(sessions, 2)
    settle(sessions, first)
    for expected in ([], [job_id], []):
        with sessions.write() as session:
            assert jobs.conclude(session) == expected
        settle(sessions, second)
    with sessions.write() as session:
        assert session.scalar(select(func.count()).select_from(Archive)) == 1
        built = archives.claim(session, 30)
        assert built is not None
        assert archives.claim(session, 30) is None
        assert archives.settle(session, built, key="k", sha256="s", size=5)
        assert not archives.settle(session, built, key="k", sha256="s", size=5)
        assert not archives.waiting(session)


def test_a_job_of_failures_has_no_archive(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(1, 1)
    (work,) = claim(sessions)
    with sessions.write() as session:
        items.fail(session, work, "odd", "it raised", final=True)
    with sessions.write() as session:
        assert jobs.conclude(session) == [job_id]
        assert session.get(Archive, job_id) is None


def test_cancelling_ends_what_waits_and_tells_who_works(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(3, 1)
    (work,) = claim(sessions)
    assert cancel(sessions, job_id) == cancel(sessions, job_id) == []
    assert counts(sessions, job_id) == {ItemState.RUNNING: 1, ItemState.CANCELLED: 2}
    with sessions.write() as session:
        assert not items.renew(session, work.token, 1, 30)
        items.hand_back(session, work.token)
    assert claim(sessions) == []
    assert cancel(sessions, job_id) == [job_id]
    assert counts(sessions, job_id) == {ItemState.CANCELLED: 3}


@pytest.mark.parametrize("how", ["fails", "lapses"])
def test_an_item_of_a_cancelled_job_is_not_left_pending(sessions: Sessions, make_job: Make, how: str) -> None:
    job_id = make_job(1, 1)
    (work,) = claim(sessions)
    cancel(sessions, job_id)
    if how == "lapses":
        expire(sessions)
    with sessions.write() as session:
        if how == "lapses":
            items.sweep(session)
        else:
            items.fail(session, work, "odd", "it raised", final=False)
    with sessions.write() as session:
        assert jobs.conclude(session) == [job_id]
    assert counts(sessions, job_id) == {ItemState.CANCELLED: 1}


def test_cancelling_and_claiming_at_once_never_lock_each_other_out(sessions: Sessions, make_job: Make) -> None:
    for _ in range(5):
        job_id = make_job(4, 3)
        with ThreadPoolExecutor(4) as pool:
            claims = [pool.submit(claim, sessions, 2) for _ in range(6)]
            pool.submit(cancel, sessions, job_id).result()
            works = [work for one in claims for work in one.result()]
        for token in {work.token for work in works}:
            with sessions.write() as session:
                items.hand_back(session, token)
        cancel(sessions, job_id)
        assert counts(sessions, job_id) == {ItemState.CANCELLED: 12}


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({ItemState.PENDING: 3}, JobState.QUEUED),
        ({ItemState.PENDING: 2, ItemState.DONE: 1}, JobState.RUNNING),
        ({ItemState.RUNNING: 1}, JobState.RUNNING),
        ({ItemState.DONE: 3}, JobState.SUCCEEDED),
        ({ItemState.DONE: 2, ItemState.FAILED: 1}, JobState.COMPLETED_WITH_ERRORS),
        ({ItemState.FAILED: 3}, JobState.FAILED),
        ({ItemState.DONE: 2, ItemState.CANCELLED: 1}, JobState.CANCELLED),
    ],
)
def test_a_jobs_state_follows_from_its_items(given: dict[ItemState, int], state: JobState) -> None:
    assert job_state(given, paused=False, cancel_requested=False) == state


def tell(sessions: Sessions, job_id: str, what: Callable[[Session, Job], object]) -> JobState:
    """Have a job told something, twice, since that is to do no more than once; returns its state."""
    for _ in range(2):
        with sessions.write() as session:
            what(session, session.get_one(Job, job_id))
        with sessions.write() as session:
            jobs.conclude(session)
    with sessions.read() as session:
        job = session.get_one(Job, job_id)
        paused, cancelled = job.paused_at is not None, job.cancelled_at is not None
        return job_state(items.counts(session, job_id), paused=paused, cancel_requested=cancelled)


def finish(sessions: Sessions, job_id: str) -> None:
    while batch := claim(sessions, 10):
        for work in batch:
            assert settle(sessions, work)
    with sessions.write() as session:
        jobs.conclude(session)
        claimed = archives.claim(session, 30)
        if claimed:
            archives.settle(session, claimed, key=f"archives/{claimed.id}.zip", sha256="s", size=1)


def trashed(sessions: Sessions) -> set[str]:
    with sessions.read() as session:
        return set(session.scalars(select(Trash.key)))


def test_a_paused_job_is_not_claimed_and_what_runs_is_finished(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(2, 1)
    (work,) = claim(sessions)
    assert tell(sessions, job_id, jobs.pause) == JobState.PAUSED
    assert claim(sessions) == []
    with sessions.write() as session:
        assert items.renew(session, work.token, 1, 30)
    assert settle(sessions, work)
    assert tell(sessions, job_id, jobs.resume) == JobState.RUNNING
    finish(sessions, job_id)
    assert tell(sessions, job_id, jobs.pause) == JobState.SUCCEEDED


def test_a_paused_job_can_be_cancelled(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(2, 1)
    tell(sessions, job_id, jobs.pause)
    assert tell(sessions, job_id, jobs.cancel) == JobState.CANCELLED


def test_what_failed_is_tried_again_as_if_for_the_first_time(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(2, 1)
    good, bad = claim(sessions, 2)
    assert settle(sessions, good)
    with sessions.write() as session:
        items.fail(session, bad, "odd", "it raised", final=True)
    finish(sessions, job_id)
    assert tell(sessions, job_id, jobs.retry) == JobState.RUNNING
    assert counts(sessions, job_id) == {ItemState.DONE: 1, ItemState.PENDING: 1}
    with sessions.read() as session:
        item = session.get_one(Item, bad.item_id)
        assert (item.attempts, item.lapses, item.error, item.settled_at) == (0, 0, None, None)
        assert session.get(Archive, job_id) is None, "the archive is not what the job will have made"
    assert trashed(sessions) == {f"archives/{job_id}.zip"}
    finish(sessions, job_id)
    with sessions.read() as session:
        assert session.get_one(Archive, job_id).state == ArchiveState.READY
        assert session.get_one(Job, job_id).finished_at is not None
    assert tell(sessions, job_id, jobs.retry) == JobState.SUCCEEDED


def test_a_retry_takes_a_cancel_back(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(3, 1)
    (work,) = claim(sessions)
    assert tell(sessions, job_id, jobs.cancel) == JobState.CANCELLING
    assert tell(sessions, job_id, jobs.retry) == JobState.RUNNING
    with sessions.write() as session:
        assert items.renew(session, work.token, 1, 30)
    assert settle(sessions, work)
    finish(sessions, job_id)
    assert counts(sessions, job_id) == {ItemState.DONE: 3}


def test_a_retry_takes_a_cancel_back_that_only_a_worker_has_yet_to_see(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(1, 1)
    (work,) = claim(sessions)
    tell(sessions, job_id, jobs.cancel)
    assert tell(sessions, job_id, jobs.retry) == JobState.RUNNING
    with sessions.write() as session:
        assert items.renew(session, work.token, 1, 30)


def test_a_job_retried_while_it_is_concluded_is_never_over_with_work_left(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(1, 4)
    for _ in range(10):
        for work in claim(sessions, 4):
            with sessions.write() as session:
                items.fail(session, work, "odd", "it raised", final=True)

        def retry(_: int) -> None:
            with sessions.write() as session:
                jobs.retry(session, session.get_one(Job, job_id))

        def conclude(_: int) -> None:
            with sessions.write() as session:
                jobs.conclude(session)

        with ThreadPoolExecutor(4) as pool:
            pending = [pool.submit(each, 0) for each in (conclude, retry, conclude, conclude)]
            for future in pending:
                future.result()
        with sessions.read() as session:
            over = session.get_one(Job, job_id).finished_at is not None
        assert over is False
        assert counts(sessions, job_id) == {ItemState.PENDING: 4}


def make_old(sessions: Sessions, job_id: str) -> None:
    """As if the job had been made for the engine before this one."""
    with sessions.write() as session:
        job = session.get_one(Job, job_id)
        job.resolved = job.resolved | {"engine": "0"}
        session.execute(update(Item).where(Item.job_id == job_id).values(work_key="of the old engine"))


def upgrade(done: Literal["keep", "remake"]) -> Callable[[Session, Job], None]:
    return lambda session, job: jobs.upgrade(session, job, PRIOR, done)


def test_a_half_done_job_goes_on_with_a_new_engine_only_when_told_to(sessions: Sessions, make_job: Make) -> None:
    job_id, fresh = make_job(2, 1), make_job(2, 1)
    (work,) = claim(sessions)
    assert settle(sessions, work)
    make_old(sessions, job_id)
    assert {work.job_id for work in claim(sessions, 5)} == {fresh}
    assert claim(sessions) == []
    assert tell(sessions, job_id, upgrade("keep")) == JobState.RUNNING
    with sessions.read() as session:
        kept, new = session.scalars(select(Item).where(Item.job_id == job_id).order_by(Item.id))
        as_new = session.scalars(select(Item.work_key).where(Item.job_id == fresh).order_by(Item.id)).all()
        assert (kept.result_key, kept.work_key) == (result(work).key, "of the old engine")
        assert new.work_key == as_new[1]
    finish(sessions, job_id)
    assert counts(sessions, job_id) == {ItemState.DONE: 2}
    assert trashed(sessions) == set()


def test_a_job_can_be_made_again_whole_by_a_new_engine(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(2, 1)
    (work,) = claim(sessions)
    assert settle(sessions, work)
    finish(sessions, job_id)
    make_old(sessions, job_id)
    assert tell(sessions, job_id, upgrade("remake")) == JobState.QUEUED
    assert counts(sessions, job_id) == {ItemState.PENDING: 2}
    assert {result(work).key, f"archives/{job_id}.zip"} < trashed(sessions)
    with sessions.read() as session:
        assert session.get_one(Job, job_id).resolved["engine"] == ENGINE_VERSION
    finish(sessions, job_id)
    assert counts(sessions, job_id) == {ItemState.DONE: 2}


def test_nothing_is_upgraded_under_a_worker_of_the_old_engine(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(1, 1)
    claim(sessions)
    make_old(sessions, job_id)
    with pytest.raises(Conflict, match="still at this job"):
        tell(sessions, job_id, upgrade("keep"))


def test_a_deleted_job_leaves_nothing_and_its_worker_stops(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(2, 2)
    done, held = claim(sessions, 2)
    assert settle(sessions, done)
    with sessions.write() as session:
        jobs.delete(session, session.get_one(Job, job_id))
    with sessions.write() as session:
        assert not items.renew(session, held.token, 1, 30)
    assert not settle(sessions, held)
    assert claim(sessions) == []
    with sessions.read() as session:
        assert session.get(Job, job_id) is None
        assert session.scalar(select(func.count()).select_from(Item)) == 0
    assert trashed(sessions) == {result(done).key}


def test_a_dataset_goes_with_its_jobs_but_not_under_one_that_is_not_over(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(1, 1)
    with sessions.read() as session:
        dataset_id = session.get_one(Job, job_id).dataset_id
    with sessions.write() as session, pytest.raises(Conflict, match="is not over"):
        jobs.delete_dataset(session, "local", dataset_id)
    finish(sessions, job_id)
    with sessions.write() as session, pytest.raises(NotFound):
        jobs.delete_dataset(session, "somebody", dataset_id)
    with sessions.write() as session:
        jobs.delete_dataset(session, "local", dataset_id)
    with sessions.read() as session:
        for model in (Dataset, Image, Job, Item, Archive):
            assert session.scalar(select(func.count()).select_from(model)) == 0
    assert source_key(f"{'0':0>64}") in trashed(sessions)


def test_what_was_finished_before_is_taken_over(sessions: Sessions, make_job: Make) -> None:
    first = make_job(2, 2)
    finish(sessions, first)
    more = make_job(3, 2, reuse=True)
    assert counts(sessions, more) == {ItemState.DONE: 4, ItemState.PENDING: 2}
    with sessions.read() as session:
        taken = session.scalars(select(Item).where(Item.job_id == more, Item.state == ItemState.DONE)).all()
        made = session.scalars(select(Item).where(Item.job_id == first)).all()
        assert {(item.work_key, item.result_key, item.result_sha256) for item in taken} == {
            (item.work_key, item.result_key, item.result_sha256) for item in made
        }
        assert {item.reused_from for item in taken} == {first}
    finish(sessions, more)
    again = make_job(3, 2, reuse=True)
    with sessions.write() as session:
        assert jobs.conclude(session) == [again], "with nothing left to do the job is over at once"


@pytest.mark.parametrize("change", [{"seed": 1}, {"sampler": {"steps": 7}}, {"owner": "somebody"}])
def test_nothing_is_taken_over_that_is_not_the_same_or_not_the_owners(
    sessions: Sessions, make_job: Make, change: dict[str, Any]
) -> None:
    finish(sessions, make_job(1, 1))
    assert counts(sessions, make_job(1, 1, reuse=True, **change)) == {ItemState.PENDING: 1}


def ask(sessions: Sessions, dataset_id: str, key: str, **spec: object) -> str:
    wanted = ExpansionSpec.model_validate({"dataset_id": dataset_id, **spec})
    for attempt in (1, 2):
        try:
            with sessions.write() as session:
                return jobs.create(session, "local", wanted, PRIOR, 100, key).id
        except IntegrityError:
            if attempt == 2:
                raise
    raise AssertionError


def test_the_same_request_under_the_same_key_makes_one_job(sessions: Sessions) -> None:
    with sessions.write() as session:
        dataset_id = add_dataset(session, new_image("1"))
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: ask(sessions, dataset_id, "once"), range(8)))
    assert len(set(made)) == 1
    assert ask(sessions, dataset_id, "twice") != made[0]
    with pytest.raises(KeyReused, match="another request"):
        ask(sessions, dataset_id, "once", variants=3)
    with sessions.write() as session:
        jobs.delete(session, session.get_one(Job, made[0]))
    assert ask(sessions, dataset_id, "once", variants=3) not in made
