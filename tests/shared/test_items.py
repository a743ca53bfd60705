"""The life of an item, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

from rows import PRIOR, Make, claim, counts, expire, result, settle

from shared import items, leases
from shared.db import Sessions
from shared.models import Item, Job
from shared.spec import ResolvedSpec
from shared.states import ItemState


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
    for _ in range(leases.MAX_ATTEMPTS):
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


def test_owners_take_turns_however_many_jobs_each_has(sessions: Sessions, make_job: Make) -> None:
    theirs = [make_job(1, 3, owner="many") for _ in range(3)]
    ours = make_job(1, 3, owner="one")
    order = [claim(sessions)[0].job_id for _ in range(6)]
    assert order == [theirs[0], ours, theirs[1], ours, theirs[2], ours]


def with_prior(sessions: Sessions, job_id: str, sha256: str, *, waited: float = 0) -> str:
    """Give a job another prior, and let it have waited."""
    with sessions.write() as session:
        job = session.get_one(Job, job_id)
        job.resolved = job.resolved | {"prior_sha256": sha256}
        job.created_at -= waited
    return job_id


def first(sessions: Sessions, warm: str) -> str:
    with sessions.write() as session:
        return items.claim(session, "w", 1, 30, priors=["cold", "warm"], warm=[warm])[0].job_id


def test_a_loaded_prior_goes_first_but_nobody_waits_for_it_for_long(sessions: Sessions, make_job: Make) -> None:
    cold = with_prior(sessions, make_job(1, 9), "cold")
    warm = with_prior(sessions, make_job(1, 9), "warm")
    assert [first(sessions, "warm") for _ in range(3)] == [warm] * 3
    with_prior(sessions, cold, "cold", waited=items.PATIENCE + 1)
    assert first(sessions, "warm") == cold
    assert first(sessions, "warm") == warm


def test_a_loaded_prior_passes_no_higher_priority_and_none_beyond_the_look_ahead(
    sessions: Sessions, make_job: Make
) -> None:
    with_prior(sessions, make_job(1, 2), "warm")
    high = with_prior(sessions, make_job(1, 1, priority=1), "cold")
    assert first(sessions, "warm") == high
    ahead = [with_prior(sessions, make_job(1, 1, priority=2), "cold") for _ in range(items.LOOK_AHEAD)]
    with_prior(sessions, make_job(1, 1, priority=2), "warm")
    assert first(sessions, "warm") == ahead[0]


def test_work_for_a_prior_or_an_engine_that_a_worker_has_not_waits(sessions: Sessions, make_job: Make) -> None:
    other, old, fits = make_job(1, 1), make_job(1, 1), make_job(1, 1)
    with_prior(sessions, other, "other")
    with sessions.write() as session:
        job = session.get_one(Job, old)
        job.resolved = job.resolved | {"engine": "0"}
    assert [work.job_id for work in claim(sessions, 5)] == [fits]
    assert claim(sessions) == []
    assert counts(sessions, other) == counts(sessions, old) == {ItemState.PENDING: 1}


def test_a_worker_takes_of_a_job_as_many_as_fit_by_what_that_asks_for(sessions: Sessions, make_job: Make) -> None:
    small, open_ = make_job(1, 9, sampler={"batch": 2}, priority=1), make_job(1, 9, sampler={"batch": "auto"})
    asked = []

    def fits(resolved: ResolvedSpec, batch: int | None) -> int:
        asked.append((resolved.prior_sha256, batch))
        return batch or 5

    def take(limit: int) -> list[tuple[str, int | None]]:
        with sessions.write() as session:
            taken = items.claim(session, "w", limit, 30, priors=[PRIOR.sha256], fits=fits)
        return [(work.job_id, work.batch) for work in taken]

    assert take(100) == [(small, 2)] * 2
    assert take(1) == [(small, 2)]
    for _ in range(3):
        take(100)
    assert take(100) == [(open_, None)] * 5
    assert set(asked) == {(PRIOR.sha256, 2), (PRIOR.sha256, None)}
