"""The life of an item, on SQLite and on PostgreSQL."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared import archives, datasets, items, jobs, leases, progress
from shared.datasets import Contents, NewImage
from shared.db import Sessions, now
from shared.errors import Conflict, Invalid, NotFound
from shared.items import Result, Work
from shared.models import Archive, Dataset, Item, Job, Prior
from shared.spec import ExpansionSpec
from shared.states import ItemState, JobState, job_state

PRIOR = Prior(name="builtin", sha256="p" * 64, native_size=128, multiple=16, size=1, card="")
Make = Callable[..., str]


def new_image(name: str, *, split: str = "train", boxes: int = 1) -> NewImage:
    return NewImage(
        path=f"images/{split}/{name}.png",
        split=split,
        sha256=f"{name:0>64}",
        format="PNG",
        mode="L",
        width=100,
        height=80,
        size=1000,
        boxes=[[0, 0.1, 0.1, 0.2, 0.2]] * boxes,
        label_path=f"labels/{split}/{name}.txt",
        label=b"0 .15 .15 .1 .1\n" * boxes,
        label_sha256="l" * 64,
    )


def add_dataset(session: Session, *images: NewImage, owner: str = "local") -> str:
    dataset = Dataset(owner=owner, name="set")
    session.add(dataset)
    session.flush()
    claim = datasets.claim(session, 30)
    assert claim is not None
    splits = tuple(dict.fromkeys(image.split for image in images))
    contents = Contents("yolo", "images/{split}", None, ("a",), splits, (), 255, images)
    assert datasets.accept(session, claim, contents)
    return dataset.id


@pytest.fixture
def make_job(sessions: Sessions) -> Make:
    def make(images: int = 3, variants: int = 2, **spec: object) -> str:
        with sessions.write() as session:
            dataset_id = add_dataset(session, *(new_image(str(n)) for n in range(images)))
            wanted = ExpansionSpec.model_validate({"dataset_id": dataset_id, "variants": variants, **spec})
            return jobs.create(session, "local", wanted, PRIOR, 10_000).id

    return make


def claim(sessions: Sessions, limit: int = 1, lease: float = 30, worker: str = "w") -> list[Work]:
    with sessions.write() as session:
        return items.claim(session, worker, limit, lease, priors=[PRIOR.sha256])


def result(work: Work) -> Result:
    return Result(f"jobs/{work.item_id}-{work.token}.png", "s" * 64, 1.0, {}, {})


def settle(sessions: Sessions, work: Work) -> bool:
    with sessions.write() as session:
        return items.settle(session, work, result(work))


def counts(sessions: Sessions, job_id: str) -> dict[ItemState, int]:
    with sessions.read() as session:
        return items.counts(session, job_id)


def expire(sessions: Sessions) -> None:
    with sessions.write() as session:
        session.execute(update(Item).where(Item.token.is_not(None)).values(lease_until=now() - 1))


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


def test_claims_made_at_once_share_the_items_without_overlap(sessions: Sessions, make_job: Make) -> None:
    make_job(images=8, variants=5)

    def take(worker: int) -> list[int]:
        taken: list[int] = []
        while batch := claim(sessions, 3, worker=str(worker)):
            taken += [work.item_id for work in batch]
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, range(4)))
    everything = [item for one in taken for item in one]
    assert len(everything) == len(set(everything)) == 40


def test_jobs_take_turns_and_a_higher_priority_goes_first(sessions: Sessions, make_job: Make) -> None:
    low, other, high = make_job(1, 2), make_job(1, 2), make_job(1, 1, priority=5)
    order = [claim(sessions)[0].job_id for _ in range(5)]
    assert order == [high, low, other, low, other]


def test_a_settled_item_is_done_and_cannot_be_settled_again(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(1, 1)
    (work,) = claim(sessions)
    assert settle(sessions, work)
    assert not settle(sessions, work)
    assert counts(sessions, job_id) == {ItemState.DONE: 1}


def test_a_lapsed_item_goes_to_another_and_the_first_worker_can_settle_no_more(
    sessions: Sessions, make_job: Make
) -> None:
    job_id = make_job(1, 1)
    (lost,) = claim(sessions, worker="slow")
    expire(sessions)
    with sessions.write() as session:
        assert items.sweep(session) == 1
    (taken,) = claim(sessions, worker="quick")
    assert taken.item_id == lost.item_id
    assert not settle(sessions, lost)
    with sessions.write() as session:
        assert not items.renew(session, lost.token, 3, 30)
    assert settle(sessions, taken)
    with sessions.read() as session:
        item = session.get_one(Item, taken.item_id)
        assert (item.result_key, item.lapses, item.attempts) == (result(taken).key, 1, 0)
    assert counts(sessions, job_id) == {ItemState.DONE: 1}


def test_a_renewed_item_is_not_swept(sessions: Sessions, make_job: Make) -> None:
    make_job(1, 1)
    (work,) = claim(sessions)
    expire(sessions)
    with sessions.write() as session:
        assert items.renew(session, work.token, 12, 30)
        assert items.sweep(session) == 0
        assert session.get_one(Item, work.item_id).step == 12


def test_items_that_outlived_a_worker_are_claimed_alone_and_last(sessions: Sessions, make_job: Make) -> None:
    make_job(4, 1)
    lost = {work.item_id for work in claim(sessions, 2)}
    expire(sessions)
    with sessions.write() as session:
        items.sweep(session)
    batches = [[work.item_id for work in claim(sessions, 4)] for _ in range(3)]
    assert [len(batch) for batch in batches] == [2, 1, 1]
    assert {batches[1][0], batches[2][0]} == lost


def test_an_item_that_ends_every_worker_fails_in_the_end(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(1, 1)
    for _ in range(leases.MAX_LAPSES):
        (work,) = claim(sessions)
        expire(sessions)
        with sessions.write() as session:
            items.sweep(session)
    assert claim(sessions) == []
    assert counts(sessions, job_id) == {ItemState.FAILED: 1}
    with sessions.read() as session:
        item = session.get_one(Item, work.item_id)
        assert item.error is not None
        assert item.error["type"] == "worker_lost"
        assert item.attempts == 0


def test_an_item_is_tried_three_times(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(1, 1)
    for _ in range(items.MAX_ATTEMPTS):
        assert counts(sessions, job_id) == {ItemState.PENDING: 1}
        (work,) = claim(sessions)
        with sessions.write() as session:
            assert items.fail(session, work, "odd", "it raised", final=False)
    assert counts(sessions, job_id) == {ItemState.FAILED: 1}


def test_a_hopeless_item_is_tried_once(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(1, 1)
    (work,) = claim(sessions)
    with sessions.write() as session:
        items.fail(session, work, "bad-image", "a.png: cut off", final=True)
    assert counts(sessions, job_id) == {ItemState.FAILED: 1}


def test_what_is_handed_back_has_lost_nothing(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(2, 1)
    first, second = claim(sessions, 2)
    assert settle(sessions, first)
    with sessions.write() as session:
        assert items.hand_back(session, first.token) == 1
        item = session.get_one(Item, second.item_id)
        assert (item.state, item.attempts, item.lapses, item.token) == (ItemState.PENDING, 0, 0, None)
    assert counts(sessions, job_id) == {ItemState.DONE: 1, ItemState.PENDING: 1}


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


def cancel(sessions: Sessions, job_id: str) -> list[str]:
    with sessions.write() as session:
        jobs.cancel(session, session.get_one(Job, job_id))
    with sessions.write() as session:
        return jobs.conclude(session)


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


def test_progress_counts_steps_and_estimates_from_real_seconds(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(4, 1, sampler={"steps": 10})
    done, half = claim(sessions), claim(sessions)
    settle(sessions, done[0])
    with sessions.write() as session:
        items.renew(session, half[0].token, 5, 30)
    with sessions.read() as session:
        found = progress.of(session, session.get_one(Job, job_id))
    assert found.share == pytest.approx(1.5 / 4)
    assert found.items_per_second == pytest.approx(1.0)
    assert found.eta_seconds == pytest.approx(2.5)


def test_a_dataset_whose_check_ends_every_worker_is_rejected(sessions: Sessions) -> None:
    with sessions.write() as session:
        dataset = Dataset(owner="local", name="set")
        session.add(dataset)
    for _ in range(leases.MAX_LAPSES + 1):
        with sessions.write() as session:
            assert datasets.claim(session, 30) is not None
            assert datasets.claim(session, 30) is None
            session.execute(update(Dataset).values(lease_until=now() - 1))
    with sessions.write() as session:
        assert datasets.sweep(session) == 1
        assert session.get_one(Dataset, dataset.id).state == "rejected"


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
