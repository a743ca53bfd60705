"""How far jobs are, and what they wait for."""

import pytest
from rows import PRIOR, Make, claim, settle

from shared import items, jobs, progress, workers
from shared.db import Sessions
from shared.models import Job
from shared.spec import ENGINE_VERSION
from shared.states import Wait


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


def test_a_worker_that_settles_one_batch_while_it_samples_the_next_counts_once(
    sessions: Sessions, make_job: Make
) -> None:
    job_id = make_job(4, 1)
    settle(sessions, claim(sessions)[0])
    claim(sessions), claim(sessions)
    with sessions.read() as session:
        assert progress.of(session, session.get_one(Job, job_id)).items_per_second == pytest.approx(1.0)


def waits_for(sessions: Sessions, job_id: str) -> Wait | None:
    with sessions.read() as session:
        return progress.of(session, session.get_one(Job, job_id)).waits_for


def seen(sessions: Sessions, name: str, queues: str, trouble: Wait | None = None) -> None:
    with sessions.write() as session:
        workers.seen(session, name, queues, "cpu", trouble)


def test_a_job_says_what_it_waits_for(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(2, 1)
    with sessions.write() as session:
        session.merge(PRIOR)
    assert waits_for(sessions, job_id) == Wait.NO_WORKER
    seen(sessions, "other", "cpu")
    assert waits_for(sessions, job_id) == Wait.NO_WORKER
    seen(sessions, "one", "gpu", Wait.STORAGE_LOW)
    assert waits_for(sessions, job_id) == Wait.STORAGE_LOW
    seen(sessions, "two", "cpu,gpu")
    assert waits_for(sessions, job_id) is None
    with sessions.write() as session:
        job = session.get_one(Job, job_id)
        job.resolved = job.resolved | {"engine": "0"}
    assert waits_for(sessions, job_id) == Wait.ENGINE_CHANGED
    with sessions.write() as session:
        job = session.get_one(Job, job_id)
        job.resolved = job.resolved | {"engine": ENGINE_VERSION, "prior_sha256": "q" * 64}
    assert waits_for(sessions, job_id) == Wait.PRIOR_CHANGED


@pytest.mark.parametrize("done", ["running", "paused", "cancelled"])
def test_a_job_that_is_worked_on_or_told_to_stop_waits_for_nothing(
    sessions: Sessions, make_job: Make, done: str
) -> None:
    job_id = make_job(2, 1)
    if done == "running":
        claim(sessions)
    with sessions.write() as session:
        job = session.get_one(Job, job_id)
        if done == "paused":
            jobs.pause(session, job)
        if done == "cancelled":
            jobs.cancel(session, job)
    assert waits_for(sessions, job_id) is None


def test_what_was_taken_over_is_counted(sessions: Sessions, make_job: Make) -> None:
    make_job(2, 1)
    for work in claim(sessions, 2):
        settle(sessions, work)
    job_id = make_job(3, 1, reuse=True)
    with sessions.read() as session:
        found = progress.of(session, session.get_one(Job, job_id))
    assert found.reused == 2
    assert found.share == pytest.approx(2 / 3)
