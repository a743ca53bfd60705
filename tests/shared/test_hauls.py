"""The leases of fetches, on both databases: lost, lapsed, forgiven; and what outlives what."""

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from shared import fetches, hauls, leases, priors, trash
from shared.db import Sessions, now
from shared.errors import Conflict, NotConfigured
from shared.fetches import FetchSpec
from shared.hauls import Noted, Work
from shared.models import Fetch, Prior
from shared.settings import Settings
from shared.states import FetchState
from shared.storage import Folder, fetch_key, prior_key

SETTINGS = Settings(hub_allow="lab/*", _env_file=None)


def ask(sessions: Sessions, name: str = "sd15", owner: str = "local") -> str:
    spec = FetchSpec(repo="lab/sd", revision="0" * 40)
    with sessions.write() as session:
        return fetches.create(session, owner, name, spec, SETTINGS)[0].id


def work_on(sessions: Sessions) -> Work:
    with sessions.write() as session:
        work = hauls.claim(session, "w", 30)
    assert work is not None
    return work


def renew(sessions: Sessions, work: Work, received: int) -> bool:
    with sessions.write() as session:
        return hauls.renew(session, work.claim, Noted("download", received, 100), 30)


def finish(sessions: Sessions, work: Work) -> bool:
    with sessions.write() as session:
        return hauls.finish(session, work, prior(work.name))


def prior(name: str) -> Prior:
    return Prior(name=name, sha256="b" * 64, native_size=64, multiple=16, size=9, card="")


def lapse(sessions: Sessions) -> int:
    with sessions.write() as session:
        session.execute(update(Fetch).values(lease_until=now() - 1))
    with sessions.write() as session:
        return hauls.sweep(session)


def row(sessions: Sessions, fetch_id: str) -> Fetch:
    with sessions.read() as session:
        return session.get_one(Fetch, fetch_id)


def test_one_worker_has_it_and_who_lost_it_changes_nothing(sessions: Sessions) -> None:
    fetch_id = ask(sessions)
    late = work_on(sessions)
    with sessions.write() as session:
        assert hauls.claim(session, "other", 30) is None
    assert lapse(sessions) == 1
    assert not renew(sessions, late, 50)
    assert work_on(sessions).claim.token != late.claim.token
    assert not finish(sessions, late)
    with sessions.write() as session:
        assert not hauls.hand_back(session, late.claim)
        assert not hauls.fail(session, late, "storage", "It is full.", final=True)
        assert session.scalars(select(Prior)).all() == []
    assert row(sessions, fetch_id).state == FetchState.RUNNING


def test_what_ends_its_workers_is_given_up_unless_it_gets_on(sessions: Sessions) -> None:
    fetch_id = ask(sessions)
    for _ in range(leases.MAX_LAPSES - 1):
        work_on(sessions)
        lapse(sessions)
    assert renew(sessions, work_on(sessions), 50)
    assert row(sessions, fetch_id).lapses == 0, "it got on"
    lapse(sessions)
    for _ in range(leases.MAX_LAPSES - 1):
        assert renew(sessions, work_on(sessions), 50)
        lapse(sessions)
    given_up = row(sessions, fetch_id)
    assert (given_up.state, (given_up.error or {})["type"]) == (FetchState.FAILED, "worker_lost")


def test_bytes_that_came_make_up_for_attempts_that_failed(sessions: Sessions) -> None:
    fetch_id = ask(sessions)
    for progressed, attempts in ((False, 1), (False, 2), (True, 1)):
        with sessions.write() as session:
            session.execute(update(Fetch).values(next_at=now()))
        work = work_on(sessions)
        with sessions.write() as session:
            assert hauls.fail(session, work, "hub_away", "No net.", final=False, progressed=progressed)
        seen = row(sessions, fetch_id)
        assert (seen.state, seen.attempts) == (FetchState.PENDING, attempts)
        with sessions.write() as session:
            assert hauls.claim(session, "w", 30) is None, "its time has not come"


def test_a_name_that_was_taken_meanwhile_is_not_taken_twice(sessions: Sessions) -> None:
    ask(sessions)
    work = work_on(sessions)
    with pytest.raises(IntegrityError), sessions.write() as session:
        session.add(Fetch(owner="local", name="sd15", repo="lab/other", revision="1" * 40))
    with sessions.write() as session:
        session.add(prior("sd15"))
    with pytest.raises(Conflict, match="is installed already"):
        finish(sessions, work)


def test_its_files_stay_as_long_as_its_prior_and_its_name_is_nobody_elses(sessions: Sessions, storage: Folder) -> None:
    fetch_id = ask(sessions)
    for key in (fetch_key(fetch_id) + ".parts/x", prior_key(fetch_id) + "unet/config.json"):
        storage.write(key, b"x")
    with pytest.raises(NotConfigured, match="is being fetched"), sessions.write() as session:
        priors.check_name(session, "sd15")
    assert finish(sessions, work_on(sessions))
    with pytest.raises(NotConfigured, match="trained or fetched here"), sessions.write() as session:
        priors.register(session, "sd15", storage.root)
    with sessions.write() as session:
        fetches.delete(session, fetches.get(session, "local", fetch_id))
    with sessions.write() as session:
        trash.empty(session, storage)
        assert priors.made_here(session, storage).keys() == {fetch_id}
    assert not storage.path(fetch_key(fetch_id)).exists()
    with sessions.write() as session:
        priors.delete(session, "local", "sd15")
    with sessions.write() as session:
        trash.empty(session, storage)
    assert not storage.path(prior_key(fetch_id)).exists()
