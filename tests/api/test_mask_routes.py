"""Masks over HTTP, before anything is made."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from service import HEIGHT, MISSING, WIDTH, Service, png
from sqlalchemy import select, update

from shared.models import Image
from shared.storage import sha256, source_key

KINDS = [
    {"kind": "gaussian_distance"},
    {"kind": "gaussian_distance", "geometry": "reference"},
    {"kind": "gaussian_distance", "keep": "polygons", "sigma": 0.1},
    {"kind": "gaussian_distance_all", "mu": 0.2},
    {"kind": "outside_boxes", "margin": 0.1},
    {"kind": "random", "share": 0.3},
    {"kind": "random_inside_boxes"},
    {"kind": "erase_in_boxes"},
    {"kind": "box", "largest": 0.5},
    {"kind": "boxes_regrown"},
    {"kind": "uploaded"},
]


@pytest.fixture
def dataset(service: Service) -> str:
    """Two images with a polygon each, and a mask image that came with them."""
    dataset_id = service.ready(2)
    mask = png(99, 40, 30)
    service.storage.write(source_key(sha256(mask)), mask)
    with service.sessions.write() as session:
        outlines = [[0.25, 0.25, 0.5, 0.25, 0.25, 0.5]]
        session.execute(update(Image).values(outlines=outlines, mask_sha256=sha256(mask)))
    return dataset_id


def images(service: Service, dataset_id: str) -> list[int]:
    with service.sessions.read() as session:
        return list(session.scalars(select(Image.id).where(Image.dataset_id == dataset_id).order_by(Image.id)))


def preview(service: Service, **asked: Any) -> np.ndarray:
    answer = service.client.post("/v1/masks/preview", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Picture.open(BytesIO(answer.content)))


def veiled(picture: np.ndarray) -> np.ndarray:
    """Where a grey picture is no longer grey."""
    return np.asarray(picture.max(axis=2) != picture.min(axis=2))


@pytest.mark.parametrize("mask", KINDS, ids=lambda mask: "-".join(map(str, mask.values())))
def test_the_preview_of_a_variant_is_the_mask_its_item_will_use(
    service: Service, dataset: str, mask: dict[str, Any]
) -> None:
    job = service.job(dataset, variants=2, seed=5, operator={"kind": "inpaint", "mask": mask})
    path = f"/v1/jobs/{job['id']}/items"
    items = service.get(path)["items"]
    assert len(items) == 4
    for item in items:
        shown = preview(
            service,
            dataset_id=dataset,
            image_id=item["image_id"],
            mask=mask,
            seed=5,
            variant=item["variant"],
            size="source",
        )
        used = np.asarray(Picture.open(BytesIO(service.client.get(f"{path}/{item['id']}/mask").content)))
        assert set(np.unique(used)) == {0, 255}
        np.testing.assert_array_equal(veiled(shown), used == 0)


@pytest.mark.parametrize(("preset", "side"), [("balanced", 352), ("reference", 128)])
def test_so_it_is_on_a_canvas_that_follows_images_of_several_sizes(
    service: Service, dataset: str, preset: str, side: int
) -> None:
    first, second = images(service, dataset)
    with service.sessions.write() as session:
        for image, (width, height) in ((first, (360, 200)), (second, (700, 900))):
            data = png(image, width, height)
            service.storage.write(source_key(sha256(data)), data)
            changed = {"sha256": sha256(data), "width": width, "height": height}
            session.execute(update(Image).where(Image.id == image).values(**changed))
    job = service.job(dataset, variants=1, seed=5, sampler={"preset": preset})
    assert job["resolved"]["long_side"] == side
    path = f"/v1/jobs/{job['id']}/items"
    mask = {"kind": "gaussian_distance"}
    for item in service.get(path)["items"]:
        asked = {"dataset_id": dataset, "image_id": item["image_id"], "mask": mask, "seed": 5, "preset": preset}
        shown = preview(service, **asked, size="source")
        used = np.asarray(Picture.open(BytesIO(service.client.get(f"{path}/{item['id']}/mask").content)))
        np.testing.assert_array_equal(veiled(shown), used == 0)


def test_kept_pixels_are_shown_as_they_are_and_the_default_size_is_the_canvas(service: Service, dataset: str) -> None:
    image = images(service, dataset)[0]
    asked = {"dataset_id": dataset, "image_id": image, "mask": {"kind": "outside_boxes", "margin": 0}}
    source = preview(service, **asked, size="source")
    with service.sessions.read() as session:
        stored = service.storage.read(source_key(session.get_one(Image, image).sha256))
    kept = ~veiled(source)
    assert kept.sum() == 64 * 38  # rows 37.5 to 75 of the canvas, which are those of the source, rounded outwards
    assert (source[kept][:, 0] == np.asarray(Picture.open(BytesIO(stored)))[kept]).all()
    assert preview(service, **asked).shape == (HEIGHT, WIDTH, 3)
    assert preview(service, **asked, preset="reference").shape == (75, 128, 3)
    assert preview(service, **asked, canvas={"long_side": 64}).shape == (38, 64, 3)


def test_other_seeds_variants_and_images_have_other_masks(service: Service, dataset: str) -> None:
    first, second = images(service, dataset)
    mask = {"kind": "gaussian_distance"}
    shown = [
        preview(service, dataset_id=dataset, image_id=image, mask=mask, seed=seed, variant=variant)
        for image, seed, variant in ((first, 0, 1), (first, 1, 1), (first, 0, 2), (second, 0, 1))
    ]
    assert len({veiled(picture).tobytes() for picture in shown}) == 4


def test_a_large_image_is_previewed_as_small_as_the_canvas(service: Service) -> None:
    dataset_id = service.ready(1)
    large = Picture.fromarray(np.random.default_rng(0).integers(0, 256, (2000, 2500), dtype=np.uint8))
    data = BytesIO()
    large.save(data, "JPEG")
    service.storage.write(source_key(sha256(data.getvalue())), data.getvalue())
    with service.sessions.write() as session:
        session.execute(update(Image).values(sha256=sha256(data.getvalue()), width=2500, height=2000))
    (image,) = images(service, dataset_id)
    asked = {"dataset_id": dataset_id, "image_id": image, "mask": {"kind": "gaussian_distance"}}
    assert preview(service, **asked).shape == (410, 512, 3)


def test_an_unlabelled_image_needs_a_policy(service: Service, dataset: str) -> None:
    with service.sessions.write() as session:
        session.execute(update(Image).values(boxes=[], outlines=[]))
    asked = {"dataset_id": dataset, "image_id": images(service, dataset)[0], "mask": {"kind": "gaussian_distance"}}
    answer = service.client.post("/v1/masks/preview", json=asked)
    assert answer.status_code == 422
    assert "unlabelled" in answer.json()["detail"]
    assert 0.7 < veiled(preview(service, **asked, unlabelled="uniform")).mean() < 0.95
    assert not veiled(preview(service, **asked, unlabelled="keep")).any()


@pytest.mark.parametrize(("kind", "said"), [("outside_boxes", "keeps every pixel"), ("boxes_regrown", "hides every")])
def test_a_mask_that_keeps_all_or_nothing_is_said(service: Service, dataset: str, kind: str, said: str) -> None:
    with service.sessions.write() as session:
        session.execute(update(Image).values(boxes=[[0, 0, 0, 1, 1]], outlines=[]))
    asked = {"dataset_id": dataset, "image_id": images(service, dataset)[0], "mask": {"kind": kind}}
    answer = service.client.post("/v1/masks/preview", json=asked)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    job = service.client.post(
        "/v1/jobs", json={"dataset_id": dataset, "operator": {"kind": "inpaint", "mask": {"kind": kind}}}
    )
    assert job.status_code == 422
    assert said in job.json()["detail"]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"mask": {"kind": "none"}}, 422),
        ({"mask": {"kind": "random", "share": 2}}, 422),
        ({"canvas": {"long_side": 100}}, 422),
        ({"prior": "none"}, 422),
        ({"colour": "red"}, 422),
        ({"dataset_id": MISSING}, 404),
        ({"image_id": 10**6}, 404),
    ],
)
def test_what_cannot_be_previewed_is_a_problem(
    service: Service, dataset: str, wrong: dict[str, Any], status: int
) -> None:
    asked = {"dataset_id": dataset, "image_id": images(service, dataset)[0], "mask": {"kind": "random"}}
    answer = service.client.post("/v1/masks/preview", json=asked | wrong)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_a_dataset_of_somebody_else_is_not_there(service: Service) -> None:
    dataset_id = service.ready(1, owner="somebody")
    asked = {"dataset_id": dataset_id, "image_id": images(service, dataset_id)[0], "mask": {"kind": "random"}}
    assert service.client.post("/v1/masks/preview", json=asked).status_code == 404


def test_a_job_with_uploaded_masks_names_how_many_lack_one_and_the_first(service: Service) -> None:
    dataset_id = service.ready(3)
    with service.sessions.write() as session:
        session.execute(update(Image).where(Image.path.contains("001")).values(mask_sha256="a" * 64))
    answer = service.client.post(
        "/v1/jobs", json={"dataset_id": dataset_id, "operator": {"kind": "inpaint", "mask": {"kind": "uploaded"}}}
    )
    assert answer.status_code == 422
    assert "2 of 3" in answer.json()["detail"]
    assert "images/train/00" in answer.json()["detail"]
    assert "images/train/001" not in answer.json()["detail"]


def test_polygons_and_masks_are_shown_with_the_images(service: Service, dataset: str) -> None:
    for image in service.get(f"/v1/datasets/{dataset}/images")["items"]:
        assert image["boxes"][0]["outline"] == [0.25, 0.25, 0.5, 0.25, 0.25, 0.5]
        assert image["mask_sha256"] == sha256(png(99, 40, 30))
