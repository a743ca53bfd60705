"""Work whose files lie in a bucket, by workers that share nothing else."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select
from test_train import NOTHING, ask, counting, dataset, expanded, job, lessons, never, row, states, stopping, weights

from shared import items as life
from shared.bucket import Bucket
from shared.models import Dataset, Item, Job
from shared.states import ItemState, TrainingState
from shared.storage import prior_key, training_key
from worker.expand import expand_next
from worker.overlap import overlapping
from worker.studio import Studio
from worker.sweep import sweep
from worker.train import train_next

__all__ = ["dataset", "lessons"]  # fixtures of theirs


@pytest.fixture
def storage(bucket: Bucket) -> Bucket:
    return bucket


@pytest.fixture
def elsewhere(studio: Studio, s3_url: str, tmp_path: Path) -> Studio:
    """Another machine's worker."""
    return dataclasses.replace(studio, storage=Bucket(s3_url, tmp_path / "elsewhere", allow_http=True))


def test_a_training_that_stopped_goes_on_on_another_machine_and_its_prior_is_used_on_both(
    studio: Studio, elsewhere: Studio, dataset: Dataset, bucket: Bucket, tmp_path: Path
) -> None:
    training, done = ask(studio, dataset), 2
    assert train_next(stopping(studio, done + 1, NOTHING), never)
    stopped = row(studio, training)
    assert (stopped.state, stopped.token, stopped.attempts) == (TrainingState.PENDING, None, 0)
    assert bucket.exists(training_key(training, "work/checkpoint.pt"))

    ask(studio, dataset, "whole")
    rest, steps_of_rest = counting(elsewhere)
    whole, steps_of_whole = counting(studio)
    assert train_next(rest, never)
    assert row(studio, training).state == TrainingState.DONE
    assert train_next(whole, never)
    assert steps_of_rest() == steps_of_whole() - done, "it did not go on after the checkpoint"
    assert weights(studio, "wrists") == weights(elsewhere, "whole"), "it is not what it would have been"
    assert bucket.exists(prior_key(training) + "unet/config.json")
    for machine in (studio, elsewhere):
        made = job(machine, dataset, "wrists", seed=id(machine) % 1000)
        assert expanded(machine) == 1
        assert states(machine, made) == {ItemState.DONE: 1}
    left = {path.name for path in tmp_path.rglob("*.pt")}
    assert left == set(), "a training's copy stays on a machine that has done with it"
    sweep(studio.sessions, bucket)
    assert bucket.keys(training_key(training, "work/")) == []


def test_a_result_that_comes_after_the_lease_was_lost_leaves_no_object(
    studio: Studio, make_job: Callable[..., Job], bucket: Bucket
) -> None:
    made = make_job(variants=1, max_images=1)

    def steal() -> bool:
        with studio.sessions.write() as session:
            life.hand_back(session, session.scalars(select(Item.token)).one() or "")
        return False

    # It is to learn of it when it settles, and not by a renewal on the way there.
    late = dataclasses.replace(studio, stop=steal, settings=studio.settings.model_copy(update={"renew_seconds": 15.0}))
    with overlapping(lambda: None) as overlap:
        assert expand_next(late, overlap, lambda: None) == 1
    assert states(studio, made.id) == {ItemState.PENDING: 1}
    assert bucket.keys("jobs/") == []
