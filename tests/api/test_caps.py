"""How much a project may have, what fits on the disk, and how often one may ask."""

import errno
import os
from dataclasses import replace
from typing import Any

import pytest
from service import Service, on_both_databases

from api import rate
from api.rate import Rate
from shared import keys
from shared.settings import GiB
from shared.storage import Folder


def capped(service: Service, **settings: Any) -> None:
    state = service.client.app.state  # type: ignore[union-attr]
    state.parts = replace(state.parts, settings=state.parts.settings.model_copy(update=settings))


def upload(service: Service, status: int) -> dict[str, Any]:
    answer = service.client.post("/v1/datasets", files={"file": ("a.zip", b"x" * 1000)})
    return told(answer, status)


def announce(service: Service, status: int) -> dict[str, Any]:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "1000"}
    return told(service.client.post("/v1/uploads", headers=headers), status)


def ask_for_job(service: Service, status: int, dataset: str, key: str = "", **spec: Any) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    return told(service.client.post("/v1/jobs", json={"dataset_id": dataset, **spec}, headers=headers), status)


def told(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    if status == 429:
        assert answer.headers["retry-after"] == "60"
        assert answer.json()["type"].endswith("/limit-reached")
    made: dict[str, Any] = answer.json()
    return made


@on_both_databases
def test_a_project_has_no_more_datasets_than_it_may(service: Service) -> None:
    capped(service, max_datasets=2)
    service.ready(owner="another")
    first, coming = service.ready(), announce(service, 201)["id"]
    assert "2 datasets and unfinished uploads" in upload(service, 429)["detail"]
    announce(service, 429)
    assert service.client.delete(f"/v1/datasets/{first}").status_code == 204
    upload(service, 202)
    upload(service, 429)
    service.client.delete(f"/v1/uploads/{coming}", headers={"Tus-Resumable": "1.0.0"})
    upload(service, 202)


@on_both_databases
def test_a_project_has_no_more_jobs_than_it_may_and_a_request_can_still_be_sent_again(service: Service) -> None:
    capped(service, max_jobs=2)
    dataset = service.ready()
    first = ask_for_job(service, 202, dataset, "once")["id"]
    ask_for_job(service, 202, dataset)
    ask_for_job(service, 429, dataset)
    assert ask_for_job(service, 202, dataset, "once")["id"] == first
    service.client.delete(f"/v1/jobs/{first}")
    ask_for_job(service, 202, dataset)


@on_both_databases
def test_the_jobs_of_a_project_make_no_more_images_than_they_may(service: Service) -> None:
    capped(service, max_project_items=7)
    dataset = service.ready(3)
    ask_for_job(service, 202, dataset)
    assert "there would be 9 images; the limit is 7" in ask_for_job(service, 429, dataset, variants=1)["detail"]
    assert len(service.get("/v1/jobs")["items"]) == 1
    ask_for_job(service, 202, dataset, variants=1, max_images=1)


def test_without_caps_nothing_is_counted(service: Service) -> None:
    capped(service, max_datasets=0, max_jobs=0, max_project_items=0)
    dataset = service.ready(1)
    with service.queries() as asked:
        upload(service, 202)
        ask_for_job(service, 202, dataset)
    counted = [statement for statement in asked if "count(" in statement and "GROUP BY" not in statement]
    # The images of a dataset are, where a canvas follows them.
    assert not [statement for statement in counted if "image.dataset_id" not in statement]


@on_both_databases
def test_a_job_that_does_not_fit_on_the_disk_is_refused_with_numbers(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = service.ready(3)
    sizes = [image["bytes"] for image in service.get(f"/v1/datasets/{dataset}/images")["items"]]
    needed = (2 * 2 + 1) * sum(sizes)
    free_is(monkeypatch, needed - 1)
    problem = ask_for_job(service, 507, dataset)
    assert (problem["needed"], problem["free"]) == (needed, needed - 1)
    assert problem["type"].endswith("/insufficient-storage")
    assert service.get("/v1/jobs")["items"] == []
    free_is(monkeypatch, needed)
    ask_for_job(service, 202, dataset, "key")
    service.do(6)
    free_is(monkeypatch, (2 + 1) * sum(sizes))
    assert ask_for_job(service, 202, dataset)["reused"] == 6
    free_is(monkeypatch, 2 * sum(sizes))
    ask_for_job(service, 202, dataset, output={"include_originals": False})
    ask_for_job(service, 507, dataset, output={"include_originals": False, "image_format": "jpeg"})
    free_is(monkeypatch, 0)
    ask_for_job(service, 202, dataset, "key")


def test_an_upload_that_does_not_fit_on_the_disk_is_refused_before_it_comes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_is(monkeypatch, 1999)
    assert announce(service, 507)["needed"] == 2000
    form = {"content-type": "multipart/form-data; boundary=x", "content-length": "1000"}
    problem = told(service.client.post("/v1/datasets", content=unread(), headers=form), 507)
    assert (problem["needed"], problem["free"]) == (2000, 1999)
    # In chunks it says so only once it is here.
    told(service.client.post("/v1/datasets", content=iter([FORM]), headers=form | {"content-length": ""}), 507)
    free_is(monkeypatch, 2000)
    announce(service, 201)
    assert service.hints == []


@pytest.mark.parametrize("when", ["it is read", "it is stored"])
def test_a_disk_that_fills_up_meanwhile_is_told_too(
    service: Service, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    if when == "it is read":
        monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile.write", no_space)
    else:
        monkeypatch.setattr(os, "fsync", no_space)
    assert upload(service, 507)["type"].endswith("/insufficient-storage")
    assert service.get("/v1/datasets")["items"] == []
    assert not [path for path in service.storage.root.rglob("*") if path.is_file()]


def test_another_error_of_the_system_is_still_a_defect(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda *_: raised(errno.EIO))
    upload(service, 500)


def test_who_asks_too_often_with_a_key_waits(service: Service) -> None:
    state = service.client.app.state  # type: ignore[union-attr]
    state.parts = replace(state.parts, rate=Rate(3, lambda: 0.0))
    with service.sessions.write() as session:
        anna, ben = ({"Authorization": f"Bearer {keys.create(session, 'knee', name)[1]}"} for name in ("anna", "ben"))
    asked = [service.client.get("/v1/jobs", headers=anna) for _ in range(4)]
    assert [answer.status_code for answer in asked] == [200, 200, 200, 429]
    assert asked[-1].headers["retry-after"] == "20"
    assert asked[-1].json()["type"].endswith("/too-many-requests")
    assert service.client.get("/healthz", headers=anna).status_code == 200
    assert service.client.get("/v1/priors", headers=ben).status_code == 200
    assert {service.client.get("/v1/jobs").status_code for _ in range(10)} == {200}


def test_a_caller_may_make_so_many_requests_at_once_and_then_as_many_a_minute() -> None:
    now = 0.0
    bucket = Rate(30, lambda: now)
    assert [bucket.wait("anna") for _ in range(31)] == [0] * 30 + [2]
    assert bucket.wait("ben") == 0
    now = 1.5
    assert bucket.wait("anna") == 1
    now = 2.0
    assert [bucket.wait("anna"), bucket.wait("anna")] == [0, 2]
    now = 10_000.0
    assert [bucket.wait("anna") for _ in range(31)] == [0] * 30 + [2]


def test_callers_who_have_not_asked_for_long_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "_MOST", 10)
    now = 0.0
    bucket = Rate(2, lambda: now)
    assert [bucket.wait("busy"), bucket.wait("busy"), bucket.wait("busy")] == [0, 0, 30]
    for number in range(1000):
        now = number / 100
        bucket.wait(number)
    now = 15.0
    assert bucket.wait("busy") > 0
    now = 10_000.0
    bucket.wait("new")
    assert len(bucket._left) == 1


FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n' + b"x" * 1000 + b"\r\n--x--\r\n"


def free_is(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """Beside what stays free."""
    monkeypatch.setattr(Folder, "free", lambda _: GiB + left)


def unread() -> Any:
    pytest.fail("it was read")
    yield b""


def no_space(*_: Any) -> None:
    raised(errno.ENOSPC)


def raised(number: int) -> None:
    raise OSError(number, os.strerror(number))
