"""The life of a webhook, without the network."""

import json

import pytest
from rows import Make, cancel, claim, settle
from sqlalchemy import select, update

from shared import archives, items, jobs, webhooks
from shared.db import Sessions, now
from shared.errors import Invalid
from shared.models import Job, Webhook
from shared.settings import Settings
from shared.webhooks import PAUSES, Message, Outcome

URL = "https://lab.example/hook"


def take(sessions: Sessions) -> Message | None:
    """Claim the next one."""
    with sessions.write() as session:
        held = webhooks.claim(session, 30)
        return webhooks.message(session, held) if held else None


def attempt(sessions: Sessions, outcome: Outcome) -> Webhook:
    """One attempt at the only webhook, whose time is brought on."""
    with sessions.write() as session:
        session.execute(update(Webhook).values(next_at=now() - 1))
        held = webhooks.claim(session, 30)
        assert held is not None
        message = webhooks.message(session, held)
    with sessions.write() as session:
        assert webhooks.settle(session, held, message, outcome)
    with sessions.read() as session:
        return session.scalars(select(Webhook)).one()


def finish(sessions: Sessions, job_id: str) -> None:
    """All images of a job are made, and its archive is built."""
    for work in claim(sessions, 100):
        assert settle(sessions, work)
    with sessions.write() as session:
        assert jobs.conclude(session) == [job_id]
    with sessions.write() as session:
        held = archives.claim(session, 30)
        assert held is not None
        assert archives.settle(session, held, key="archives/a.zip", sha256="f" * 64, size=7)


