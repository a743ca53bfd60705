"""Priors belong to the project that trained them; what the operator installed is for all."""

from collections.abc import Callable

import pytest
from rows import add_dataset, new_image

from shared import jobs, priors, progress, stretches, trainings
from shared.db import Sessions
from shared.errors import Conflict, Invalid, NotFound
from shared.models import Dataset, Job, Prior
from shared.spec import ExpansionSpec
from shared.states import Wait
from shared.trainings import TrainingSpec

OWNERS = ("knee", "hand")


def prior(owner: str, name: str, sha256: str, training_id: str | None = None) -> Prior:
    about = {"native_size": 64, "multiple": 16, "size": 9, "card": "", "training_id": training_id}
    return Prior(owner=owner, name=name, sha256=sha256 * 64, **about)


@pytest.fixture
def datasets(sessions: Sessions) -> dict[str, str]:
    """A dataset of each owner, large enough to train on; and `base`, which the operator installed."""
    with sessions.write() as session:
        session.add(prior("", "base", "0"))
        return {who: add_dataset(session, *(new_image(f"{who}{n}") for n in range(20)), owner=who) for who in OWNERS}


@pytest.fixture
def train(sessions: Sessions, datasets: dict[str, str]) -> Callable[[str, str], str]:
    """Has an owner train `wrists`, in no time; returns the training."""

    def trained(owner: str, sha256: str) -> str:
        with sessions.write() as session:
            spec = TrainingSpec(dataset_id=datasets[owner], name="wrists", crop=32)
            training = trainings.create(session, owner, spec)
        with sessions.write() as session:
            work = stretches.claim(session, "worker", 30, hashes=[], jobs_wait=False)
            assert stretches.finish(session, work, prior("", "wrists", sha256, training.id))
        return training.id

    return trained


def test_two_projects_call_their_priors_alike_and_each_has_its_own(
    sessions: Sessions, train: Callable[[str, str], str], datasets: dict[str, str]
) -> None:
    for owner, sha256 in zip(OWNERS, "12", strict=True):
        train(owner, sha256)
    with sessions.write() as session:
        for owner, sha256 in zip(OWNERS, "12", strict=True):
            found = priors.find(session, owner, "wrists", hold=True)
            assert (found.owner, found.sha256) == (owner, sha256 * 64)
            spec = ExpansionSpec(dataset_id=datasets[owner], prior="wrists", canvas={"long_side": 64})
            assert jobs.create(session, owner, spec, found, 1000).resolved["prior_sha256"] == sha256 * 64
            assert priors.hashes(session)(owner, "wrists") == sha256 * 64
        assert {row.sha256[0] for row in session.query(Prior).where(priors.visible("knee"))} == {"0", "1"}
        assert {priors.hashes(session)(who, "base") for who in (*OWNERS, "other")} == {"0" * 64}


def test_a_prior_is_not_there_for_another_project(sessions: Sessions, train: Callable[[str, str], str]) -> None:
    train("knee", "1")
    for name in ("wrists", "nothing"):
        with sessions.write() as session:
            with pytest.raises(NotFound, match=f"^There is no prior {name!r}.$"):
                priors.get(session, "hand", name)
            with pytest.raises(NotFound, match=f"^There is no prior {name!r}.$"):
                priors.delete(session, "hand", name)
            with pytest.raises(Invalid, match=f"^There is no prior named {name!r}. Installed: base. `regrow"):
                priors.find(session, "hand", name)
    with sessions.write() as session:
        priors.delete(session, "knee", "wrists")


def test_jobs_of_another_project_do_not_hold_a_prior(
    sessions: Sessions, train: Callable[[str, str], str], datasets: dict[str, str]
) -> None:
    for owner, sha256 in zip(OWNERS, "12", strict=True):
        train(owner, sha256)
    with sessions.write() as session:
        spec = ExpansionSpec(dataset_id=datasets["knee"], prior="wrists", canvas={"long_side": 64})
        jobs.create(session, "knee", spec, priors.find(session, "knee", "wrists"), 1000)
    with sessions.write() as session, pytest.raises(Conflict, match="is not over and needs"):
        priors.delete(session, "knee", "wrists")
    with sessions.write() as session:
        priors.delete(session, "hand", "wrists")
        job = session.query(Job).one()
        waits = progress.of(session, job).waits_for
        session.delete(priors.get(session, "knee", "wrists"))
        session.flush()
        assert (waits, progress.of(session, job).waits_for) == (Wait.NO_WORKER, Wait.PRIOR_GONE)


def test_a_name_the_operator_gave_is_taken_for_all(sessions: Sessions, datasets: dict[str, str]) -> None:
    for owner in OWNERS:
        with sessions.write() as session, pytest.raises(Conflict, match="'base' is installed already"):
            trainings.create(session, owner, TrainingSpec(dataset_id=datasets[owner], name="base", crop=32))


def test_what_is_being_trained_elsewhere_takes_no_name(sessions: Sessions, datasets: dict[str, str]) -> None:
    for owner in OWNERS:
        with sessions.write() as session:
            trainings.create(session, owner, TrainingSpec(dataset_id=datasets[owner], name="wrists", crop=32))
        with sessions.write() as session, pytest.raises(Conflict, match="is being trained already"):
            trainings.create(session, owner, TrainingSpec(dataset_id=datasets[owner], name="wrists", crop=32))
    with sessions.read() as session:
        assert session.query(Dataset).count() == 2
