"""Who did what."""

from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from service import Service, on_both_databases
from sqlalchemy import update
from test_caps import capped, free_is

from api import deps
from shared import keys
from shared.models import AuditEntry, Dataset

TUS = {"Tus-Resumable": "1.0.0"}


def noted(service: Service, query: str = "") -> list[tuple[str, str, int]]:
    """What is in the trail, oldest first."""
    found = service.get(f"/v1/audit?{query}")["items"]
    return [(entry["action"], entry["object"], entry["count"]) for entry in reversed(found)]


def speak_as(service: Service, name: str | None) -> None:
    """Go on with a key of that name, or without one."""
    service.client.headers.pop("Authorization", None)
    if name is not None:
        with service.sessions.write() as session:
            _, key = keys.create(session, keys.LOCAL, name)
        service.client.headers["Authorization"] = f"Bearer {key}"


def told(service: Service, method: str, path: str, status: int = 200, **more: Any) -> Any:
    answer = service.client.request(method, path, **more)
    assert answer.status_code == status, answer.text
    return answer


@on_both_databases
def test_what_is_done_to_a_job_is_noted_once(service: Service) -> None:
    dataset = service.ready(3)
    job = service.job(dataset)["id"]
    path = f"/v1/jobs/{job}"
    for what in ("pause", "pause", "resume", "resume", "cancel", "cancel", "retry", "retry"):
        told(service, "POST", f"{path}/{what}")
    service.fail(1)
    told(service, "POST", f"{path}/retry")
    told(service, "POST", f"{path}/upgrade", json={"done": "keep"})
    told(service, "DELETE", path, 204)
    told(service, "DELETE", path, 404)
    changes = ["created", "paused", "resumed", "cancelled", "retried", "retried", "deleted"]
    assert noted(service) == [(change, path, 1) for change in changes]


@on_both_databases
def test_the_trail_says_who_it_was_and_only_to_those_of_the_project(service: Service) -> None:
    dataset = service.ready(3)
    speak_as(service, "anna")
    job = service.job(dataset)["id"]
    speak_as(service, None)
    told(service, "DELETE", f"/v1/datasets/{dataset}", 409)
    told(service, "POST", f"/v1/jobs/{job}/cancel")
    told(service, "DELETE", f"/v1/datasets/{dataset}", 204)
    found = [(entry["by"], entry["action"], entry["object"]) for entry in service.get("/v1/audit")["items"]]
    assert sorted(found[:2]) == [
        ("local", "deleted", f"/v1/datasets/{dataset}"),
        ("local", "deleted", f"/v1/jobs/{job}"),
    ]
    assert found[2:] == [("local", "cancelled", f"/v1/jobs/{job}"), ("anna", "created", f"/v1/jobs/{job}")]
    with service.sessions.write() as session:
        session.execute(update(AuditEntry).values(owner="another"))
    assert noted(service) == []


@on_both_databases
def test_it_can_be_asked_about_one_thing_and_one_action(service: Service) -> None:
    dataset = service.ready(3)
    first, second = service.job(dataset)["id"], service.job(dataset, seed=2)["id"]
    service.do(1)
    told(service, "GET", f"/v1/jobs/{first}/items/1/image")
    told(service, "POST", f"/v1/jobs/{second}/cancel")
    its = [("created", f"/v1/jobs/{first}", 1), ("downloaded", f"/v1/jobs/{first}/items/1/image", 1)]
    assert noted(service, f"object=/v1/jobs/{first}") == its
    assert noted(service, f"object=/v1/jobs/{first}/") == its
    assert noted(service, f"object=/v1/jobs/{first}&action=downloaded") == its[1:]
    assert len(noted(service, "action=created&action=cancelled")) == 3
    assert noted(service, f"object=/v1/jobs/{first[:-1]}") == []
    assert noted(service, "object=/v1/jobs/%25") == []
    service.get("/v1/audit?object=jobs", 422)
    service.get("/v1/audit?action=seen", 422)


def test_an_upload_is_noted_when_it_is_whole(service: Service) -> None:
    made = told(service, "POST", "/v1/datasets", 202, files={"file": ("p17_secret.zip", b"x" * 100)}).json()["id"]
    told(service, "POST", "/v1/datasets", 422, files={"file": ("a.zip", b"")})
    coming = told(service, "POST", "/v1/uploads", 201, headers=TUS | {"Upload-Length": "4"}).json()["id"]
    for offset in ("0", "2"):
        assert noted(service) == [("uploaded", f"/v1/datasets/{made}", 1)]
        headers = TUS | {"Upload-Offset": offset, "Content-Type": "application/offset+octet-stream"}
        told(service, "PATCH", f"/v1/uploads/{coming}", 204, headers=headers, content=b"zi")
    assert noted(service)[1:] == [("uploaded", f"/v1/datasets/{coming}", 1)]
    told(service, "DELETE", f"/v1/uploads/{coming}", 204, headers=TUS)
    assert noted(service)[2:] == [("deleted", f"/v1/uploads/{coming}", 1)]
    assert "secret" not in str(service.get("/v1/audit"))


