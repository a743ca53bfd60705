"""Claimed items become images: the same bytes whatever happened in between, and one item's fault stays its own."""

import dataclasses
import errno
import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from expanding import Prior, expand_next, items, run, with_prior, with_the_real_prior
from live import until
from PIL import Image as Picture
from sqlalchemy import select
from sqlalchemy.orm import undefer
from tiny_prior import write_tiny_prior

from samples.phantoms import write_dataset
from shared import items as life
from shared import jobs, likeness, plan
from shared.measures import MEASURES
from shared.models import Image, Item, Job
from shared.spec import ResolvedSpec
from shared.states import ItemState
from shared.storage import Folder, source_key
from worker.memory import Endless
from worker.priors.cache import PriorCache
from worker.priors.diffusers import BadPrior, load
from worker.studio import Batches, Rest, Studio

MakeJob = Callable[..., Job]
Repack = Callable[[dict[str, bytes | None]], Path]


QUICK = {"steps": 2, "finish": 0}


class Device(Endless):
    """One of which so many bytes are free, and of which an image takes so many."""

    def __init__(self, free: int, takes: int | None = None) -> None:
        self._free, self._takes = free, takes

    def free(self) -> int:
        return self._free

    def total(self) -> int:
        return 24 * 10**9

    def taken(self) -> int | None:
        return self._takes


def hashes(studio: Studio) -> dict[tuple[str, int], str | None]:
    return {(item.image.path, item.variant): item.result_sha256 for item in items(studio)}


@with_the_real_prior
def test_every_item_ends_done_with_an_image_of_its_sources_size_and_mode(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=2, sampler={"steps": 3})
    run(studio)
    made = items(studio)
    assert [item.state for item in made] == [ItemState.DONE] * 6
    for item in made:
        picture = Picture.open(io.BytesIO(studio.storage.read(item.result_key or "")))
        assert (picture.size, picture.mode) == ((item.image.width, item.image.height), item.image.mode)
        assert item.measures is not None
        assert 0.2 < item.measures["hidden_share"] < 0.95
        assert set(item.measures) == set(MEASURES) - {"psnr", "psnr_measured", "seconds"}
        assert 0 < item.measures["change"] < 0.5
        assert abs(item.measures["drift"]) < item.measures["change"]
        assert 0 < item.measures["source_distance"] < item.measures["nearest_distance"] + 1
        assert item.measures["psnr_hidden"] < item.measures["psnr_boxes"] < 60
        assert -1 < item.measures["ssim_boxes"] < 1
    assert len(set(hashes(studio).values())) == 6


def test_a_new_image_is_compared_with_the_others_of_its_dataset_and_not_with_copies_of_its_source(
    studio: Studio, make_job: MakeJob, repack: Repack, phantoms: Path
) -> None:
    with zipfile.ZipFile(phantoms) as source:
        names = sorted(name for name in source.namelist() if name.startswith("images/train"))
        data, label = source.read(names[0]), source.read(names[0].replace("images", "labels").replace(".jpg", ".txt"))
    copy = {"images/train/copy.jpg": data, "labels/train/copy.txt": label}
    make_job(repack(copy), variants=1, max_images=1)
    run(studio)
    (item,) = items(studio)
    with studio.sessions.read() as session:
        images = session.scalars(select(Image).options(undefer(Image.likeness)).order_by(Image.path)).all()
    assert len(images) == 5
    made = Picture.open(io.BytesIO(studio.storage.read(item.result_key or "")))
    known = {image.sha256: image.likeness or b"" for image in images}
    own = known.pop(item.image.sha256)
    assert len(known) == 3
    seen = likeness.likeness(made)
    assert item.measures is not None
    to_others = likeness.distances(seen, likeness.rows(list(known.values())))
    assert item.measures["nearest_distance"] == pytest.approx(float(to_others.min()), abs=1e-3)
    assert item.measures["source_distance"] == pytest.approx(
        float(likeness.distances(seen, likeness.rows([own]))[0]), abs=1e-3
    )


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["inpaint", "gaussian_blur", "motion_blur", "downsample", "jpeg"])
def test_labelled_pixels_of_a_png_are_the_originals_whatever_the_operator_and_its_noise(
    studio: Studio, make_job: MakeJob, kind: str, noise: float
) -> None:
    make_job(variants=1, output={"image_format": "png"}, operator={"kind": kind, "noise": noise}, sampler=QUICK)
    run(studio)
    made = items(studio)
    assert [item.state for item in made] == [ItemState.DONE] * 3
    for item in made:
        new = np.asarray(Picture.open(io.BytesIO(studio.storage.read(item.result_key or ""))))
        old = np.asarray(Picture.open(io.BytesIO(studio.storage.read(source_key(item.image.sha256)))))
        assert not np.array_equal(new, old)
        for x0, y0, x1, y1 in plan.corners(item.image.boxes):
            height, width = old.shape[:2]
            box = np.s_[int(y0 * height) : int(np.ceil(y1 * height)), int(x0 * width) : int(np.ceil(x1 * width))]
            assert np.array_equal(new[box], old[box])


