"""What a job would take: items, time, room."""

from functools import partial
from typing import Any

import pytest
from rows import PRIOR, add_dataset, claim, new_image, settle
from sqlalchemy import func, select

from shared import caps, estimates, jobs, priors, workers
from shared.db import Sessions
from shared.errors import Invalid
from shared.estimates import Estimate
from shared.figures import Meter
from shared.models import Item, Job, Prior
from shared.spec import ExpansionSpec, ResolvedSpec, footprint_key


@pytest.fixture
def dataset_id(sessions: Sessions) -> str:
    """Three images to train, one without a label, and one to validate; a prior."""
    with sessions.write() as session:
        session.add(Prior(name="builtin", sha256=PRIOR.sha256, native_size=128, multiple=16, size=10**7, card=""))
        images = [new_image(name) for name in "abc"]
        return add_dataset(session, *images, new_image("d", boxes=0), new_image("e", split="valid"))


def estimate(sessions: Sessions, dataset_id: str, free: int | None = 10**9, **spec: Any) -> Estimate:
    wanted = ExpansionSpec.model_validate({"dataset_id": dataset_id, **spec})
    with sessions.read() as session:
        return estimates.of(session, "local", wanted, priors.find(session, "local", wanted.prior), 1000, free)


def make(sessions: Sessions, dataset_id: str, **spec: Any) -> None:
    """A job of which every item took a second."""
    wanted = ExpansionSpec.model_validate({"dataset_id": dataset_id, **spec})
    with sessions.write() as session:
        jobs.create(session, "local", wanted, priors.find(session, "local", wanted.prior), 1000)
    for work in claim(sessions, 100):
        assert settle(sessions, work)


def test_a_guess_grows_with_the_steps_and_says_that_it_is_one(sessions: Sessions, dataset_id: str) -> None:
    few, many = (estimate(sessions, dataset_id, sampler={"steps": steps, "finish": 0}) for steps in (20, 40))
    assert (few.images, few.items, few.reused, few.basis) == (3, 6, 0, "guess")
    assert many.seconds == pytest.approx(2 * few.seconds)
    assert many.seconds > 0


def test_a_larger_canvas_takes_longer_but_less_so_than_its_area_grows(sessions: Sessions, dataset_id: str) -> None:
    def seconds(preset: str, **canvas: int) -> float:
        return estimate(sessions, dataset_id, sampler={"preset": preset}, canvas=canvas).seconds

    for preset in ("balanced", "fast"):
        assert seconds(preset) == seconds(preset, long_side=128)
        assert 1.5 < seconds(preset, long_side=256) / seconds(preset) < 4
        assert 3 < seconds(preset, long_side=448) / seconds(preset) < 10
    assert seconds("reference", long_side=256) == pytest.approx(4 * seconds("reference"))
    assert estimate(sessions, dataset_id, canvas={"long_side": 448}).long_side == 448
    assert estimate(sessions, dataset_id).long_side == 128


def test_what_was_made_here_before_is_measured(sessions: Sessions, dataset_id: str) -> None:
    make(sessions, dataset_id, sampler={"steps": 20, "finish": 0}, seed=7)
    found = estimate(sessions, dataset_id, sampler={"steps": 40, "finish": 0})
    assert (found.basis, found.seconds) == ("measured", pytest.approx(6 * 2.0))
    other = estimate(sessions, dataset_id, canvas={"long_side": 256})
    assert other.basis == "guess"


def test_what_was_finished_before_takes_no_time_again(sessions: Sessions, dataset_id: str) -> None:
    make(sessions, dataset_id, variants=1)
    found = estimate(sessions, dataset_id, variants=3)
    assert (found.items, found.reused, found.seconds) == (9, 3, pytest.approx(6.0))
    anew = estimate(sessions, dataset_id, variants=3, reuse=False)
    assert (anew.reused, anew.seconds) == (0, pytest.approx(9.0))


def test_workers_share_the_time(sessions: Sessions, dataset_id: str) -> None:
    alone = estimate(sessions, dataset_id)
    assert "No worker is there" in alone.warnings[0]
    with sessions.write() as session:
        for name in ("one", "two"):
            workers.seen(session, name, "gpu", "cpu")
        workers.seen(session, "three", "cpu", "cpu")
    shared = estimate(sessions, dataset_id)
    assert (shared.workers, shared.seconds) == (2, pytest.approx(alone.seconds / 2))
    assert not any("No worker" in warning for warning in shared.warnings)


