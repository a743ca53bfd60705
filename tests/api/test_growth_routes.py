"""A dataset that grows and forgets, over HTTP."""

import base64
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from service import MISSING, Service, on_both_databases, png

from shared import keys
from shared.db import Sessions
from shared.queue import Task
from shared.settings import Settings
from shared.storage import Folder, source_key
from worker.ingest import check_next
from worker.sweep import sweep

Upload = Callable[..., dict[str, Any]]


def packed(images: Mapping[str, tuple[int, str]]) -> bytes:
    """A small YOLO set: the seed and the label lines of each image by its name."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data.yaml", "names: [fracture]\n")
        for name, (seed, label) in images.items():
            archive.writestr(f"images/train/{name}.png", png(seed, 24, 16))
            archive.writestr(f"labels/train/{name}.txt", label)
    return out.getvalue()


@pytest.fixture
def upload(service: Service, sessions: Sessions, storage: Folder, tmp_path: Path) -> Upload:
    """Uploads a set, has it checked as a worker does it, and tells what became of it."""

    def run(images: Mapping[str, tuple[int, str]], **fields: str) -> dict[str, Any]:
        files = {"file": ("set.zip", packed(images))}
        answer = service.client.post("/v1/datasets", files=files, data=fields)
        assert answer.status_code == 202, answer.text
        assert check_next(Settings(data=tmp_path, _env_file=None), sessions, storage)
        found: dict[str, Any] = service.get(answer.headers["location"])
        assert found["state"] == "ready", found
        return found

    return run


BOX, WIDER = "0 .5 .5 .25 .25\n", "0 .5 .5 .5 .25\n"
OLD = {"a": (1, BOX), "b": (2, BOX), "c": (3, BOX), "d": (4, BOX)}
NEW = {"a": (1, BOX), "bb": (2, BOX), "c": (3, WIDER), "e": (5, BOX)}


def forget(service: Service, dataset_id: str, status: int = 200, **wish: Any) -> dict[str, Any]:
    answer = service.client.post(f"/v1/datasets/{dataset_id}/forget", json=wish)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


@on_both_databases
def test_a_job_on_a_grown_dataset_makes_only_what_is_new(service: Service, upload: Upload) -> None:
    old = upload(OLD)
    first = service.job(old["id"], variants=2)
    service.do(8)
    grown = upload(NEW, parent=old["id"])
    assert (old["parent"], grown["parent"], grown["reading"]["parent"]) == (None, old["id"], old["id"])
    assert old["report"]["difference"] is None
    assert grown["report"]["difference"] == {
        "parent": old["id"],
        "unchanged": 1,
        "moved": {"count": 1, "examples": [["images/train/b.png", "images/train/bb.png"]]},
        "relabelled": {"count": 1, "examples": ["images/train/c.png"]},
        "added": {"count": 1, "examples": ["images/train/e.png"]},
        "removed": {"count": 1, "examples": ["images/train/d.png"]},
    }
    second = service.job(grown["id"], variants=2)
    assert (second["total"], second["reused"]) == (8, 4)
    items = service.get(f"/v1/jobs/{second['id']}/items")["items"]
    taken_over = {item["path"]: item["reused_from"] for item in items}
    assert taken_over == {
        "images/train/a.png": first["id"],
        "images/train/bb.png": first["id"],
        "images/train/c.png": None,
        "images/train/e.png": None,
    }
    other = service.job(grown["id"], variants=2, seed=1)
    assert other["reused"] == 0, "another spec is other work"


def test_a_parent_must_be_a_ready_dataset_of_ones_own(service: Service) -> None:
    theirs, rejected, checking = service.ready(1, owner="somebody"), service.rejected(), service.checking()
    for parent, status in ((theirs, 404), (MISSING, 404), (rejected, 422), (checking, 409), ("../etc", 422)):
        answer = service.client.post("/v1/datasets", files={"file": ("a.zip", b"zip")}, data={"parent": parent})
        assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert "parent" in answer.json()["detail"]
        said = base64.b64encode(parent.encode()).decode()
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Upload-Metadata": f"parent {said}"}
        assert service.client.post("/v1/uploads", headers=headers).status_code == status
    assert not list(service.storage.root.rglob("*.zip"))
    assert service.get("/v1/uploads")["items"] == []


def test_an_upload_in_pieces_names_its_parent_too(
    service: Service, upload: Upload, sessions: Sessions, storage: Folder, tmp_path: Path
) -> None:
    old, data = upload(OLD), packed(NEW)
    said = base64.b64encode(old["id"].encode()).decode()
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(data)), "Upload-Metadata": f"parent {said}"}
    made = service.client.post("/v1/uploads", headers=headers)
    piece = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    whole = service.client.patch(made.headers["location"], content=data, headers=piece)
    assert check_next(Settings(data=tmp_path, _env_file=None), sessions, storage)
    grown = service.get(whole.headers["regrow-dataset"])
    assert grown["parent"] == old["id"]
    assert grown["report"]["difference"]["added"]["count"] == 1


def test_a_receipt_says_by_whose_key_it_was(service: Service, upload: Upload) -> None:
    dataset = upload(OLD)
    with service.sessions.write() as session:
        _, key = keys.create(session, keys.LOCAL, "anna")
    service.client.headers["Authorization"] = f"Bearer {key}"
    done = forget(service, dataset["id"], match="a.png")
    assert done["by"] == service.get(f"/v1/receipts/{done['id']}")["by"] == "anna"


@on_both_databases
def test_a_receipt_tells_what_is_gone_and_can_be_fetched(service: Service, upload: Upload) -> None:
    dataset = upload(OLD)
    job = service.job(dataset["id"], variants=1)
    service.do(4)
    service.pack(b"zip with all four")
    service.hints.clear()
    original = source_key(service.get(f"/v1/datasets/{dataset['id']}/images")["items"][0]["sha256"])
    before = (service.get(f"/v1/datasets/{dataset['id']}"), service.get(f"/v1/jobs/{job['id']}"))

    told = forget(service, dataset["id"], match="a.png", dry_run=True)
    assert (told["dry_run"], told["id"], told["created_at"]) == (True, None, None)
    assert (service.get(f"/v1/datasets/{dataset['id']}"), service.get(f"/v1/jobs/{job['id']}")) == before
    assert service.get("/v1/receipts")["items"] == []
    assert service.hints == []

    done = forget(service, dataset["id"], match="a.png")
    same = {"images", "copies", "counts", "match", "group", "everywhere", "by", "dataset", "name", "priors"}
    assert {key: done[key] for key in same} == {key: told[key] for key in same}
    assert done["counts"] == {"images": 1, "variants": 1, "unfinished": 0, "archives": 1, "files": 3}
    assert (done["by"], done["files_waiting"]) == ("local", 4)
    assert service.hints == [Task.ARCHIVE]
    assert service.get(f"/v1/jobs/{job['id']}")["archive"]["state"] == "building"
    assert service.get(f"/v1/jobs/{job['id']}/archive", 409)["detail"] == "The archive is being built."
    assert service.storage.exists(original)

    sweep(service.sessions, service.storage)
    assert not service.storage.exists(original)
    receipt = service.get(f"/v1/receipts/{done['id']}")
    assert receipt == done | {"files_waiting": 0}
    assert service.get("/v1/receipts")["items"] == [receipt]
    assert service.client.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    assert service.get(f"/v1/receipts/{done['id']}") == receipt, "it outlives the dataset"


def test_a_second_time_there_is_nothing_to_forget(service: Service, upload: Upload) -> None:
    dataset = upload(OLD)
    first = forget(service, dataset["id"], match="images/train/*")
    assert first["counts"]["images"] == 4
    again = forget(service, dataset["id"], match="images/train/*")
    assert (again["id"], again["images"], again["counts"]["files"]) == (None, [], 0)
    left = service.get(f"/v1/datasets/{dataset['id']}")
    assert (left["counts"]["images"], left["splits"], left["report"]["forgotten"]) == ({}, [], 4)


def test_a_job_that_has_lost_all_its_images_is_over(service: Service) -> None:
    dataset_id = service.ready(2)
    job = service.job(dataset_id, variants=2)
    service.do(1)
    assert forget(service, dataset_id, match="*")["counts"]["unfinished"] == 3
    job = service.get(f"/v1/jobs/{job['id']}")
    assert (job["state"], job["total"], job["progress"], job["archive"]) == ("succeeded", 0, 1.0, None)
    assert job["finished_at"] is not None


@pytest.mark.parametrize(
    "wish", [{}, {"match": "a", "group": "b"}, {"match": ""}, {"match": "a\0"}, {"match": "a", "more": 1}]
)
def test_a_wish_that_cannot_be_is_refused(service: Service, wish: dict[str, Any]) -> None:
    assert forget(service, service.ready(1), 422, **wish)["type"].endswith("/invalid")


def test_what_is_not_ones_own_or_not_ready_cannot_be_forgotten(service: Service) -> None:
    theirs, rejected = service.ready(1, owner="somebody"), service.rejected()
    assert forget(service, service.checking(), 409, match="*")["type"].endswith("/conflict")
    assert forget(service, rejected, 422, match="*")["type"].endswith("/invalid")
    for dataset_id in (theirs, MISSING, "no-id"):
        assert forget(service, dataset_id, 404, match="*")["type"].endswith("/not-found")
    assert service.get(f"/v1/receipts/{MISSING}", 404)["type"].endswith("/not-found")
