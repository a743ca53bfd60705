"""Items are made with the mask that was asked for, and their measures tell what became of the labels."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import expanding
import numpy as np
import pytest
from PIL import Image as Picture
from starlette.testclient import TestClient

from api.main import create_app
from shared import items as life
from shared import plan
from shared.models import Item, Job
from shared.spec import ResolvedSpec
from shared.states import ItemState
from shared.storage import source_key
from worker.expand import _sketch
from worker.studio import Studio

MakeJob = Callable[..., Job]
Repack = Callable[[dict[str, bytes | None]], Path]


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Picture.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def run(studio: Studio) -> list[Item]:
    expanding.run(studio)
    return expanding.items(studio)


def made(studio: Studio, item: Item) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(studio.storage.read(item.result_key or ""))))


def source(studio: Studio, item: Item) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(studio.storage.read(source_key(item.image.sha256)))))


def inpaint(kind: str, **options: Any) -> dict[str, Any]:
    return {"kind": "inpaint", "mask": {"kind": kind, **options}}


@pytest.fixture
def pictures(repack: Repack) -> Path:
    """A set of a colour, a grey and a 16-bit PNG with labels, in place of the phantoms."""
    rng = np.random.default_rng(0)
    others = {
        f"{what}/{split}/phantom_000{n}.{end}": None
        for what, end in (("images", "jpg"), ("labels", "txt"))
        for split, n in (("train", 0), ("train", 1), ("train", 2), ("valid", 3))
    }
    label = b"0 0.5 0.5 0.4 0.3\n"
    return repack(
        others
        | {
            "images/train/colour.png": png(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)),
            "images/train/grey.png": png(rng.integers(0, 256, (60, 80), dtype=np.uint8)),
            "images/train/deep.png": png(rng.integers(0, 4096, (60, 80), dtype=np.uint16)),
            "labels/train/colour.txt": label,
            "labels/train/grey.txt": label,
            "labels/train/deep.txt": label,
        }
    )


@pytest.mark.parametrize("blend", ["boxes", "known"])
def test_protected_pixels_of_written_files_are_the_originals_whatever_the_depth(
    studio: Studio, make_job: MakeJob, pictures: Path, blend: str
) -> None:
    job = make_job(pictures, variants=1, blend=blend)
    items = run(studio)
    assert [item.state for item in items] == [ItemState.DONE] * 3
    assert {source(studio, item).dtype.name + str(source(studio, item).ndim) for item in items} == {
        "uint82",
        "uint83",
        "uint162",
    }
    for item in items:
        assert item.measures is not None
        assert item.measures["largest_difference"] == 0
        resolved, labels = ResolvedSpec.model_validate(job.resolved), plan.Labels(item.image.boxes)
        keep, p = plan.keep_mask(resolved, labels, 80, 60, item.seed)
        area = plan.protected(keep, p, labels, resolved)
        new, old = made(studio, item), source(studio, item)
        assert (new.dtype, new.shape) == (old.dtype, old.shape)
        assert np.array_equal(new[area], old[area])
        assert not np.array_equal(new, old)
        assert area[21:39, 24:56].all()


@expanding.with_the_real_prior
def test_of_a_jpeg_the_largest_difference_is_measured_in_the_written_file_and_png_is_offered(
    studio: Studio, make_job: MakeJob
) -> None:
    job = make_job(variants=1)
    assert any("3 images are written as JPEG" in warning for warning in job.warnings)
    for item in run(studio):
        assert item.measures is not None
        new, old = made(studio, item).astype(int), source(studio, item).astype(int)
        (x0, y0, x1, y1), *_ = plan.corners(item.image.boxes) * (90, 110, 90, 110)
        inside = np.s_[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        assert 0 < np.abs(new[inside] - old[inside]).max() <= item.measures["largest_difference"] < 60


@expanding.with_the_real_prior
def test_a_tell_is_measured_against_soft_surroundings(studio: Studio, make_job: MakeJob, pictures: Path) -> None:
    """Around a copied box of noise a picture of 64 pixels cannot be as sharp, unless grain makes up for it."""
    make_job(pictures, variants=1, grain=False)
    for item in run(studio):
        assert item.measures is not None
        assert item.measures["box_tell"] > 1.3


def test_without_labels_an_image_is_left_alone_or_regrown_or_copied(
    studio: Studio, make_job: MakeJob, repack: Repack
) -> None:
    archive = repack({"labels/train/phantom_0000.txt": b""})
    for how in ("skip", "uniform", "keep"):
        make_job(archive, variants=1, unlabelled=how, output={"image_format": "png"})
    items = run(studio)
    assert [item.state for item in items] == [ItemState.DONE] * 8
    regrown, copied = (item for item in items if not item.image.boxes)
    assert regrown.measures is not None
    assert regrown.measures["hidden_share"] == pytest.approx(1 - plan.UNIFORM_SHARE, abs=0.03)
    assert not np.array_equal(made(studio, regrown), source(studio, regrown))
    assert np.array_equal(made(studio, copied), source(studio, copied))
    assert copied.measures is not None
    nearest = copied.measures.pop("nearest_distance")
    assert copied.measures == {"hidden_share": 0.0, "change": 0.0, "drift": 0.0, "source_distance": 0.0}
    assert nearest > 0


def test_a_job_of_copies_alone_loads_no_prior(studio: Studio, make_job: MakeJob, repack: Repack) -> None:
    class NoPriors:
        def get(self, *_: object) -> Any:
            raise AssertionError("a prior was asked for")

        def loaded(self, _device: str) -> set[Path]:
            return set()

    archive = repack({f"labels/train/phantom_000{n}.txt": b"" for n in range(3)})
    make_job(archive, variants=2, unlabelled="keep")
    items = run(dataclasses.replace(studio, priors=NoPriors()))  # type: ignore[arg-type]
    assert [item.state for item in items] == [ItemState.DONE] * 6


def test_an_uploaded_mask_hides_what_is_black_in_it(studio: Studio, make_job: MakeJob, repack: Repack) -> None:
    left = np.zeros((2, 10), dtype=np.uint8)
    left[:, :5] = 255
    archive = repack({f"masks/train/phantom_000{n}.png": png(left) for n in range(3)})
    make_job(archive, variants=1, operator=inpaint("uploaded"), blend="known", output={"image_format": "png"})
    for item in run(studio):
        assert item.state == ItemState.DONE, item.error
        assert item.measures is not None
        assert item.measures["hidden_share"] == pytest.approx(0.5, abs=0.02)
        new, old = made(studio, item), source(studio, item)
        assert np.array_equal(new[:, :44], old[:, :44])
        assert not np.array_equal(new[:, 46:], old[:, 46:])


@pytest.mark.parametrize(("grey", "kind"), [(255, "nothing_hidden"), (0, "nothing_kept")])
def test_a_mask_that_keeps_all_or_nothing_fails_its_item_in_words(
    studio: Studio, make_job: MakeJob, repack: Repack, grey: int, kind: str
) -> None:
    flat = png(np.full((4, 4), grey, dtype=np.uint8))
    archive = repack({f"masks/train/phantom_000{n}.png": flat for n in range(3)})
    make_job(archive, variants=1, max_images=1, operator=inpaint("uploaded"))
    (item,) = run(studio)
    assert (item.state, item.attempts) == (ItemState.FAILED, 1)
    assert item.error == {"type": kind, "detail": plan.USELESS[kind]}


every_kind = pytest.mark.parametrize(
    "mask",
    [
        inpaint("gaussian_distance"),
        inpaint("gaussian_distance", geometry="reference"),
        inpaint("gaussian_distance", keep="polygons"),
        inpaint("gaussian_distance_all", keep="polygons"),
        inpaint("outside_boxes", keep="polygons"),
        inpaint("random", keep="polygons"),
        inpaint("random_inside_boxes", keep="polygons"),
        inpaint("erase_in_boxes"),
        inpaint("box"),
        inpaint("boxes_regrown", keep="polygons"),
        inpaint("uploaded"),
    ],
    ids=lambda operator: "-".join(map(str, operator["mask"].values())),
)


@pytest.fixture
def polygons(repack: Repack) -> Path:
    """The phantoms, each with a triangle for a label, and with a mask image."""
    halves = np.zeros((4, 6), dtype=np.uint8)
    halves[:, :2] = 255
    triangle = b"0 0.2 0.2 0.8 0.3 0.4 0.9\n"
    return repack(
        {f"labels/train/phantom_000{n}.txt": triangle for n in range(3)}
        | {f"masks/train/phantom_000{n}.png": png(halves) for n in range(3)}
    )


@every_kind
def test_the_preview_of_a_variant_is_the_mask_that_the_worker_samples_with(
    studio: Studio, make_job: MakeJob, polygons: Path, mask: dict[str, Any]
) -> None:
    job = make_job(polygons, variants=2, max_images=2, operator=mask, seed=9)
    with studio.sessions.write() as session:
        works = life.claim(session, "test", 4, 30, priors=[studio.prior_folders["builtin"][1]])
    numbers = {item.id: (item.image_id, item.variant) for item in expanding.items(studio)}
    app = create_app(studio.settings, studio.sessions, studio.storage, lambda _task: None, lambda: None)
    asked = {"dataset_id": job.dataset_id, "mask": mask["mask"], "seed": 9, "canvas": {"long_side": 64}}
    seen = []
    with TestClient(app, client=("127.0.0.1", 1), base_url="http://127.0.0.1") as client:
        for work in works:
            image, variant = numbers[work.item_id]
            answer = client.post("/v1/masks/preview", json={**asked, "image_id": image, "variant": variant})
            assert answer.status_code == 200, answer.text
            shown = np.asarray(Picture.open(io.BytesIO(answer.content)))
            sketch = _sketch(studio, work)
            assert sketch.keep is not None
            p = sketch.placement
            used = sketch.keep[p.top : p.top + p.height, p.left : p.left + p.width]
            np.testing.assert_array_equal(shown.max(axis=2) == shown.min(axis=2), used)
            seen.append(used)
    assert len(seen) == 4
    assert 0 < np.mean(seen) < 1


@every_kind
def test_an_item_is_made_with_every_kind(
    studio: Studio, make_job: MakeJob, polygons: Path, mask: dict[str, Any]
) -> None:
    make_job(polygons, variants=1, max_images=1, operator=mask, sampler={"steps": 1, "finish": 1})
    (item,) = run(studio)
    assert item.state == ItemState.DONE, item.error
    assert item.measures is not None
    assert 0 < item.measures["hidden_share"] < 1
