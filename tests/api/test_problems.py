"""Every error is problem+json and tells nothing of our insides."""

import logging
from pathlib import Path

import pytest
from live import free_port
from service import MISSING, Service
from starlette.testclient import TestClient

from api.main import create_app
from shared.db import make_sessions
from shared.errors import NotConfigured
from shared.settings import Settings
from shared.storage import Folder


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "slug"),
    [
        ("GET", "/nothing", b"", 404, "not-found"),
        ("PUT", "/v1/jobs", b"", 405, "method-not-allowed"),
        ("POST", "/v1/jobs", b"{", 400, "bad-request"),
        ("POST", "/v1/jobs", b"\xff", 400, "bad-request"),
        ("POST", "/v1/jobs", b"", 422, "invalid"),
        ("POST", "/v1/jobs", b"[]", 422, "invalid"),
        ("POST", "/v1/jobs", b'"' + b"x" * 2**20 + b'"', 413, "too-large"),
        ("POST", "/v1/datasets", b"{}", 422, "invalid"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_a_problem(
    service: Service, method: str, path: str, body: bytes, status: int, slug: str
) -> None:
    answer = service.client.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (
        status,
        status,
        f"https://regrow.dev/problems/{slug}",
    )
    assert problem["detail"]
    assert problem["title"]


def test_a_method_that_is_not_taken_is_answered_with_those_that_are(service: Service) -> None:
    assert service.client.delete("/v1/priors").headers["allow"] == "GET"


def test_a_form_that_is_none_is_a_problem(service: Service) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = service.client.post("/v1/datasets", content=b"--y", headers={"Content-Type": kind})
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


def test_a_defect_of_ours_is_logged_and_not_shown(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise RuntimeError("the secret is 42")

    service.client.app.add_api_route("/broken", broken)
    with caplog.at_level(logging.ERROR, "api"):
        problem = service.get("/broken", 500)
    assert problem["type"] == "https://regrow.dev/problems/internal"
    assert "secret" not in str(problem)
    assert "RuntimeError" not in str(problem)
    assert "GET /broken ended in a RuntimeError" in caplog.text
    with pytest.raises(RuntimeError, match="42"):
        # The server gets it too, and logs the traceback.
        TestClient(service.client.app, base_url="http://127.0.0.1").get("/broken")


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_while_the_database_is_away_clients_are_told_to_come_again(
    tmp_path: Path, storage: Folder, caplog: pytest.LogCaptureFixture, database: str
) -> None:
    folder = tmp_path / "away"
    url = f"sqlite:///{folder / 'regrow.db'}" if database == "sqlite" else f"postgresql://me@127.0.0.1:{free_port()}/x"
    away = make_sessions(url)
    if database == "sqlite":
        folder.rmdir()
    app = create_app(Settings(data=tmp_path, _env_file=None), away, storage, [].append, lambda: None)
    spec = {"dataset_id": "0" * 32}
    with TestClient(app, base_url="http://127.0.0.1") as client, caplog.at_level(logging.ERROR, "api"):
        answers = [client.get(path) for path in ("/v1/jobs", f"/v1/jobs/{MISSING}", "/v1/datasets", "/v1/priors")]
        answers.append(client.post("/v1/jobs", json=spec))
        assert client.get("/healthz").status_code == 200
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "https://regrow.dev/problems/service-unavailable"
        assert str(folder) not in answer.text
    assert caplog.text.count("the database does not answer") == len(answers)
    assert "SELECT" not in caplog.text


def test_a_fault_of_the_operator_is_told_and_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    def unset() -> None:
        raise NotConfigured("REGROW_X is not set.")

    service.client.app.add_api_route("/unset", unset)
    problem = service.get("/unset", 500)
    assert (problem["type"], problem["detail"]) == (
        "https://regrow.dev/problems/not-configured",
        "REGROW_X is not set.",
    )
    assert "REGROW_X is not set." in caplog.text
