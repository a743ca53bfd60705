"""Each request has an id, and a line in the log."""

import logging
import re

import pytest
from service import MISSING, Service
from sqlalchemy import select

from shared.models import Job

NAME = "Anna_Mueller"


def test_the_id_a_request_came_with_goes_back_and_into_its_problem(service: Service) -> None:
    answer = service.client.get(f"/v1/jobs/{MISSING}", headers={"X-Request-ID": "from-the-lab.1"})
    assert answer.status_code == 404
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "from-the-lab.1"


@pytest.mark.parametrize("came", [None, "", "a b", "a" * 65, "x;y", '{"a": 1}'])
def test_without_a_fit_one_it_gets_a_new_one(service: Service, came: str | None) -> None:
    headers = {} if came is None else {"X-Request-ID": came}
    ids = [service.client.get("/healthz", headers=headers).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert ids[0] != ids[1]


def test_what_ends_before_a_route_and_in_a_defect_has_one_too(service: Service) -> None:
    def broken() -> None:
        raise RuntimeError("no")

    service.client.app.add_api_route("/broken", broken)  # type: ignore[union-attr]
    for path, headers, status in (("/broken", {}, 500), ("/v1/jobs", {"Host": "evil.example"}, 403)):
        answer = service.client.get(path, headers={"X-Request-ID": "r7", **headers})
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "r7")
        assert answer.json()["request_id"] == "r7"


def test_a_job_remembers_the_request_that_made_it(service: Service) -> None:
    dataset_id = service.ready(1)
    service.client.post("/v1/jobs", json={"dataset_id": dataset_id}, headers={"X-Request-ID": "r9"})
    with service.sessions.read() as session:
        assert session.scalars(select(Job.request_id)).all() == ["r9"]
    (work,) = service.claim(1)
    assert work.ids == {"job": work.job_id, "project": "local", "request": "r9"}


def test_its_line_has_the_route_and_no_name(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "api.follow"):
        service.client.get(f"/v1/priors/{NAME}?q={NAME}")
        service.client.get(f"/nowhere/{NAME}")
        service.client.get("/healthz")
        service.client.request("BREW", f"/{NAME}")
    lines = [(record.levelname, record.getMessage().partition(" in ")[0]) for record in caplog.records]
    assert lines == [
        ("INFO", "GET /v1/priors/{name}: 404"),
        ("INFO", "GET (no route): 404"),
        ("DEBUG", "GET /healthz: 200"),
        ("INFO", "OTHER (no route): 404"),
    ]
    assert NAME not in caplog.text
