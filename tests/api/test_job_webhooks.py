"""A job says whom to tell, and whether they were told."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from service import Service
from starlette.testclient import TestClient

from api.main import create_app
from shared import webhooks
from shared.db import Sessions
from shared.queue import Task
from shared.settings import Settings
from shared.storage import Folder
from shared.webhooks import Outcome

URL = "https://lab.example/hook"
SECRET = "whsec_" + "A" * 32


@pytest.fixture
def signing(
    make_app: Callable[[float], FastAPI], sessions: Sessions, storage: Folder, hints: list[Task]
) -> Callable[..., Service]:
    """Makes a service with a secret, and what else is set."""
    make_app(0.0)

    def make(**more: str) -> Service:
        settings = Settings(_env_file=None, webhook_secret=SECRET, **more)  # type: ignore[arg-type]
        app = create_app(settings, sessions, storage, hints.append, lambda: None, fresh=0.0)
        return Service(TestClient(app, base_url="http://127.0.0.1:8000"), sessions, storage, hints)

    return make


def attempt(sessions: Sessions, outcome: Outcome) -> None:
    with sessions.write() as session:
        held = webhooks.claim(session, 30)
        assert held is not None
        assert webhooks.settle(session, held, webhooks.message(session, held), outcome)


def test_the_answer_says_what_became_of_it(signing: Callable[..., Service]) -> None:
    service = signing()
    job = service.job(service.ready(1), variants=1, webhook=URL)
    path = f"/v1/jobs/{job['id']}"
    nothing = {"attempts": 0, "next_at": None, "delivered_at": None, "error": None}
    assert job["webhook"] == {"state": "waiting", "url": URL, **nothing}
    service.do(1)
    service.pack(b"zip")
    assert service.get(path)["webhook"]["state"] == "pending"
    attempt(service.sessions, Outcome("The answer was 500.", final=True))
    assert service.get(path)["webhook"] == {"state": "failed", "url": URL, **nothing} | {
        "attempts": 1,
        "error": "The answer was 500.",
    }
    assert service.get("/v1/jobs")["items"][0]["webhook"]["state"] == "failed"


def test_without_one_nobody_is_told(service: Service) -> None:
    assert service.job(service.ready(1))["webhook"] is None


def test_the_installations_own_is_not_shown(signing: Callable[..., Service]) -> None:
    service = signing(webhook_url="https://operator.example/secret-path")
    job = service.job(service.ready(1))
    assert job["webhook"]["url"] is None
    assert "secret-path" not in str(job)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://lab.example", "must begin with http:// or https://"),
        ("https://anna:geheim@lab.example", "neither a user nor a password"),
        ("http://127.0.0.1:8000/v1/jobs", "not a public one"),
        ("http://[::ffff:169.254.169.254]/", "not a public one"),
        ("", "at least 1 character"),
        ("https://lab.example/" + "a" * 2000, "at most 2000 characters"),
    ],
)
def test_an_address_that_cannot_be_told_is_refused(signing: Callable[..., Service], url: str, said: str) -> None:
    service = signing()
    answer = service.client.post("/v1/jobs", json={"dataset_id": service.ready(1), "webhook": url})
    assert answer.status_code == 422
    problem = answer.json()
    assert said in problem["detail"]
    assert problem["errors"][0]["where"] == "body.webhook"
    assert service.get("/v1/jobs")["items"] == []


def test_where_nothing_is_signed_nobody_can_be_named(service: Service) -> None:
    answer = service.client.post("/v1/jobs", json={"dataset_id": service.ready(1), "webhook": URL})
    assert answer.status_code == 422
    assert "REGROW_WEBHOOK_SECRET" in answer.json()["detail"]
