"""Jobs told what to do over HTTP: each can be said twice, whatever the job's state."""

from typing import Any

import pytest
from service import MISSING, Service, on_both_databases

from shared import jobs, priors, trash
from shared.models import Job
from shared.queue import Task
from shared.spec import ExpansionSpec

TELLING = ("cancel", "pause", "resume", "retry")


def tell(service: Service, job_id: str, what: str, status: int = 200, **body: Any) -> dict[str, Any]:
    """Say it twice; the second answer must be the first, and is returned."""
    path, same = f"/v1/jobs/{job_id}/{what}", {"X-Request-ID": "a"}
    first, second = (service.client.post(path, json=body or None, headers=same) for _ in range(2))
    assert (first.status_code, second.status_code) == (status, status), first.text
    assert first.json() == second.json()
    answer: dict[str, Any] = second.json()
    return answer


@on_both_databases
def test_a_job_can_be_paused_and_goes_on(service: Service) -> None:
    job_id = service.job(service.ready(2), variants=1)["id"]
    service.hints.clear()
    paused = tell(service, job_id, "pause")
    assert (paused["state"], paused["waits_for"]) == ("paused", None)
    assert service.claim() == []
    assert service.hints == []
    assert tell(service, job_id, "resume")["state"] == "queued"
    assert set(service.hints) == {Task.EXPAND}
    service.do(2)
    assert tell(service, job_id, "pause")["state"] == "succeeded"


@on_both_databases
def test_what_failed_is_tried_again_and_packed_anew(service: Service) -> None:
    job_id = service.job(service.ready(2), variants=1)["id"]
    service.do(1)
    service.fail(1)
    service.pack(b"zip of one")
    assert service.get(f"/v1/jobs/{job_id}")["state"] == "completed_with_errors"
    service.hints.clear()
    retried = tell(service, job_id, "retry")
    assert (retried["state"], retried["archive"], retried["finished_at"]) == ("running", None, None)
    assert set(service.hints) == {Task.EXPAND}
    service.do(1)
    service.pack(b"zip of two")
    assert service.get(f"/v1/jobs/{job_id}")["state"] == "succeeded"
    assert service.client.get(f"/v1/jobs/{job_id}/archive").content == b"zip of two"


def test_telling_a_job_that_is_over_changes_nothing_but_what_failed(service: Service) -> None:
    job_id = service.job(service.ready(1), variants=1)["id"]
    service.do(1)
    before = service.get(f"/v1/jobs/{job_id}")
    assert [tell(service, job_id, what) for what in TELLING] == [before] * 4


@on_both_databases
def test_a_deleted_job_is_gone_with_its_files(service: Service) -> None:
    dataset_id = service.ready(2)
    job_id = service.job(dataset_id, variants=1)["id"]
    service.do(1)
    held = service.claim()
    assert len(list(service.storage.root.glob("jobs/*/items/*"))) == 1
    assert service.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    service.get(f"/v1/jobs/{job_id}", 404)
    assert service.client.delete(f"/v1/jobs/{job_id}").status_code == 404
    with service.sessions.write() as session:
        trash.empty(session, service.storage)
    assert list(service.storage.root.glob("jobs/*/items/*")) == []
    assert len(held) == 1
    assert service.client.delete(f"/v1/datasets/{dataset_id}").status_code == 204
    service.get(f"/v1/datasets/{dataset_id}", 404)


def test_a_dataset_with_a_job_that_is_not_over_stays(service: Service) -> None:
    dataset_id = service.ready(1)
    job_id = service.job(dataset_id, variants=1)["id"]
    refused = service.client.delete(f"/v1/datasets/{dataset_id}")
    assert refused.status_code == 409
    assert job_id in refused.json()["detail"]
    tell(service, job_id, "cancel")
    assert service.client.delete(f"/v1/datasets/{dataset_id}").status_code == 204
    assert service.get("/v1/jobs")["items"] == []


@on_both_databases
def test_what_was_made_before_is_not_made_again(service: Service) -> None:
    dataset_id = service.ready(2)
    service.job(dataset_id, variants=1)
    service.do(2)
    more = service.job(dataset_id, variants=2)
    assert (more["state"], more["reused"], more["progress"]) == ("running", 2, 0.5)
    whole = service.job(dataset_id, variants=1)
    assert (whole["state"], whole["archive"]["state"]) == ("succeeded", "building")
    assert service.hints[-1] == Task.ARCHIVE
    assert service.job(dataset_id, variants=1, reuse=False)["reused"] == 0
    item = service.get(f"/v1/jobs/{whole['id']}/items")["items"][0]
    assert service.client.get(f"/v1/jobs/{whole['id']}/items/{item['id']}/image").status_code == 200
    assert item["reused_from"] is not None


@on_both_databases
def test_a_request_sent_again_under_its_key_is_the_same_job(service: Service) -> None:
    spec = {"dataset_id": service.ready(1), "variants": 1}
    key = {"Idempotency-Key": "a-7f"}
    first, second = (service.client.post("/v1/jobs", json=spec, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["location"] == f"/v1/jobs/{first.json()['id']}"
    # A field written out at its default is no other request.
    same = service.client.post("/v1/jobs", json=spec | {"seed": 0}, headers=key)
    assert same.json()["id"] == first.json()["id"]
    other = service.client.post("/v1/jobs", json=spec | {"variants": 2}, headers=key)
    assert (other.status_code, other.json()["type"].rpartition("/")[2]) == (422, "idempotency-key-reused")
    assert len(service.get("/v1/jobs")["items"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
def test_a_key_that_cannot_be_one_is_refused(service: Service, key: str) -> None:
    spec = {"dataset_id": service.ready(1)}
    answer = service.client.post("/v1/jobs", json=spec, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert [error["where"] for error in answer.json()["errors"]] == ["header.idempotency-key"]


@on_both_databases
def test_a_job_of_an_earlier_engine_says_so_and_waits_for_a_decision(service: Service) -> None:
    job_id = service.job(service.ready(2), variants=1)["id"]
    service.do(1)
    with service.sessions.write() as session:
        job = session.get_one(Job, job_id)
        job.resolved = job.resolved | {"engine": "0"}
    assert service.get(f"/v1/jobs/{job_id}")["waits_for"] == "engine_changed"
    assert service.claim() == []
    assert service.client.post(f"/v1/jobs/{job_id}/upgrade", json={"done": "burn"}).status_code == 422
    again = tell(service, job_id, "upgrade", done="remake")
    assert (again["counts"]["pending"], again["counts"]["done"], again["waits_for"]) == (2, 0, "no_worker")
    service.do(2)
    assert service.get(f"/v1/jobs/{job_id}")["state"] == "succeeded"


def test_nobody_elses_job_can_be_told_anything(service: Service) -> None:
    dataset_id = service.ready(1, owner="somebody")
    with service.sessions.write() as session:
        spec = ExpansionSpec(dataset_id=dataset_id)
        theirs = jobs.create(session, "somebody", spec, priors.find(session, "local", "builtin"), 100).id
    for job_id in (theirs, MISSING, "1"):
        for what in TELLING:
            tell(service, job_id, what, 404)
        tell(service, job_id, "upgrade", 404, done="keep")
        assert service.client.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert service.client.delete(f"/v1/datasets/{dataset_id}").status_code == 404
    with service.sessions.read() as session:
        job = session.get_one(Job, theirs)
        assert (job.paused_at, job.cancelled_at) == (None, None)