def test_it_is_ordered_with_the_end_and_waits_for_the_archive(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(images=1, variants=2, webhook=URL)
    assert take(sessions) is None
    first, second = claim(sessions, 2)
    assert settle(sessions, first)
    with sessions.write() as session:
        assert items.fail(session, second, "bad_image", "patient.png is cut off", final=True)
    with sessions.write() as session:
        jobs.conclude(session)
    assert take(sessions) is None
    with sessions.write() as session:
        held = archives.claim(session, 30)
        assert held is not None
        assert archives.settle(session, held, key="archives/a.zip", sha256="f" * 64, size=7)
    message = take(sessions)
    assert message is not None
    assert (message.url, message.attempts) == (URL, 0)
    body = json.loads(message.body)
    with sessions.read() as session:
        job = session.get_one(Job, job_id)
        assert body == {
            "type": "job.completed_with_errors",
            "timestamp": body["timestamp"],
            "data": {
                "job": job_id,
                "path": f"/v1/jobs/{job_id}",
                "dataset": job.dataset_id,
                "state": "completed_with_errors",
                "counts": {"done": 1, "failed": 1},
                "archive": {"state": "ready", "bytes": 7, "sha256": "f" * 64},
            },
        }
    assert take(sessions) is None, "it is held"


def test_a_job_without_an_image_is_told_at_once(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(webhook=URL)
    cancel(sessions, job_id)
    message = take(sessions)
    assert message is not None
    assert json.loads(message.body)["type"] == "job.cancelled"
    assert json.loads(message.body)["data"]["archive"] is None


def test_who_names_nobody_has_none(sessions: Sessions, make_job: Make) -> None:
    finish(sessions, make_job(images=1, variants=1))
    assert take(sessions) is None


def test_the_pauses_grow_and_it_is_given_up_in_the_end(sessions: Sessions, make_job: Make) -> None:
    finish(sessions, make_job(images=1, variants=1, webhook=URL))
    ids = set()
    for number, pause in enumerate(PAUSES, 1):
        row = attempt(sessions, Outcome("The answer was 500."))
        ids.add((row.id, row.body))
        assert (row.state, row.attempts, row.error) == ("pending", number, "The answer was 500.")
        with sessions.read() as session:
            left = session.scalar(select(Webhook.next_at - now()))
        assert pause - 60 < left <= pause
        assert take(sessions) is None
    row = attempt(sessions, Outcome("The answer was 500."))
    assert (row.state, row.attempts) == ("failed", len(PAUSES) + 1)
    assert ids == {(row.id, row.body)}, "every attempt sends the same"
    with sessions.write() as session:
        session.execute(update(Webhook).values(next_at=now() - 1))
        assert not webhooks.waiting(session)


def test_what_is_hopeless_is_given_up_at_once(sessions: Sessions, make_job: Make) -> None:
    finish(sessions, make_job(images=1, variants=1, webhook=URL))
    assert attempt(sessions, Outcome("no", final=True)).state == "failed"


def test_a_success_ends_it(sessions: Sessions, make_job: Make) -> None:
    finish(sessions, make_job(images=1, variants=1, webhook=URL))
    attempt(sessions, Outcome("The answer was 500."))
    row = attempt(sessions, Outcome())
    assert (row.state, row.attempts, row.error) == ("delivered", 2, None)
    assert row.delivered_at is not None
    with sessions.read() as session:
        assert not webhooks.waiting(session)


def test_a_job_that_goes_on_takes_its_end_back(sessions: Sessions, make_job: Make) -> None:
    job_id = make_job(images=1, variants=2, webhook=URL)
    cancel(sessions, job_id)
    before = take(sessions)
    with sessions.write() as session:
        jobs.retry(session, session.get_one(Job, job_id))
    assert take(sessions) is None
    finish(sessions, job_id)
    after = take(sessions)
    assert before is not None
    assert after is not None
    assert before.id != after.id
    assert json.loads(after.body)["type"] == "job.succeeded"


def test_one_that_ends_its_workers_is_given_up(sessions: Sessions, make_job: Make) -> None:
    finish(sessions, make_job(images=1, variants=1, webhook=URL))
    with sessions.write() as session:
        assert webhooks.sweep(session) == 0
        session.execute(update(Webhook).values(lapses=10))
        assert webhooks.sweep(session) == 1
        assert session.scalar(select(Webhook.state)) == "failed"


SIGNING = Settings(_env_file=None, webhook_secret="whsec_" + "A" * 32, webhook_networks="10.0.0.0/8")  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://[::1]:80/", "http://169.254.169.254/latest"])
def test_an_address_that_is_not_public_is_refused_at_the_door(url: str) -> None:
    with pytest.raises(Invalid, match="not a public one"):
        webhooks.check(url, SIGNING)


def test_others_are_taken_if_they_can_be_signed_for() -> None:
    for url in (URL, "http://10.1.2.3:8080/", "http://localhost/"):
        webhooks.check(url, SIGNING)
    with pytest.raises(Invalid, match="REGROW_WEBHOOK_SECRET"):
        webhooks.check(URL, Settings(_env_file=None))


def test_settings_that_could_sign_or_reach_nothing_are_refused() -> None:
    for wrong in (
        {"webhook_secret": "whsec_short"},
        {"webhook_secret": "A" * 32},
        {"webhook_networks": "10.0.0.0/99"},
        {"webhook_url": URL},
        {"webhook_url": "ftp://x", "webhook_secret": "whsec_" + "A" * 32},
    ):
        with pytest.raises(ValueError, match=r"webhook|REGROW_WEBHOOK|must begin"):
            Settings(_env_file=None, **wrong)  # type: ignore[arg-type]


def test_the_owner_of_a_lost_claim_writes_nothing(sessions: Sessions, make_job: Make) -> None:
    finish(sessions, make_job(images=1, variants=1, webhook=URL))
    with sessions.write() as session:
        held = webhooks.claim(session, 30)
        assert held is not None
        message = webhooks.message(session, held)
        session.execute(update(Webhook).values(token="another"))
    with sessions.write() as session:
        assert not webhooks.settle(session, held, message, Outcome())
        assert session.scalar(select(Webhook.state)) == "pending"
