"""Jobs over HTTP."""

from typing import Any

import pytest
from service import MISSING, WIDTH, Service, on_both_databases

from shared import jobs, priors, progress
from shared.queue import Task
from shared.spec import ExpansionSpec


def test_a_job_is_written_down_with_its_items_and_handed_to_a_worker(service: Service) -> None:
    dataset_id = service.ready(3)
    spec = {"dataset_id": dataset_id, "variants": 4, "name": "Expanded", "sampler": {"steps": 20}}
    answer = service.client.post("/v1/jobs", json=spec)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "1"
    assert service.hints == [Task.EXPAND]
    assert job["state"] == "queued"
    assert job["total"] == 12
    assert job["counts"] == {"pending": 12, "running": 0, "done": 0, "failed": 0, "cancelled": 0}
    assert (job["progress"], job["eta_seconds"], job["finished_at"], job["archive"]) == (0, None, None, None)
    assert job["spec"]["variants"] == 4
    assert (job["resolved"]["steps"], job["resolved"]["long_side"]) == (20, WIDTH)
    assert service.get(answer.headers["location"]) == job


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"variants": 0}, "body.variants"),
        ({"variants": "two"}, "body.variants"),
        ({"sampler": {"preset": "quick"}}, "body.sampler.preset"),
        ({"operator": {"mask": {"sigma": 0}}}, "body.operator.mask.sigma"),
        ({"operator": {"mask": {"kind": "box", "share": 1}}}, "body.operator.mask.share"),
        ({"operator": {"mask": {"kind": "fog"}}}, "body.operator.mask"),
        ({"operator": {"kind": "gaussian_blur", "sigma": 0}}, "body.operator.sigma"),
        ({"operator": {"kind": "jpeg", "quality": 101}}, "body.operator.quality"),
        ({"operator": {"kind": "sharpen"}}, "body.operator"),
        ({"splits": ["train", ""]}, "body.splits.1"),
        ({"varaints": 2}, "body.varaints"),
        ({"dataset_id": None}, "body.dataset_id"),
    ],
)
def test_a_wrong_request_is_told_which_field_is_wrong(service: Service, wrong: dict[str, Any], where: str) -> None:
    answer = service.client.post("/v1/jobs", json={"dataset_id": MISSING} | wrong)
    assert answer.status_code == 422
    assert [error["where"] for error in answer.json()["errors"]] == [where]
    assert where in answer.json()["detail"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"prior": "chest"}, "no prior named 'chest'. Installed: builtin."),
        ({"splits": ["test"]}, "no split 'test'. It has: train"),
        ({"canvas": {"long_side": 100}}, "multiple of 16"),
        (
            {"operator": {"kind": "downsample", "factor": 5}},
            "operator.factor: 5 does not divide the canvas' side of 256",
        ),
        ({"variants": 100, "max_images": 6}, "600 images; the limit is 500"),
    ],
)
def test_a_request_that_cannot_be_met_is_told_why(service: Service, spec: dict[str, Any], told: str) -> None:
    answer = service.client.post("/v1/jobs", json={"dataset_id": service.ready(6)} | spec)
    assert (answer.status_code, answer.json()["type"]) == (422, "https://regrow.dev/problems/invalid")
    assert told in answer.json()["detail"]
    assert service.hints == []
    assert service.get("/v1/jobs")["items"] == []


def test_no_job_is_made_of_a_dataset_that_is_not_ready_or_not_ones_own(service: Service) -> None:
    statuses = [
        service.client.post("/v1/jobs", json={"dataset_id": dataset_id}).status_code
        for dataset_id in (service.rejected(), service.ready(owner="somebody"), service.checking(), MISSING)
    ]
    assert statuses == [422, 404, 409, 404]


@on_both_databases
def test_a_job_tells_how_far_it_is(service: Service) -> None:
    path = f"/v1/jobs/{service.job(service.ready(2), variants=2)['id']}"
    service.do(1)
    job = service.get(path)
    assert (job["state"], job["progress"]) == ("running", 0.25)
    assert job["counts"]["done"] == 1
    service.claim(1)
    job = service.get(path)
    assert (job["items_per_second"], job["eta_seconds"]) == (0.5, 6)


