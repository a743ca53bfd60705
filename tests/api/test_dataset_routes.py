"""Datasets over HTTP."""

from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image as Picture
from service import HEIGHT, MAX_UPLOAD, MISSING, WIDTH, Service, on_both_databases, png
from sqlalchemy import select, text

from shared import previews, trash
from shared.models import Dataset, Image
from shared.queue import Task
from shared.storage import preview_key, sha256, source_key, upload_key

ZIP = b"PK\x05\x06" + bytes(18)


@on_both_databases
def test_an_upload_is_stored_written_down_and_handed_to_a_worker(service: Service) -> None:
    answer = service.client.post("/v1/datasets", files={"file": ("fractures.zip", ZIP)}, data={"name": "Hands"})
    made = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/datasets/{made['id']}"
    assert answer.headers["retry-after"] == "1"
    assert made["name"] == "Hands"
    assert made["state"] == "checking"
    assert made["upload_bytes"] == len(ZIP)
    assert made["counts"] == {}
    assert service.storage.read(upload_key(made["id"])) == ZIP
    assert service.hints == [Task.INGEST]
    assert service.get(answer.headers["location"]) == made


def test_an_upload_without_a_name_gets_that_of_its_file(service: Service) -> None:
    for file, name in (
        ("fractures.zip", "fractures"),
        ("C:\\scans\\Hand v2.ZIP", "Hand v2"),
        ("../../etc/passwd", "passwd"),
        ("\u202ehands.zip", "hands"),
        ("x" * 300, "x" * 200),
        (".zip", "dataset"),
    ):
        assert service.client.post("/v1/datasets", files={"file": (file, ZIP)}).json()["name"] == name


def test_a_name_is_kept_without_what_cannot_be_shown(service: Service) -> None:
    answer = service.client.post("/v1/datasets", files={"file": ("a.zip", ZIP)}, data={"name": " H\0än\nde "})
    assert answer.json()["name"] == "Hände"


def test_how_it_is_to_be_read_goes_with_an_upload(service: Service) -> None:
    told = {"format": "coco", "labels": "none", "on_bad_image": "skip", "group_pattern": "/(p[0-9]+)_"}
    for fields, reading in (
        (told, told),
        ({}, {"format": None, "labels": "required", "on_bad_image": "reject", "group_pattern": None}),
        ({"format": "", "group_pattern": ""}, {"format": None, "group_pattern": None}),
    ):
        made = service.client.post("/v1/datasets", files={"file": ("a.zip", ZIP)}, data=fields).json()
        assert made["reading"] == made["reading"] | reading
        assert made["report"] is None
        with service.sessions.read() as session:
            assert session.get_one(Dataset, made["id"]).options == {k: v for k, v in fields.items() if v}


@pytest.mark.parametrize(
    ("fields", "where", "told"),
    [
        ({"format": "tiff"}, "body.format", ""),
        ({"labels": "some"}, "body.labels", ""),
        ({"on_bad_image": "ignore"}, "body.on_bad_image", ""),
        ({"group_pattern": "(a"}, "body.group_pattern", "is no regular expression"),
        ({"group_pattern": "abc"}, "body.group_pattern", "has 0 groups in parentheses and needs one"),
        ({"group_pattern": "(a)(b)"}, "body.group_pattern", "has 2 groups"),
        ({"group_pattern": "(a{99999999999})"}, "body.group_pattern", "is no regular expression"),
        ({"group_pattern": f"({'a' * 200})"}, "body.group_pattern", "200"),
    ],
)
def test_what_cannot_be_done_with_an_upload_is_refused(
    service: Service, fields: dict[str, str], where: str, told: str
) -> None:
    answer = service.client.post("/v1/datasets", files={"file": ("a.zip", ZIP)}, data=fields)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["where"] == where
    assert told in error["what"]
    assert service.get("/v1/datasets")["items"] == []


