"""A tiny training in earnest: to a prior that jobs use, stopped and gone on with, given way, lost, failed."""

import dataclasses
import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from expanding import with_the_real_prior
from PIL import Image as Picture
from sqlalchemy import select, update

from samples.phantoms import write_dataset
from shared import items as life
from shared import jobs, leases, priors, trainings
from shared.db import now
from shared.models import Dataset, Image, Job, Prior, Training
from shared.spec import ExpansionSpec
from shared.states import ItemState, TrainingState
from shared.storage import prior_key, source_key, training_key
from shared.trainings import TrainingSpec
from worker import training as trainer
from worker.expand import expand_next
from worker.overlap import overlapping
from worker.studio import Studio
from worker.train import Meter, train_next
from worker.training import TrainingProgress, checkpoints

TINY = {
    "crop": 16,
    "image_side": 32,
    "denoiser_side": 16,
    "autoencoder_steps": 4,
    "autoencoder_batch": 2,
    "denoiser_steps": 4,
    "denoiser_batch": 2,
    "checkpoint_every": 2,
    "sample_every": 4,
    "samples": 4,
}
STEPS = 8


@pytest.fixture(scope="session")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of phantoms, enough of them for training."""
    path = tmp_path_factory.mktemp("lessons") / "lessons.zip"
    write_dataset(path, images=28, seed=3, size=(64, 72))
    return path


@pytest.fixture
def dataset(ingest: Callable[[Path], Dataset], lessons: Path) -> Dataset:
    return ingest(lessons)


def ask(studio: Studio, dataset: Dataset, name: str = "wrists", **more: Any) -> str:
    """A training that begins with the prior named builtin, unless it says otherwise: that is the smallest there is."""
    wanted = {"dataset_id": dataset.id, "name": name, "init": "builtin", **TINY, **more}
    spec = TrainingSpec.model_validate(wanted)
    with studio.sessions.write() as session:
        return trainings.create(session, "local", spec).id


def row(studio: Studio, training: str) -> Training:
    with studio.sessions.read() as session:
        return session.get_one(Training, training)


def job(studio: Studio, dataset: Dataset, prior: str, **more: Any) -> str:
    wanted = {
        "dataset_id": dataset.id,
        "prior": prior,
        "max_images": 1,
        "variants": 1,
        "sampler": {"steps": 2, "finish": 1},
    }
    with studio.sessions.write() as session:
        spec = ExpansionSpec.model_validate(wanted | {"canvas": {"long_side": 32}} | more)
        return jobs.create(session, "local", spec, priors.find(session, "local", prior), 1000).id


def states(studio: Studio, job_id: str) -> dict[ItemState, int]:
    with studio.sessions.read() as session:
        return life.counts(session, job_id)


def stopping(studio: Studio, after: int, then: Callable[[], object] = lambda: None) -> Studio:
    """A worker that, after so many steps, sees that it is to end; `then` is done at that moment."""
    # It is also asked before it claims.
    asked = iter(range(10_000))

    def stop() -> bool:
        if next(asked) != after:
            return False
        then()
        return then is NOTHING

    return dataclasses.replace(studio, stop=stop)


def NOTHING() -> None:  # noqa: N802  (a value that happens to be callable)
    """What is done where the worker is only to end."""


def never() -> None:
    pytest.fail("there was nobody to make way for")


def counting(studio: Studio) -> tuple[Studio, Callable[[], int]]:
    """A worker, and how often it was asked whether it is to end: once a step, and once before."""
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return False

    return dataclasses.replace(studio, stop=stop), lambda: len(asked)


def test_it_ends_as_a_prior_that_a_job_uses_at_once(studio: Studio, dataset: Dataset) -> None:
    training = ask(studio, dataset, licence="CC0", init=None)
    assert train_next(studio, never)
    seen = row(studio, training)
    assert (seen.state, seen.step, seen.steps, seen.error) == (TrainingState.DONE, STEPS, STEPS, None)
    assert seen.loss is not None
    assert seen.step_seconds is not None
    with studio.sessions.read() as session:
        prior = priors.get(session, "local", "wrists")
        learned = session.scalars(select(Image.sha256).where(Image.dataset_id == dataset.id, Image.split == "train"))
        assert priors.trained_on(session, prior) == set(learned)
    assert (prior.training_id, prior.native_size) == (training, TINY["denoiser_side"])
    assert "CC0" in prior.card
    card = json.loads(studio.storage.read(prior_key(training) + priors.FACTS))
    assert (card["name"], card["about"]["dataset"], card["about"]["training"]) == ("wrists", "lessons", training)
    samples = Picture.open(io.BytesIO(studio.storage.read(training_key(training, "preview.png"))))
    assert samples.width >= TINY["denoiser_side"]
    assert json.loads(studio.storage.read(training_key(training, "history.json"))) == card["history"]
    made = job(studio, dataset, "wrists")
    assert expanded(studio) == 1
    assert states(studio, made) == {ItemState.DONE: 1}
    assert not train_next(studio, never)


@pytest.mark.parametrize(("denoising", "done"), [(False, 2), (True, 6)])
def test_who_is_told_to_end_hands_it_back_and_the_next_goes_on_from_the_checkpoint(
    studio: Studio, dataset: Dataset, *, denoising: bool, done: int
) -> None:
    training = ask(studio, dataset)
    # In between, it is asked once for each picture, whose latents it then has.
    latents = row(studio, training).images if denoising else 0
    assert train_next(stopping(studio, done + latents + 1, NOTHING), never)
    seen = row(studio, training)
    assert (seen.state, seen.token, seen.attempts, seen.lapses) == (TrainingState.PENDING, None, 0, 0)
    assert studio.storage.exists(training_key(training, "work/checkpoint.pt"))
    whole, steps_of_whole = counting(studio)
    ask(studio, dataset, "whole")
    next_one, steps_of_rest = counting(studio)
    assert train_next(next_one, never)
    assert row(studio, training).state == TrainingState.DONE
    assert train_next(whole, never)
    assert steps_of_rest() == steps_of_whole() - done - latents, "it did not go on after the checkpoint"
    assert weights(studio, "wrists") == weights(studio, "whole"), "it is not what it would have been"


def test_a_cancel_stops_it_at_the_next_checkpoint_at_the_latest(studio: Studio, dataset: Dataset) -> None:
    training = ask(studio, dataset)

    def cancel() -> None:
        with studio.sessions.write() as session:
            trainings.cancel(session, session.get_one(Training, training))

    assert train_next(stopping(studio, 3, cancel), never)
    seen = row(studio, training)
    assert (seen.state, seen.step) == (TrainingState.CANCELLED, 2)
    assert not train_next(studio, never)
    with studio.sessions.write() as session:
        trainings.retry(session, session.get_one(Training, training))
    assert train_next(studio, never)
    assert row(studio, training).state == TrainingState.DONE


def test_between_checkpoints_it_makes_way_for_jobs_and_goes_on_when_they_are_over(
    studio: Studio, dataset: Dataset
) -> None:
    training = ask(studio, dataset)
    made = job(studio, dataset, "builtin")
    told: list[TrainingState] = []
    assert train_next(studio, lambda: told.append(row(studio, training).state))
    seen = row(studio, training)
    assert told == [TrainingState.PENDING], "others were woken before it was handed back"
    assert (seen.state, seen.step, seen.yielded_at is None) == (TrainingState.PENDING, TINY["checkpoint_every"], False)
    assert not train_next(stalled(studio, training), never), "it did not rest"
    assert expanded(studio) == 1
    assert states(studio, made) == {ItemState.DONE: 1}
    assert train_next(studio, never)
    assert row(studio, training).state == TrainingState.DONE


def test_jobs_that_wait_for_ever_do_not_starve_it(studio: Studio, dataset: Dataset) -> None:
    training = ask(studio, dataset)
    job(studio, dataset, "builtin")
    ways: list[int] = []
    for _ in range(STEPS):
        if not train_next(rested(studio, training), lambda: ways.append(row(studio, training).step)):
            break
    assert row(studio, training).state == TrainingState.DONE
    assert ways == [2, 4, 6], "at each checkpoint but the last"


def test_jobs_that_it_could_not_make_are_not_made_way_for(studio: Studio, dataset: Dataset) -> None:
    ask(studio, dataset)
    made = job(studio, dataset, "builtin")
    with studio.sessions.write() as session:
        row = session.get_one(Job, made)
        row.resolved = row.resolved | {"prior_sha256": "0" * 64}
    assert train_next(studio, never)


def test_who_lost_the_lease_stops_and_leaves_it_to_the_other(studio: Studio, dataset: Dataset) -> None:
    training = ask(studio, dataset)

    def steal() -> None:
        with studio.sessions.write() as session:
            session.execute(update(Training).values(token="other", step=1))

    assert train_next(stopping(studio, 3, steal), never)
    seen = row(studio, training)
    assert (seen.state, seen.token, seen.step) == (TrainingState.RUNNING, "other", 1)
    kept = checkpoints.load(studio.storage.path(training_key(training, "work/checkpoint.pt"))) or {}
    assert (kept["stage"], kept["step"]) == ("autoencoder", 4), "it went on after the next checkpoint"


def test_of_a_training_that_is_deleted_nothing_stays(studio: Studio, dataset: Dataset) -> None:
    training = ask(studio, dataset)

    def delete() -> None:
        with studio.sessions.write() as session:
            trainings.delete(session, session.get_one(Training, training))

    assert train_next(stopping(studio, 5, delete), never)
    assert not studio.storage.path(training_key(training)).exists()


@with_the_real_prior
def test_it_starts_from_an_installed_prior(studio: Studio, dataset: Dataset) -> None:
    training = ask(studio, dataset, init="builtin", autoencoder_steps=0)
    assert train_next(studio, never)
    assert row(studio, training).state == TrainingState.DONE
    card = json.loads(studio.storage.read(prior_key(training) + priors.FACTS))
    assert card["about"]["init"]["name"] == "builtin"
    assert "Began with the prior builtin (SHA-256 " in studio.storage.read(prior_key(training) + priors.CARD).decode()
    with studio.sessions.read() as session:
        known = {name: priors.trained_on(session, priors.get(session, "local", name)) for name in ("builtin", "wrists")}
        mine = set(session.scalars(select(Image.sha256).where(Image.dataset_id == dataset.id, Image.split == "train")))
    assert len(known["builtin"]) > 1000
    assert known["wrists"] == known["builtin"] | mine, "what its parent has learned from, it may know"


def test_a_prior_to_begin_with_whose_card_is_of_other_weights_ends_it_and_it_says_so(
    studio: Studio, dataset: Dataset, prior_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(prior_folder, tmp_path / "changed"))
    (folder / priors.FACTS).write_text(json.dumps({"about": {}, "weights": {"unet/nothing.safetensors": "0" * 64}}))
    with studio.sessions.write() as session:
        priors.register(session, "changed", folder, added=True)
    training = ask(studio, dataset, init="changed")
    assert train_next(studio, never)
    seen = row(studio, training)
    assert (seen.state, seen.attempts) == (TrainingState.FAILED, 1)
    assert "is the card of other weights" in (seen.error or {})["detail"]


def test_pictures_without_contrast_end_it_and_it_says_so(studio: Studio, dataset: Dataset) -> None:
    with studio.sessions.read() as session:
        found = session.scalars(select(Image).where(Image.dataset_id == dataset.id)).all()
    for number, image in enumerate(found):
        # Black, and yet each another: one grey level in one place.
        pixels = np.zeros((40, 48), np.uint8)
        pixels.flat[number] = 1
        black = io.BytesIO()
        Picture.fromarray(pixels).save(black, "PNG")
        studio.storage.write(source_key(image.sha256), black.getvalue())
    training = ask(studio, dataset)
    assert train_next(studio, never)
    seen = row(studio, training)
    assert (seen.state, seen.attempts) == (TrainingState.FAILED, 1)
    assert "contrast" in (seen.error or {})["detail"]


def test_an_original_that_is_gone_is_tried_three_times_and_named(studio: Studio, dataset: Dataset) -> None:
    training = ask(studio, dataset)
    with studio.sessions.read() as session:
        sha256 = session.scalars(select(Image.sha256).where(Image.split == "train")).first()
    studio.storage.delete(source_key(sha256 or ""))
    for _ in range(leases.MAX_ATTEMPTS):
        assert train_next(studio, never)
    assert not train_next(studio, never)
    seen = row(studio, training)
    assert (seen.state, seen.attempts, (seen.error or {})["type"]) == (TrainingState.FAILED, 3, "storage")
    assert sha256 in (seen.error or {})["detail"]


def test_a_full_disk_is_not_its_fault_and_its_checkpoint_stays(
    studio: Studio, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = ask(studio, dataset)
    whole = os.fsync
    calls = iter(range(10_000))

    def full(descriptor: int) -> None:
        if next(calls) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        train_next(studio, never)
    monkeypatch.setattr(os, "fsync", whole)
    seen = row(studio, training)
    assert (seen.state, seen.attempts, seen.token) == (TrainingState.PENDING, 0, None)
    assert train_next(studio, never)
    assert row(studio, training).state == TrainingState.DONE


def test_a_prior_whose_name_was_taken_meanwhile_is_kept_until_it_is_free(studio: Studio, dataset: Dataset) -> None:
    training = ask(studio, dataset)
    other = Prior(name="wrists", sha256="f" * 64, native_size=64, multiple=16, size=1, card="")

    def take() -> None:
        with studio.sessions.write() as session:
            session.add(other)

    assert train_next(stopping(studio, 3, take), never)
    seen = row(studio, training)
    assert (seen.state, (seen.error or {})["type"]) == (TrainingState.FAILED, "conflict")
    with studio.sessions.write() as session:
        session.delete(session.get_one(Prior, ("", "wrists")))
    with studio.sessions.write() as session:
        trainings.retry(session, session.get_one(Training, training))
    again, steps = counting(studio)
    assert train_next(again, never)
    assert row(studio, training).state == TrainingState.DONE
    assert steps() == 1, "it was trained once more"


@pytest.mark.parametrize(
    ("error", "state", "kind"),
    [
        (MemoryError(), TrainingState.FAILED, "out_of_memory"),
        (ZeroDivisionError("a defect"), TrainingState.PENDING, "unexpected"),
    ],
)
def test_what_it_raises_itself_is_told(
    studio: Studio,
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    state: TrainingState,
    kind: str,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(trainer, "train", broken)
    training = ask(studio, dataset)
    assert train_next(studio, never)
    seen = row(studio, training)
    assert (seen.state, seen.attempts, (seen.error or {})["type"]) == (state, 1, kind)


def test_the_pace_is_that_of_the_latest_steps() -> None:
    clock = iter([0.0, 100.0, 102.0, 102.5, 106.0])
    meter = Meter(now=lambda: next(clock))
    for stage, step in (("autoencoder", 1), ("autoencoder", 2), ("latents", 2), ("denoiser", 3)):
        meter.note(TrainingProgress(stage, step, 10, float("nan"), checkpointed=False))  # type: ignore[arg-type]
    assert (meter.noted.step, meter.noted.loss) == (3, None)
    assert meter.noted.step_seconds == pytest.approx((2.0 + 3.5) / 2)


def expanded(studio: Studio) -> int:
    """Makes the items of one claim; returns how many."""
    with overlapping(lambda: None) as overlap:
        return expand_next(studio, overlap, lambda: None)


def weights(studio: Studio, name: str) -> dict[str, bytes]:
    with studio.sessions.read() as session:
        folder, _ = priors.made_here(session, studio.storage)[priors.get(session, "local", name).training_id]
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.safetensors")}


def stalled(studio: Studio, training: str) -> Studio:
    """As if it had been at work for long before it made way."""
    with studio.sessions.write() as session:
        session.execute(update(Training).where(Training.id == training).values(claimed_at=now() - 3600))
    return studio


def rested(studio: Studio, training: str) -> Studio:
    """As if it had made way long ago."""
    with studio.sessions.write() as session:
        long_ago = {"claimed_at": Training.claimed_at - 7200, "yielded_at": Training.yielded_at - 7200}
        session.execute(update(Training).where(Training.id == training).values(**long_ago))
    return studio
