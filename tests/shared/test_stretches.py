"""The leases of trainings, on both databases: lost, lapsed, handed back; and what outlives what."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from rows import add_dataset, new_image
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

import worker
from shared import items, jobs, leases, priors, stretches, trainings
from shared.db import Sessions, now
from shared.errors import Conflict, Invalid, RegrowError
from shared.models import Prior, Training
from shared.spec import ExpansionSpec
from shared.states import ItemState, TrainingState
from shared.stretches import Noted, Work
from shared.trainings import TrainingSpec

BUILTIN = Path(worker.__file__).parent / "priors" / "builtin"
HALF = Noted("denoiser", 20, 40, 0.5, 1.0)


@pytest.fixture
def dataset_id(sessions: Sessions) -> str:
    with sessions.write() as session:
        return add_dataset(session, *(new_image(str(n)) for n in range(20)), new_image("v", split="valid"))


def ask(sessions: Sessions, dataset_id: str, name: str = "wrists", **more: Any) -> str:
    spec = TrainingSpec.model_validate({"dataset_id": dataset_id, "name": name, "crop": 96, **more})
    with sessions.write() as session:
        return trainings.create(session, "local", spec).id


def claim(sessions: Sessions, **more: Any) -> Work | None:
    with sessions.write() as session:
        return stretches.claim(session, "w", 30, **{"hashes": [], "jobs_wait": False, **more})


def work_on(sessions: Sessions) -> Work:
    work = claim(sessions)
    assert work is not None
    return work


def renew(sessions: Sessions, work: Work, noted: Noted = HALF, *, checkpointed: bool = False) -> bool:
    with sessions.write() as session:
        return stretches.renew(session, work.claim, noted, 30, checkpointed=checkpointed)


def prior(name: str, training_id: str | None = None) -> Prior:
    about = {"sha256": "b" * 64, "native_size": 64, "multiple": 16, "size": 9, "card": ""}
    return Prior(name=name, owner="local" if training_id else "", training_id=training_id, **about)


def finish(sessions: Sessions, work: Work) -> bool:
    with sessions.write() as session:
        return stretches.finish(session, work, prior(work.name, work.claim.id))


def row(sessions: Sessions, training_id: str) -> Training:
    with sessions.read() as session:
        return session.get_one(Training, training_id)


def lapse(sessions: Sessions) -> None:
    with sessions.write() as session:
        session.execute(update(Training).where(Training.token.is_not(None)).values(lease_until=now() - 1))


def sweep(sessions: Sessions) -> int:
    with sessions.write() as session:
        return stretches.sweep(session)


def test_a_training_has_one_worker_at_a_time_and_the_oldest_goes_first(sessions: Sessions, dataset_id: str) -> None:
    first, second = ask(sessions, dataset_id), ask(sessions, dataset_id, "hands")
    assert [work_on(sessions).claim.id for _ in range(2)] == [first, second]
    assert claim(sessions) is None
    assert row(sessions, first).state == TrainingState.RUNNING


def test_who_lost_the_lease_changes_nothing_any_more(sessions: Sessions, dataset_id: str) -> None:
    training = ask(sessions, dataset_id)
    late = work_on(sessions)
    lapse(sessions)
    work = work_on(sessions)
    assert renew(sessions, work)
    assert not renew(sessions, late, Noted("autoencoder", 1, 40, 9.9, 9.9), checkpointed=True)
    assert not finish(sessions, late)
    with sessions.write() as session:
        assert not stretches.hand_back(session, late.claim)
        assert not stretches.fail(session, late.claim, "unexpected", "late", final=True)
    seen = row(sessions, training)
    assert (seen.state, seen.step, seen.lapses, seen.error) == (TrainingState.RUNNING, 20, 1, None)
    with sessions.read() as session:
        assert session.get(Prior, ("local", "wrists")) is None
    assert finish(sessions, work)


def test_what_a_vanished_worker_held_waits_again_as_it_was(sessions: Sessions, dataset_id: str) -> None:
    training = ask(sessions, dataset_id)
    assert renew(sessions, work_on(sessions))
    assert sweep(sessions) == 0
    lapse(sessions)
    assert sweep(sessions) == 1
    seen = row(sessions, training)
    assert (seen.state, seen.step, seen.lapses, seen.attempts) == (TrainingState.PENDING, 20, 1, 0)
    assert work_on(sessions).claim.id == training


@pytest.mark.parametrize("swept", [True, False])
def test_what_ends_its_workers_is_given_up_unless_it_gets_on(
    sessions: Sessions, dataset_id: str, *, swept: bool
) -> None:
    training = ask(sessions, dataset_id)
    for _ in range(leases.MAX_LAPSES + 2):
        assert renew(sessions, work_on(sessions), checkpointed=True)
        lapse(sessions)
    claims = 0
    while claim(sessions) is not None:
        claims += 1
        lapse(sessions)
        if swept:
            sweep(sessions)
    assert claims in (leases.MAX_LAPSES - 1, leases.MAX_LAPSES)
    sweep(sessions)
    seen = row(sessions, training)
    assert (seen.state, seen.error) == (TrainingState.FAILED, {"type": "worker_lost", "detail": leases.GIVEN_UP})


def test_what_starts_from_a_prior_goes_only_to_who_has_it(sessions: Sessions, dataset_id: str) -> None:
    with sessions.write() as session:
        session.add(prior("base"))
    ask(sessions, dataset_id, init="base")
    assert claim(sessions, hashes=["c" * 64]) is None
    work = claim(sessions, hashes=["b" * 64])
    assert work is not None
    assert (work.init, work.init_sha256) == ("base", "b" * 64)


def test_a_prior_that_was_installed_meanwhile_is_not_replaced(sessions: Sessions, dataset_id: str) -> None:
    ask(sessions, dataset_id)
    work = work_on(sessions)
    with sessions.write() as session:
        session.add(prior("wrists"))
    with pytest.raises(Conflict, match="is installed already"):
        finish(sessions, work)
    assert renew(sessions, work), "the claim was lost with it"


def test_jobs_wait_only_for_who_has_their_prior(sessions: Sessions, dataset_id: str) -> None:
    with sessions.write() as session:
        wanted = ExpansionSpec.model_validate({"dataset_id": dataset_id, "canvas": {"long_side": 64}})
        jobs.create(session, "local", wanted, prior("base"), 1000)
    with sessions.read() as session:
        found = [items.waiting(session), items.waiting(session, ["b" * 64]), items.waiting(session, ["c" * 64])]
    assert found == [True, True, False]


def test_of_two_live_trainings_of_one_name_the_database_takes_one(sessions: Sessions, dataset_id: str) -> None:
    """Also where neither sees the other before it writes."""
    ask(sessions, dataset_id)
    row = {"owner": "local", "name": "wrists", "dataset_id": dataset_id, "request_sha256": "r"}
    with pytest.raises(IntegrityError), sessions.write() as session:
        session.add(Training(**row, settings={}, images=20))
    with sessions.write() as session:
        session.add(Training(**row, settings={}, images=20, state=TrainingState.FAILED))


def test_a_prior_is_not_deleted_under_a_job_that_is_being_made_of_it(sessions: Sessions, dataset_id: str) -> None:
    """Whichever comes first: a job on a prior that is there, or no job."""
    for number in range(5):
        with sessions.write() as session:
            session.add(prior("wrists", f"{number:032}"))
        start, said = threading.Barrier(2), []

        def make(start: threading.Barrier = start, said: list[str] = said) -> None:
            start.wait()
            wanted = {"dataset_id": dataset_id, "prior": "wrists", "canvas": {"long_side": 64}}
            try:
                with sessions.write() as session:
                    found = priors.find(session, "local", "wrists", hold=True)
                    jobs.create(session, "local", ExpansionSpec.model_validate(wanted), found, 1000)
                said.append("made")
            except Invalid:
                said.append("refused")

        def remove(start: threading.Barrier = start, said: list[str] = said) -> None:
            start.wait()
            try:
                with sessions.write() as session:
                    priors.delete(session, "local", "wrists")
                said.append("deleted")
            except Conflict:
                said.append("kept")

        threads = [threading.Thread(target=make), threading.Thread(target=remove)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(said) in ({"made", "kept"}, {"refused", "deleted"})
        with sessions.write() as session:
            for job in session.scalars(select(jobs.Job)):
                jobs.cancel(session, job)
        with sessions.write() as session:
            jobs.conclude(session)
        with sessions.write() as session:
            if session.get(Prior, ("local", "wrists")):
                priors.delete(session, "local", "wrists")


def test_a_folder_of_an_operators_does_not_take_the_name_of_a_trained_prior(
    sessions: Sessions, dataset_id: str, tmp_path: Any
) -> None:
    with sessions.write() as session:
        session.add(prior("wrists", "1" * 32))
    with pytest.raises(RegrowError, match="was trained or fetched here"), sessions.write() as session:
        priors.register(session, "wrists", tmp_path)


def test_what_a_prior_learned_from_is_read_from_its_card_wherever_it_comes_from(
    sessions: Sessions, tmp_path: Path
) -> None:
    folder = tmp_path / "hands"
    shutil.copytree(BUILTIN, folder)
    for card, known in (('{"about": {"sources": ["b", "a", "b"]}}', {"a", "b"}), ('{"about": {}}', set())):
        (folder / priors.FACTS).write_text(card)
        with sessions.write() as session:
            priors.register(session, "hands", folder)
        with sessions.read() as session:
            assert priors.trained_on(session, priors.get(session, "local", "hands")) == known
    (folder / priors.FACTS).write_text("[]")
    with pytest.raises(RegrowError, match=r"hands/card.json is no card"), sessions.write() as session:
        priors.register(session, "hands", folder)


def test_a_job_whose_prior_is_gone_is_not_taken(sessions: Sessions, dataset_id: str) -> None:
    with sessions.write() as session:
        wanted = ExpansionSpec.model_validate({"dataset_id": dataset_id, "canvas": {"long_side": 64}})
        job = jobs.create(session, "local", wanted, prior("base"), 1000)
        assert items.claim(session, "w", 5, 30, priors=["c" * 64]) == []
        assert items.counts(session, job.id) == {ItemState.PENDING: 40}