def test_where_no_pixels_are_hidden_the_measures_tell_the_picture_from_what_was_known_of_it(
    studio: Studio, make_job: MakeJob
) -> None:
    from worker.expand import _sketch
    from worker.sketch import of_the_canvas

    make_job(variants=1, max_images=1, operator={"kind": "downsample", "factor": 8})
    with studio.sessions.write() as session:
        (work,) = life.claim(session, "test", 1, 30, priors=[studio.prior_folders["builtin"][1]])
    sketch = _sketch(studio, work)
    sketch = dataclasses.replace(sketch, x=sketch.x / 2)
    checkers = 0.1 * (-1.0) ** np.indices(sketch.x.shape).sum(0, dtype=np.float32)
    measures = of_the_canvas(sketch, (sketch.x + checkers).astype(np.float32))
    measures = {name: measures[name] for name in ("psnr", "psnr_measured", "psnr_boxes")}
    assert measures == {
        "psnr": pytest.approx(26.02, abs=0.01),
        "psnr_measured": pytest.approx(70, abs=30),
        "psnr_boxes": pytest.approx(26.02, abs=0.01),
    }
    run(studio)


def test_the_same_request_gives_the_same_bytes_in_any_order(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=2)
    run(studio)
    first = hashes(studio)
    with studio.sessions.write() as session:
        for item in session.scalars(select(Item)):
            item.state = ItemState.PENDING
        # Backwards: the last item is claimed first.
        session.flush()
        ids = [item.id for item in items(studio)]
        for item in session.scalars(select(Item)):
            item.id = 1000 - ids.index(item.id)
    run(studio)
    assert hashes(studio) == first


def test_a_batch_stopped_between_steps_goes_back_and_ends_with_the_same_bytes(
    studio: Studio, make_job: MakeJob
) -> None:
    make_job(variants=1, max_images=1)
    run(studio)
    undisturbed = hashes(studio)
    make_job(variants=1, max_images=1)
    asked = iter([False, True])
    assert expand_next(dataclasses.replace(studio, stop=lambda: next(asked))) == 1
    stopped = items(studio)[-1]
    assert (stopped.state, stopped.attempts, stopped.lapses) == (ItemState.PENDING, 0, 0)
    run(studio)
    assert items(studio)[-1].result_sha256 == next(iter(undisturbed.values()))