def test_what_is_forgotten_is_noted_for_each_dataset(service: Service) -> None:
    first, second = service.ready(3), service.ready(2)
    forget = {"match": "*", "everywhere": True}
    told(service, "POST", f"/v1/datasets/{first}/forget", json=forget | {"dry_run": True})
    assert noted(service) == []
    told(service, "POST", f"/v1/datasets/{first}/forget", json=forget)
    told(service, "POST", f"/v1/datasets/{first}/forget", json=forget)
    assert sorted(noted(service)) == sorted(
        [("forgot", f"/v1/datasets/{first}", 3), ("forgot", f"/v1/datasets/{second}", 2)]
    )


@on_both_databases
def test_a_download_is_noted_once_an_hour_for_each_who_makes_it(service: Service) -> None:
    job = service.job(service.ready(1), variants=1)["id"]
    path = f"/v1/jobs/{job}/archive"
    told(service, "GET", path, 409)
    service.do(1)
    told(service, "GET", path, 409)
    service.pack(b"zipped")
    told(service, "HEAD", path)
    etag = told(service, "HEAD", path).headers["etag"]
    told(service, "GET", path, 304, headers={"If-None-Match": etag})
    assert noted(service, "action=downloaded") == []
    for part in ("bytes=0-0", "bytes=0-2", "bytes=3-"):
        told(service, "GET", path, 206, headers={"Range": part})
    assert noted(service, "action=downloaded") == [("downloaded", path, 1)]
    speak_as(service, "anna")
    told(service, "GET", path)
    assert len(noted(service, "action=downloaded")) == 2
    with service.sessions.write() as session:
        session.execute(update(AuditEntry).values(created_at=AuditEntry.created_at - 3601))
    told(service, "GET", path)
    told(service, "GET", path)
    assert [entry["by"] for entry in service.get("/v1/audit?action=downloaded")["items"]] == ["anna", "anna", "local"]


def test_originals_and_new_images_are_downloads_and_pictures_of_them_are_none(service: Service) -> None:
    dataset = service.ready(1)
    job = service.job(dataset, variants=2)["id"]
    service.do(1)
    sent = [
        f"/v1/datasets/{dataset}/images/1/file",
        f"/v1/jobs/{job}/items/1/image",
        f"/v1/jobs/{job}/archive?partial=1",
    ]
    for path in [*sent, f"/v1/datasets/{dataset}/images/1/preview", f"/v1/jobs/{job}/items/1/mask", f"/v1/jobs/{job}"]:
        told(service, "GET", path)
    assert noted(service, "action=downloaded") == [("downloaded", path.partition("?")[0], 1) for path in sent]


@on_both_databases
def test_what_is_refused_or_fails_is_not_noted(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = service.ready(1)
    capped(service, max_project_items=1)
    told(service, "POST", "/v1/jobs", 429, json={"dataset_id": dataset})
    free_is(monkeypatch, 0)
    told(service, "POST", "/v1/jobs", 507, json={"dataset_id": dataset, "variants": 1})
    monkeypatch.undo()
    monkeypatch.setattr("api.schemas.datasets.Dataset.from_row", fails)
    told(service, "POST", "/v1/datasets", 500, files={"file": ("a.zip", b"x")})
    assert noted(service) == []
    with service.sessions.read() as session:
        assert session.query(Dataset).count() == 1


def test_verdicts_are_noted_with_how_many_are_new(service: Service) -> None:
    job = service.job(service.ready(3), variants=1)["id"]
    service.do(3)
    speak_as(service, "anna")
    for items in ([1, 2], [1, 2], [2, 3]):
        said = [{"item": item, "verdict": "reject"} for item in items]
        told(service, "POST", f"/v1/jobs/{job}/verdicts", json=said)
    assert noted(service, "action=judged") == [("judged", f"/v1/jobs/{job}", 2), ("judged", f"/v1/jobs/{job}", 1)]


def test_a_request_that_is_sent_again_is_noted_once(service: Service) -> None:
    dataset = service.ready(1)
    for path, body in (
        ("/v1/jobs", {"dataset_id": dataset}),
        ("/v1/jobs", {"dataset_id": dataset}),
    ):
        told(service, "POST", path, 202, json=body, headers={"Idempotency-Key": "once"})
    assert [action for action, *_ in noted(service)] == ["created"]


def test_every_route_that_changes_something_can_note_it(service: Service) -> None:
    changing = {
        context.name: context.dependant.dependencies
        for context in iter_route_contexts(service.client.app.routes)  # type: ignore[union-attr]
        if isinstance(context.original_route, APIRoute) and context.methods - {"GET", "HEAD", "OPTIONS"}
    }
    without = {name for name, needs in changing.items() if deps._trail not in {each.call for each in needs}}
    # They change nothing, or nothing of the project's yet; a review says by itself whose it is.
    asks = {"preview_mask", "estimate_job", "preview_filters", "page_estimate", "page_mask", "page_outlook"}
    assert without - asks == {
        "create_upload",
        "begin_review",
        "answer_review",
        "page_begin_blind",
        "page_answer_card",
        "sign_in",
        "sign_out",
        "page_signed_in",
        "page_sign_out",
    }
    assert len(changing) > 30


def fails(*_: Any) -> None:
    raise RuntimeError("a defect")