def test_a_job_is_sent_again_only_when_it_has_changed(service: Service) -> None:
    path = f"/v1/jobs/{service.job(service.ready(1), variants=2)['id']}"
    etag = service.client.get(path).headers["etag"]
    again = service.client.get(path, headers={"If-None-Match": f'"other", W/{etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    service.do(1)
    changed = service.client.get(path, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


def test_a_job_is_to_be_asked_for_again_until_its_archive_is_there(service: Service) -> None:
    path = f"/v1/jobs/{service.job(service.ready(1), variants=1)['id']}"

    def told() -> tuple[str, str | None]:
        answer = service.client.get(path)
        return answer.json()["state"], answer.headers.get("retry-after")

    assert told() == ("queued", "1")
    service.do(1)
    assert service.get(path)["archive"]["state"] == "building"
    assert told() == ("succeeded", "1")
    service.pack(b"zip")
    assert told() == ("succeeded", None)


@on_both_databases
def test_a_job_can_be_cancelled_as_often_as_one_likes(service: Service) -> None:
    job = service.job(service.ready(2), variants=2)
    service.do(1)
    service.hints.clear()
    first = service.client.post(f"/v1/jobs/{job['id']}/cancel")
    assert first.status_code == 200
    assert first.json()["state"] == "cancelled"
    assert first.json()["counts"] == {"pending": 0, "running": 0, "done": 1, "failed": 0, "cancelled": 3}
    assert first.json()["archive"]["state"] == "building"
    assert service.hints == [Task.ARCHIVE]
    assert service.client.post(f"/v1/jobs/{job['id']}/cancel").json() == first.json()
    assert service.hints == [Task.ARCHIVE]


def test_a_running_item_ends_a_cancelled_job_when_its_worker_lets_go(service: Service) -> None:
    job = service.job(service.ready(2), variants=1)
    service.claim(1)
    job = service.client.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert (job["state"], job["finished_at"]) == ("cancelling", None)
    assert (job["counts"]["running"], job["counts"]["cancelled"]) == (1, 1)


def test_cancelling_a_job_that_is_over_changes_nothing(service: Service) -> None:
    path = f"/v1/jobs/{service.job(service.ready(1), variants=1)['id']}"
    service.do(1)
    before = service.get(path)
    assert service.client.post(f"{path}/cancel").json() == before
    assert before["state"] == "succeeded"


def test_a_job_that_is_not_there_or_not_ones_own_is_not_found(service: Service) -> None:
    spec = ExpansionSpec(dataset_id=service.ready(1, owner="somebody"))
    with service.sessions.write() as session:
        theirs = jobs.create(session, "somebody", spec, priors.find(session, "local", "builtin"), 100).id
    for job_id in (theirs, MISSING, "1"):
        for what in ("", "/items", "/archive"):
            service.get(f"/v1/jobs/{job_id}{what}", 404)
        assert service.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 404
    assert service.get("/v1/jobs")["items"] == []


@on_both_databases
def test_a_text_that_the_database_cannot_hold_is_refused(service: Service) -> None:
    dataset_id = service.ready(1)
    for field in ("name", "prior", "dataset_id"):
        answer = service.client.post("/v1/jobs", json={"dataset_id": dataset_id} | {field: "a\0b"})
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"where": f"body.{field}", "what": "holds a NUL character"}]
    assert service.client.post("/v1/jobs", json={"dataset_id": dataset_id, "splits": ["a\0b"]}).status_code == 422
    for path in ("/v1/jobs/%00", "/v1/jobs/a%00b/items", f"/v1/datasets/{dataset_id}%00"):
        service.get(path, 404)
    assert service.get(f"/v1/datasets/{dataset_id}/images?split=%00", 422)["errors"][0]["where"] == "query.split"


def test_installed_priors_are_listed_with_what_a_request_must_know(service: Service) -> None:
    assert service.get("/v1/priors")["items"] == [
        {
            "name": "builtin",
            "sha256": "a" * 64,
            "native_size": 128,
            "multiple": 16,
            "bytes": 7,
            "card": "# Built-in",
            "kind": "prior",
            "prompts": False,
            "words": [],
            "origin": "builtin",
            "training_id": None,
            "source": None,
        }
    ]


def test_what_a_job_would_take_is_told_before(service: Service) -> None:
    dataset_id = service.ready(3, valid=1)
    answer = service.client.post("/v1/jobs/estimate", json={"dataset_id": dataset_id, "variants": 4})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["images"], told["items"], told["reused"], told["basis"], told["workers"]) == (3, 12, 0, "guess", 0)
    assert 0 < told["bytes_needed"] < told["bytes_free"]
    refused = service.client.post("/v1/jobs/estimate", json={"dataset_id": dataset_id, "splits": ["test"]})
    assert refused.status_code == 422
    assert service.get("/v1/jobs")["items"] == []
    assert told["long_side"] == service.job(dataset_id)["resolved"]["long_side"] == WIDTH


def test_how_many_other_jobs_want_the_workers(service: Service) -> None:
    dataset_id = service.ready(1)
    first, paused, later, urgent = (service.job(dataset_id, priority=each)["id"] for each in (0, 0, 0, 5))
    service.client.post(f"/v1/jobs/{paused}/pause")
    with service.sessions.read() as session:
        counts = [progress.rivals(session, jobs.get(session, "local", each)) for each in (first, later, urgent)]
    assert counts == [2, 2, 0]