def test_a_cancel_ends_what_is_being_made_when_its_worker_next_looks(studio: Studio, make_job: MakeJob) -> None:
    job_id = make_job(variants=1, max_images=1, sampler={"steps": 200, "finish": 0}).id
    folder, _ = studio.prior_folders["builtin"]
    real, steps = studio.priors.get(folder, "cpu"), []

    def eps(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        steps.append(t)
        if len(steps) == 2:
            with studio.sessions.write() as session:
                jobs.cancel(session, session.get_one(Job, job_id))
        if len(steps) > 2:
            time.sleep(0.05)
        return real.eps(z, t)

    soon = studio.settings.model_copy(update={"renew_seconds": 0.02})
    run(dataclasses.replace(with_prior(studio, eps=eps), settings=soon))
    assert len(steps) < 100
    with studio.sessions.write() as session:
        assert jobs.conclude(session) == [job_id]
    (item,) = items(studio)
    assert (item.state, item.attempts, item.lapses, item.result_key) == (ItemState.CANCELLED, 0, 0, None)


def test_others_are_woken_while_the_first_items_are_sampled_if_more_waits(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=2, max_images=1)
    real = studio.priors.get(studio.prior_folders["builtin"][0], "cpu")
    seen: list[list[ItemState]] = []

    def eps(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        until(lambda: bool(seen), 60, "others are woken")
        return real.eps(z, t)

    expand_next(with_prior(studio, eps=eps), wake=lambda: seen.append([item.state for item in items(studio)]))
    assert seen == [[ItemState.RUNNING, ItemState.PENDING]]
    expand_next(studio, wake=lambda: seen.append([]))
    assert len(seen) == 1


def test_a_worker_told_to_end_once_it_has_claimed_hands_its_items_back(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=2, max_images=1)

    def told_to_end(*_: object) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        expand_next(with_prior(studio, eps=told_to_end))
    assert [(item.state, item.lease_until, item.lapses) for item in items(studio)] == [(ItemState.PENDING, None, 0)] * 2


def test_a_missing_original_fails_its_item_only(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1)
    gone = items(studio)[0]
    studio.storage.delete(source_key(gone.image.sha256))
    run(studio)
    states = {item.id: (item.state, item.attempts) for item in items(studio)}
    assert states.pop(gone.id) == (ItemState.FAILED, 3)
    assert set(states.values()) == {(ItemState.DONE, 0)}
    assert (items(studio)[0].error or {})["type"] == "storage"


def test_a_sampler_that_gives_nan_fails_the_item_naming_step_and_preset(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, max_images=1)
    run(with_prior(studio, eps=lambda z, t: z * float("nan")))
    (item,) = items(studio)
    assert item.state == ItemState.FAILED
    assert item.error is not None
    assert item.error["type"] == "numerical_fault"
    assert "step 1" in item.error["detail"]
    assert "balanced@4" in item.error["detail"]


def test_the_preset_reference_samples_each_item_alone_and_is_named_when_it_breaks(
    studio: Studio, make_job: MakeJob
) -> None:
    make_job(variants=1, sampler={"preset": "reference", "steps": 2})
    # As on a GPU, where a batch of three is claimed at once; the arithmetic still runs on the CPU.
    sizes: list[int] = []
    folder, _ = studio.prior_folders["builtin"]
    real = studio.priors.get(folder, "cpu")

    def eps(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        sizes.append(len(z))
        return real.eps(z, t) if len(sizes) <= 4 else z * float("nan")

    assert expand_next(dataclasses.replace(with_prior(studio, eps=eps), batches=Batches(3))) == 3
    assert sizes == [1, 1, 1, 1, 1]
    *done, broken = items(studio)
    assert [item.state for item in done] == [ItemState.DONE] * 2
    assert [(item.made_by or {}).get("batch") for item in done] == [1, 1]
    assert (broken.error or {})["type"] == "numerical_fault"
    assert "reference@1" in (broken.error or {})["detail"]


def test_in_a_batch_only_the_item_at_fault_fails(studio: Studio, make_job: MakeJob) -> None:
    # Begun with noise, by which an item can be told.
    from_noise = {"steps": 3, "enter": 1, "finish": 1}
    make_job(variants=1, sampler=from_noise)
    run(studio)
    alone = hashes(studio)
    make_job(variants=1, sampler=from_noise)
    folder, _ = studio.prior_folders["builtin"]
    real = studio.priors.get(folder, "cpu")
    culprit = items(studio)[-1]

    def eps(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        start = torch.randn(z.shape[1:], generator=torch.Generator().manual_seed(culprit.seed))
        if any(torch.equal(row, start) for row in z.detach()):
            raise RuntimeError("this one")
        return real.eps(z, t)

    # A batch of three, as on a GPU; the arithmetic still runs on the CPU.
    batched = dataclasses.replace(with_prior(studio, eps=eps), batches=Batches(3))
    assert expand_next(batched) == 3
    *others, failed = items(studio)[3:]
    assert [item.state for item in others] == [ItemState.DONE] * 2
    assert (failed.state, failed.attempts) == (ItemState.PENDING, 1)
    assert {item.result_sha256 for item in others} <= set(alone.values())


@pytest.mark.parametrize(
    "full", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_batch_that_does_not_fit_the_memory_is_halved_and_stays_so(
    studio: Studio, make_job: MakeJob, full: RuntimeError
) -> None:
    make_job(variants=2)
    run(studio)
    alone = hashes(studio)
    job = make_job(variants=2)
    folder, _ = studio.prior_folders["builtin"]
    real, tried = studio.priors.get(folder, "cpu"), []

    def eps(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        tried.append(len(z))
        if len(z) > 2:
            raise full
        return real.eps(z, t)

    batched = dataclasses.replace(with_prior(studio, eps=eps), batches=Batches(6))
    run(batched)
    made = [item for item in items(studio) if item.job_id == job.id]
    assert [(item.state, item.attempts) for item in made] == [(ItemState.DONE, 0)] * 6
    assert tried[:2] == [6, 3]
    assert max(tried[3:]) <= 3
    spec = ResolvedSpec.model_validate(job.resolved)
    assert batched.batches.limit(spec, None) == 1, "the next claims only as many as did fit"
    assert {(item.image.path, item.variant) for item in made} == set(alone)


def test_an_image_that_does_not_fit_the_memory_alone_fails_at_once(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, max_images=1)

    def eps(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    small = dataclasses.replace(with_prior(studio, eps=eps), memory=Device(free=10**9, takes=5 * 10**8))
    run(small)
    (item,) = items(studio)
    assert (item.state, item.attempts, (item.error or {})["type"]) == (ItemState.FAILED, 1, "out_of_memory")
    assert (item.error or {})["detail"] == (
        "One image of 64 px with the prior builtin does not fit the memory of cpu: it takes 2,647,483,648 bytes or "
        "more; 1,000,000,000 of 24,000,000,000 bytes are free. Choose a smaller canvas.long_side."
    )
    (_, builtin) = studio.prior_folders["builtin"]
    assert small.meter.read()["too_large"] == {builtin: 64}


def test_how_many_go_at_once_grows_with_what_is_known_of_the_memory(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=2, sampler=QUICK)
    folder, _ = studio.prior_folders["builtin"]
    real, sizes = studio.priors.get(folder, "cpu"), []

    def eps(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        sizes.append(len(z))
        return real.eps(z, t)

    memory = Device(free=8 * 10**9, takes=2 * 10**9)
    batches = Batches(256, memory, reserve=10**9)
    measured = dataclasses.replace(with_prior(studio, eps=eps), memory=memory, batches=batches)
    run(measured)
    foreseen, *sizes = sizes
    assert (foreseen, sizes) == (1, [1, 1, 3, 3, 2, 2])
    made = items(studio)
    assert [(item.made_by or {})["batch"] for item in made] == [1, 3, 3, 3, 2, 2]


def test_a_job_says_how_many_go_at_once_where_there_is_room(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=2, sampler=QUICK | {"batch": 4})
    assert expand_next(dataclasses.replace(studio, batches=Batches(256, Device(free=0)))) == 4
    assert expand_next(studio) == 1, "a CPU takes one at a time"
    assert [(item.made_by or {}).get("batch") for item in items(studio)] == [4, 4, 4, 4, 1, None]


def test_other_priors_make_room_before_an_image_fails(studio: Studio, make_job: MakeJob, tmp_path: Path) -> None:
    make_job(variants=1, max_images=1, sampler=QUICK)
    write_tiny_prior(tmp_path / "other")
    real = studio.priors

    def eps(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if len(cache.loaded("cpu")) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real.get(folder, "cpu").eps(z, t)

    folder, _ = studio.prior_folders["builtin"]
    cache = PriorCache(lambda path, device: Prior(real.get(path, device), eps=eps))  # type: ignore[arg-type, return-value] # it has all that a prior has
    cache.get(tmp_path / "other", "cpu")
    run(dataclasses.replace(studio, priors=cache))
    (item,) = items(studio)
    assert (item.state, item.attempts) == (ItemState.DONE, 0)
    assert cache.loaded("cpu") == {folder.resolve()}


def test_what_is_loaded_is_let_go_when_there_is_nothing_to_do(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, max_images=1, sampler=QUICK)
    now = [0.0]
    cache = PriorCache(load)
    idle = dataclasses.replace(studio, priors=cache, rest=Rest(lambda: now[0]))
    run(idle)
    now[0] = studio.settings.prior_idle_seconds - 1
    idle.clear_up()
    assert len(cache.loaded("cpu")) == 1
    now[0] += 1
    idle.clear_up()
    assert cache.loaded("cpu") == set()


def test_an_item_of_another_prior_waits_and_is_not_made_with_this_one(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, max_images=1)
    folder, _ = studio.prior_folders["builtin"]
    run(dataclasses.replace(studio, prior_folders={"builtin": (folder, "0" * 64)}))
    (item,) = items(studio)
    assert (item.state, item.attempts, item.started_at) == (ItemState.PENDING, 0, None)


def test_a_result_that_comes_after_the_lease_was_lost_leaves_no_file(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, max_images=1)

    def steal() -> bool:
        with studio.sessions.write() as session:
            life.hand_back(session, session.scalars(select(Item.token)).one() or "")
        return False

    assert expand_next(dataclasses.replace(studio, stop=steal)) == 1
    (item,) = items(studio)
    assert item.state == ItemState.PENDING
    assert not list(studio.storage.root.glob("jobs/**/*.*"))


@with_the_real_prior
def test_the_worker_hides_what_the_plan_says(studio: Studio, make_job: MakeJob) -> None:
    """With the whole picture as its measurement the model can at best copy; hidden pixels come out different."""
    job = make_job(variants=1, max_images=1, blend="none", output={"image_format": "png"}, sampler={"steps": 40})
    run(studio)
    (item,) = items(studio)
    keep, placement = plan.keep_mask(
        ResolvedSpec.model_validate(job.resolved),
        plan.Labels(item.image.boxes),
        item.image.width,
        item.image.height,
        item.seed,
    )
    assert item.measures is not None
    assert item.measures["psnr_kept"] > item.measures["psnr_hidden"] + 2
    inside = keep[placement.top :][: placement.height, placement.left :][:, : placement.width]
    assert item.measures["hidden_share"] == pytest.approx(1 - inside.mean(), abs=1e-3)


def test_a_damaged_original_fails_its_item_at_once(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, max_images=1)
    (item,) = items(studio)
    studio.storage.write(source_key(item.image.sha256), b"not an image any more")
    run(studio)
    (item,) = items(studio)
    assert (item.state, (item.error or {})["type"]) == (ItemState.FAILED, "bad-image")


def test_real_x_rays_come_out_at_their_own_size(
    studio: Studio, make_job: MakeJob, fracatlas: Path, tmp_path: Path
) -> None:
    path = tmp_path / "real.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for image in sorted((fracatlas / "images" / "valid").iterdir())[:2]:
            archive.write(image, f"images/train/{image.name}")
            label = f"{image.stem}.txt"
            archive.write(fracatlas / "labels" / "valid" / label, f"labels/train/{label}")
    make_job(path, variants=1)
    run(studio)
    made = items(studio)
    assert [item.state for item in made] == [ItemState.DONE] * 2
    for item in made:
        picture = Picture.open(io.BytesIO(studio.storage.read(item.result_key or "")))
        assert picture.size == (item.image.width, item.image.height)


@pytest.mark.slow
@with_the_real_prior
def test_a_canvas_larger_than_the_prior_gives_images_of_their_own_size_whose_boxes_are_not_told_by_their_sharpness(
    studio: Studio, make_job: MakeJob, tmp_path: Path
) -> None:
    path = tmp_path / "large.zip"
    write_dataset(path, images=2, seed=1, size=(213, 260))
    sampler = {"preset": "balanced", "steps": 20}
    job = make_job(path, variants=1, max_images=1, canvas={"long_side": 256}, sampler=sampler)
    assert job.resolved["native_size"] == 128
    run(studio)
    (item,) = items(studio)
    assert item.state == ItemState.DONE
    assert Picture.open(io.BytesIO(studio.storage.read(item.result_key or ""))).size == (213, 260)
    assert item.measures is not None
    assert item.measures["psnr_kept"] > 20
    assert 0.6 < item.measures["box_tell"] < 1.4


def test_a_full_disk_spends_no_attempt(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, max_images=1)

    class Full(Folder):
        def write(self, key: str, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        expand_next(dataclasses.replace(studio, storage=Full(studio.storage.root)))
    (item,) = items(studio)
    assert (item.state, item.attempts, item.lapses) == (ItemState.PENDING, 0, 0)
    run(studio)
    assert items(studio)[0].state == ItemState.DONE


def test_a_prior_that_cannot_be_loaded_is_no_items_fault(studio: Studio, make_job: MakeJob, tmp_path: Path) -> None:
    make_job(variants=1, max_images=1)
    _, sha256 = studio.prior_folders["builtin"]
    broken = dataclasses.replace(studio, prior_folders={"builtin": (tmp_path / "nowhere", sha256)})
    with pytest.raises(BadPrior):
        expand_next(broken)
    (item,) = items(studio)
    assert (item.state, item.attempts) == (ItemState.PENDING, 0)


def test_a_worker_that_is_to_end_claims_nothing(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, max_images=1)
    assert expand_next(dataclasses.replace(studio, stop=lambda: True)) == 0
    assert items(studio)[0].started_at is None