def test_room_is_for_the_new_images_and_a_zip_of_all(sessions: Sessions, dataset_id: str) -> None:
    # Six new images of about 1,000 bytes, twice; five originals in the zip.
    assert estimate(sessions, dataset_id).bytes_needed == 12_000 + 5_000
    assert estimate(sessions, dataset_id, output={"include_originals": False}).bytes_needed == 12_000
    assert any("less room" in each for each in estimate(sessions, dataset_id, free=16_999).warnings)
    assert not any("less room" in each for each in estimate(sessions, dataset_id, free=17_000).warnings)
    assert not any("less room" in each for each in estimate(sessions, dataset_id, free=None).warnings)


@pytest.mark.parametrize("image_format", ["same", "png", "jpeg"])
def test_room_is_what_the_job_is_then_asked_for(sessions: Sessions, dataset_id: str, image_format: str) -> None:
    spec: dict[str, Any] = {"dataset_id": dataset_id, "output": {"image_format": image_format}}
    told = estimate(sessions, **spec).bytes_needed
    with sessions.write() as session:
        prior = priors.find(session, "local", "builtin")
        job = jobs.create(session, "local", ExpansionSpec.model_validate(spec), prior, 1000)
        assert caps.room_for_job(session, job) == told


def test_what_a_job_would_warn_of_is_told_before(sessions: Sessions, dataset_id: str) -> None:
    assert "1 images without a label are not expanded." in estimate(sessions, dataset_id).warnings


def test_what_a_job_would_refuse_is_refused_and_nothing_is_written(sessions: Sessions, dataset_id: str) -> None:
    with pytest.raises(Invalid, match="no split 'test'"):
        estimate(sessions, dataset_id, splits=["test"])
    estimate(sessions, dataset_id)
    with sessions.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
        assert session.scalar(select(func.count()).select_from(Item)) == 0


def both_are_seen(sessions: Sessions, small: Meter, large: Meter) -> None:
    """Two gpu workers tell what they know, beside one that makes no images."""
    with sessions.write() as session:
        workers.seen(session, "small", "gpu", "cuda:0, a small one", figures=small.read())
        workers.seen(session, "large", "cpu,gpu", "cuda:0, a large one", figures=large.read())
        workers.seen(session, "other", "cpu", "cpu")


def test_what_no_worker_has_the_memory_for_is_told_before(sessions: Sessions, dataset_id: str) -> None:
    small, large = Meter(), Meter()
    seen = partial(both_are_seen, sessions, small, large)

    def said(long_side: int = 128) -> list[str]:
        found = estimate(sessions, dataset_id, canvas={"long_side": long_side}).warnings
        return [warning for warning in found if "memory" in warning]

    small.too_large(PRIOR.sha256, 0)
    small.too_large(PRIOR.sha256, 512)
    small.too_large("another", 0)
    seen()
    assert said(1024) == [], "the large one may do it"
    large.too_large(PRIOR.sha256, 256)
    seen()
    assert said(128) == []
    (warning,) = said(512)
    assert "An image of 256 px with this prior did not fit the memory of any worker" in warning
    large.too_large(PRIOR.sha256, 0)
    seen()
    with pytest.raises(Invalid, match="no worker that is there has the memory for 'builtin'"):
        make(sessions, dataset_id)


def test_a_canvas_that_fits_no_worker_is_refused_where_all_of_them_know_what_fits(
    sessions: Sessions, dataset_id: str
) -> None:
    small, large = Meter(), Meter()
    seen = partial(both_are_seen, sessions, small, large)

    make(sessions, dataset_id, canvas={"long_side": 128})
    with sessions.read() as session:
        key = footprint_key(ResolvedSpec.model_validate(session.scalars(select(Job)).one().resolved))
    small.largest(key, 256)
    seen()
    assert estimate(sessions, dataset_id, canvas={"long_side": 1024}).long_side == 1024, "the large one may do it"
    large.largest(key, 512)
    seen()
    assert estimate(sessions, dataset_id, canvas={"long_side": 512}).long_side == 512
    with pytest.raises(Invalid, match=r"an image of 1024 px with the prior 'builtin'.* is 512 px: choose"):
        estimate(sessions, dataset_id, canvas={"long_side": 1024})
    fast = {"preset": "fast", "enter": 0.6}
    assert estimate(sessions, dataset_id, canvas={"long_side": 1024}, sampler=fast).long_side == 1024, "another kind"
    for meter in (small, large):
        meter.largest(key, 0)
    seen()
    with pytest.raises(Invalid, match="None fits"):
        estimate(sessions, dataset_id)