@pytest.mark.parametrize(
    ("files", "status", "told"),
    [
        ({"file": ("a.zip", b"")}, 422, "empty"),
        ({"file": ("a.zip", bytes(MAX_UPLOAD + 1))}, 413, "5,001 bytes; the limit is 5,000"),
        ({"other": ("a.zip", ZIP)}, 422, "body.file"),
        ([("file", ("a.zip", ZIP)), ("file", ("b.zip", ZIP))], 400, "Too many files"),
    ],
)
def test_an_upload_that_is_refused_leaves_nothing(service: Service, files: dict, status: int, told: str) -> None:
    answer = service.client.post("/v1/datasets", files=files)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert told in answer.json()["detail"]
    assert service.get("/v1/datasets")["items"] == []
    assert not list(service.storage.root.rglob("*.zip"))
    assert service.hints == []


def test_an_upload_that_cannot_be_written_down_leaves_no_file(service: Service) -> None:
    with service.sessions.write() as session:
        session.execute(text("ALTER TABLE dataset RENAME TO gone"))
    answer = service.client.post("/v1/datasets", files={"file": ("a.zip", ZIP)})
    # To SQLAlchemy a table that SQLite does not find is a database that does not work.
    assert answer.status_code == 503
    assert not list(service.storage.root.rglob("*.zip"))
    assert service.hints == []


def test_the_largest_upload_that_is_allowed_is_taken(service: Service) -> None:
    answer = service.client.post("/v1/datasets", files={"file": ("a.zip", bytes(MAX_UPLOAD))})
    assert answer.json()["upload_bytes"] == MAX_UPLOAD


def test_a_ready_dataset_tells_what_is_in_it(service: Service) -> None:
    dataset = service.get(f"/v1/datasets/{service.ready(3, valid=1)}")
    assert dataset["state"] == "ready"
    assert dataset["classes"] == ["fracture"]
    assert dataset["splits"] == ["train", "valid"]
    boxes = {"fracture": {"train": 3, "valid": 1}}
    assert dataset["counts"] == {"images": {"train": 3, "valid": 1}, "boxes": boxes, "unlabelled": 0}
    assert dataset["created_at"].endswith("Z")


def test_a_rejected_dataset_tells_every_fault(service: Service) -> None:
    dataset = service.get(f"/v1/datasets/{service.rejected()}")
    assert dataset["state"] == "rejected"
    assert dataset["problems"] == [
        {"where": "a.txt:3", "what": "five numbers"},
        {"where": "b.txt:1", "what": "?"},
    ]


def test_only_a_dataset_that_is_being_checked_is_to_be_asked_for_again(service: Service) -> None:
    told = [
        service.client.get(f"/v1/datasets/{dataset_id}").headers.get("retry-after")
        for dataset_id in (service.ready(), service.checking())
    ]
    assert told == [None, "1"]


@on_both_databases
def test_images_are_listed_with_their_boxes(service: Service) -> None:
    dataset_id = service.ready(2, valid=1)
    images = service.get(f"/v1/datasets/{dataset_id}/images")["items"]
    assert [image["path"] for image in images] == [
        "images/train/000.png",
        "images/train/001.png",
        "images/valid/002.png",
    ]
    assert images[0]["boxes"] == [
        {"class_index": 0, "class_name": "fracture", "x0": 0.25, "y0": 0.25, "x1": 0.5, "y1": 0.5, "outline": None}
    ]
    assert (images[0]["group"], images[0]["upright"]) == (None, True)
    assert (images[0]["width"], images[0]["height"], images[0]["bytes"]) == (WIDTH, HEIGHT, len(png(0)))
    only = service.get(f"/v1/datasets/{dataset_id}/images?split=valid")["items"]
    assert [image["split"] for image in only] == ["valid"]


def test_an_image_comes_back_as_it_was_uploaded(service: Service) -> None:
    dataset_id = service.ready(2)
    image = service.get(f"/v1/datasets/{dataset_id}/images")["items"][1]
    path = f"/v1/datasets/{dataset_id}/images/{image['id']}/file"
    answer = service.client.get(path)
    assert answer.content == png(1)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == f'"{sha256(png(1))}"'
    assert service.client.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_what_is_not_there_or_not_ones_own_is_not_found(service: Service) -> None:
    mine, theirs = service.ready(1), service.ready(1, owner="somebody")
    image = service.get(f"/v1/datasets/{mine}/images")["items"][0]["id"]
    for path in (
        f"/v1/datasets/{MISSING}",
        "/v1/datasets/no-id",
        "/v1/datasets/%00",
        f"/v1/datasets/{theirs}",
        f"/v1/datasets/{theirs}/images",
        f"/v1/datasets/{mine}/images/{image + 1}/file",
        f"/v1/datasets/{mine}/images/{2**62}/file",
        f"/v1/datasets/{theirs}/images/{image}/file",
    ):
        assert service.get(path, 404)["type"] == "https://regrow.dev/problems/not-found"
    assert [dataset["id"] for dataset in service.get("/v1/datasets")["items"]] == [mine]


def previewed(service: Service, path: str, **headers: str) -> tuple[np.ndarray, httpx.Response]:
    answer = service.client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["content-type"], Picture.open(BytesIO(answer.content)).format) == ("image/jpeg", "JPEG")
    return np.asarray(Picture.open(BytesIO(answer.content)).convert("RGB")).astype(int), answer


def test_a_preview_is_small_and_drawn_on_only_where_labels_are(service: Service) -> None:
    dataset_id = service.ready(1)
    (image,) = service.get(f"/v1/datasets/{dataset_id}/images")["items"]
    path = f"/v1/datasets/{dataset_id}/images/{image['id']}/preview"
    bare, answer = previewed(service, f"{path}?size=128")
    drawn, other = previewed(service, f"{path}?size=128&boxes=1")
    assert bare.shape == drawn.shape == (75, 128, 3)
    touched = np.argwhere(np.abs(bare - drawn).max(axis=2) > 60)
    top, left = touched.min(axis=0)
    bottom, right = touched.max(axis=0)
    assert np.allclose([top, left, bottom, right], [75 / 4, 32, 75 / 2, 64], atol=3)
    assert answer.headers["etag"] != other.headers["etag"]
    again = service.client.get(f"{path}?size=128", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert previewed(service, f"{path}?size=2000")[0].shape == (150, 256, 3)
    for wrong in ("size=8", "size=9999", "boxes=maybe"):
        service.get(f"{path}?{wrong}", 422)
    service.get(f"/v1/datasets/{dataset_id}/images/{image['id'] + 1}/preview", 404)
    service.get(f"/v1/datasets/{service.ready(owner='another')}/images/{image['id']}/preview", 404)


def test_the_kept_preview_is_sent_and_a_damaged_one_is_drawn_anew(service: Service) -> None:
    dataset_id = service.ready(1)
    (image,) = service.get(f"/v1/datasets/{dataset_id}/images")["items"]
    path = f"/v1/datasets/{dataset_id}/images/{image['id']}/preview"
    drawn = service.client.get(path).content
    with service.sessions.read() as session:
        row = session.get_one(Image, image["id"])
    kept = previews.make(Picture.new("L", (256, 150), 77))
    assert kept is not None
    service.storage.write(preview_key(row.sha256, upright=True), kept)
    assert service.client.get(path).content == kept
    assert np.allclose(previewed(service, f"{path}?size=64")[0], 77, atol=2)
    service.storage.write(preview_key(row.sha256, upright=True), kept[:100])
    assert service.client.get(path).content == drawn


def test_sixteen_bits_are_shown_from_black_to_the_sets_white(service: Service) -> None:
    dataset_id = service.ready(1)
    (image,) = service.get(f"/v1/datasets/{dataset_id}/images")["items"]
    out = BytesIO()
    Picture.fromarray(np.full((150, 256), 2048, np.uint16)).save(out, "PNG")
    with service.sessions.write() as session:
        session.get_one(Dataset, dataset_id).white = 4095
        row = session.get_one(Image, image["id"])
        service.storage.write(source_key(row.sha256), out.getvalue())
    path = f"/v1/datasets/{dataset_id}/images/{image['id']}/preview"
    assert np.allclose(previewed(service, path)[0], 127, atol=2)


def test_a_preview_goes_with_its_original(service: Service) -> None:
    dataset_id = service.ready(2)
    with service.sessions.read() as session:
        digests = session.scalars(select(Image.sha256)).all()
    keys = [preview_key(digest, upright=upright) for digest in digests for upright in (True, False)]
    for key in keys:
        service.storage.write(key, b"x")
    assert service.client.delete(f"/v1/datasets/{dataset_id}").status_code == 204
    with service.sessions.write() as session:
        trash.empty(session, service.storage)
    assert not [path for path in service.storage.root.rglob("*") if path.is_file()]
