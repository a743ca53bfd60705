"""Every route there is: nobody gets in without a key that counts, and nobody learns of what is another project's."""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from doors import Keyring, app_client, bearer
from fastapi.routing import iter_route_contexts
from service import MISSING, Service
from starlette.testclient import TestClient

from shared import hauls, stretches
from shared.db import Sessions
from shared.models import Prior
from shared.priors import FACTS, SAMPLES
from shared.queue import Task
from shared.storage import Folder, prior_key, training_key

OPEN = {
    *(("GET", path) for path in ("/", "/healthz", "/readyz", "/docs", "/openapi.json", "/sign-in")),
    ("HEAD", "/openapi.json"),
    ("POST", "/sign-in"),
    ("POST", "/v1/session"),
}
"""What is answered without a key. It is written here once more, so that no route is opened by mistake."""
FILES = {"/docs", "/static"}

_ABSENT: dict[str, object] = {
    "dataset_id": MISSING,
    "image_id": 1,
    "upload_id": MISSING,
    "job_id": MISSING,
    "item_id": 1,
    "review_id": MISSING,
    "card_id": "0" * 16,
    "receipt_id": MISSING,
    "training_id": MISSING,
    "fetch_id": MISSING,
    "name": "absent",
    "what": "pause",
}
FETCH = {"repo": "lab/sd", "revision": "0" * 40}
_FRAGMENTS = {("POST", "/datasets/{dataset_id}/estimate")}
"""Parts of pages, which say what is wrong in words."""
_MAKES = {("POST", "/v1/priors/{name}/fetch"), ("POST", "/fetches")}
"""What brings a prior under a name of one's own, whoever else has it."""
_ORDER = ("GET", "HEAD", "OPTIONS", "POST", "PATCH", "DELETE")


def _beside(ids: dict[str, object]) -> dict[tuple[str, str], dict[str, Any]]:
    """What routes with an id in their path need beside it."""
    job = "/v1/jobs/{job_id}"
    return {
        ("POST", "/v1/datasets/{dataset_id}/forget"): {"json": {"match": "000.png", "dry_run": True}},
        ("POST", "/v1/priors/{name}/fetch"): {"json": FETCH},
        ("POST", f"{job}/upgrade"): {"json": {"done": "keep"}},
        ("POST", f"{job}/verdicts"): {"json": [{"item": ids["item_id"], "verdict": "accept"}]},
        ("POST", f"{job}/reviews"): {"json": {"count": 2}},
        ("POST", f"{job}/reviews/{{review_id}}/answers"): {"json": [{"card": ids["card_id"], "answer": "real"}]},
        ("POST", f"{job}/filters/preview"): {"json": {"filters": []}},
        ("POST", f"{job}/archive"): {"json": {"filters": []}},
        ("POST", "/jobs/{job_id}/decision/upgrade"): {"data": {"done": "keep"}},
        ("POST", "/jobs/{job_id}/review"): {"data": {"item": ids["item_id"], "verdict": "accept"}},
        ("POST", "/jobs/{job_id}/blind/{review_id}"): {"data": {"card": ids["card_id"], "answer": "real"}},
        ("GET", "/datasets/{dataset_id}/mask"): {"params": {"image": ids["image_id"]}},
    }


@dataclass(frozen=True)
class World:
    """The API, with one of everything in the project `knee`."""

    client: TestClient
    ids: dict[str, object]
    knee: str
    hand: str
    """A key of another project."""

    def routes(self) -> list[tuple[str, str]]:
        """Method and path of each: those that read first, and those that delete last."""
        contexts = list(iter_route_contexts(self.client.app.routes))
        assert {context.path for context in contexts if not context.methods} == FILES
        found = {(method, context.path) for context in contexts for method in context.methods or ()}
        assert len(found) > 90
        last = "/v1/datasets/{dataset_id}"
        return sorted(found, key=lambda each: (_ORDER.index(each[0]), each[1] == last, each[1]))

    def ask(self, method: str, path: str, ids: dict[str, object], key: str | None, **more: Any) -> httpx.Response:
        headers = {"Tus-Resumable": "1.0.0"} if path.startswith("/v1/uploads") else {}
        if method == "PATCH":
            headers |= {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
            more["content"] = b"x"
        elif "{" in path:
            more |= _beside(_ABSENT | ids).get((method, path), {})
        headers |= (bearer(key) if key else {}) | more.pop("headers", {})
        return self.client.request(method, path.format(**ids), headers=headers, follow_redirects=False, **more)


@pytest.fixture
def world(sessions: Sessions, storage: Folder, hints: list[Task]) -> Iterator[World]:
    ring = Keyring(sessions)
    client = app_client(sessions, storage, hints, require_key=True, max_requests_per_minute=0, hub_allow="lab/*")
    knee, hand = ring.make("knee"), ring.make("hand", "ben")
    with sessions.write() as session:
        session.add(Prior(name="builtin", sha256="a" * 64, native_size=128, multiple=16, size=7, card=""))
    with client:
        client.headers.update(bearer(knee))
        ids = _one_of_everything(Service(client, sessions, storage, hints))
        del client.headers["Authorization"]
        yield World(client, ids, knee, hand)


def _one_of_everything(service: Service) -> dict[str, object]:
    dataset_id = service.ready(21, owner="knee")
    first, last = service.get(f"/v1/datasets/{dataset_id}/images?limit=21")["items"][::20]
    job_id = service.job(dataset_id, max_images=2, variants=1)["id"]
    service.do(2)
    name = last["path"].rpartition("/")[2]
    forgotten = service.client.post(f"/v1/datasets/{dataset_id}/forget", json={"match": name}).json()
    service.pack(b"zip")
    review = service.client.post(f"/v1/jobs/{job_id}/reviews", json={"count": 2}).json()
    upload = service.client.post("/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "9"}).json()
    return {
        "dataset_id": dataset_id,
        "image_id": first["id"],
        "upload_id": upload["id"],
        "job_id": job_id,
        "item_id": service.get(f"/v1/jobs/{job_id}/items")["items"][0]["id"],
        "receipt_id": forgotten["id"],
        "training_id": _train(service, dataset_id),
        "fetch_id": _fetch(service),
        "review_id": review["id"],
        "card_id": review["cards"][0]["id"],
        "name": "wrists",
        "what": "pause",
    }


def _train(service: Service, dataset_id: str) -> str:
    training_id: str = service.client.post("/v1/priors", json={"dataset_id": dataset_id, "name": "wrists"}).json()["id"]
    for key in (
        training_key(training_id, "preview.png"),
        *(prior_key(training_id) + each for each in (FACTS, SAMPLES)),
    ):
        service.storage.write(key, b"{}")
    with service.sessions.write() as session:
        work = stretches.claim(session, "worker", 30, hashes=[], jobs_wait=False)
        assert work is not None
        prior = Prior(
            name="wrists", sha256="b" * 64, native_size=64, multiple=16, size=9, card="", training_id=training_id
        )
        assert stretches.finish(session, work, prior)
    return training_id


def _fetch(service: Service) -> str:
    fetch_id: str = service.client.post("/v1/priors/sd/fetch", json=FETCH).json()["id"]
    with service.sessions.write() as session:
        work = hauls.claim(session, "worker", 30)
        assert work is not None
        assert hauls.finish(session, work, Prior(name="sd", sha256="c" * 64, native_size=64, multiple=16, size=9))
    return fetch_id


def test_no_route_answers_without_a_key_that_counts(world: World, sessions: Sessions) -> None:
    ring = Keyring(sessions)
    keys = {None: None, "wrong": "rg_" + "0" * 64, "expired": ring.expired(), "revoked": ring.revoked()}
    closed = [route for route in world.routes() if route not in OPEN]
    assert len(closed) > 80
    for method, path in closed:
        for kind, key in keys.items():
            answer = world.ask(method, path, world.ids, key)
            assert answer.status_code == 401, (method, path, kind)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"].startswith('Bearer realm="regrow"')
            if method != "HEAD":
                assert answer.json()["type"] == "https://regrow.dev/problems/unauthorized"
    assert world.client.get("/v1/no-such-route").status_code == 401


def test_what_is_open_tells_nothing_of_a_project(world: World) -> None:
    assert set(world.routes()) >= OPEN
    for method, path in OPEN:
        answer = world.client.request(method, path, follow_redirects=False)
        assert answer.status_code in (200, 303, 307, 401, 422, 503), path
        for word in ("anna", "wrists", *(str(each) for each in world.ids.values() if len(str(each)) > 8)):
            assert word not in answer.text, (path, word)


def test_what_is_another_projects_is_not_there(world: World) -> None:
    named = [route for route in world.routes() if "{" in route[1]]
    assert len(named) > 60
    for method, path in (route for route in named if route not in _MAKES):
        theirs = world.ask(method, path, world.ids, world.hand)
        absent = world.ask(method, path, _ABSENT, world.hand)
        right = 200 if (method, path) in _FRAGMENTS else 404
        assert (theirs.status_code, absent.status_code) == (right, right), (method, path, theirs.text)
        assert _without_ids(theirs.text, world.ids) == _without_ids(absent.text, _ABSENT), (method, path)
        assert sorted(theirs.headers) == sorted(absent.headers)
    # Nothing is any the worse for it, and all of it is there for those whose it is. A page's button to delete does what
    # the route of that name does.
    for method, path in named:
        if not path.endswith("/delete"):
            answer = world.ask(method, path, world.ids, world.knee)
            right = (200, 201, 202, 204, 409) if path.startswith("/v1/") else (200, 303, 409, 422)
            assert answer.status_code in right, (method, path, answer.text)


def test_lists_and_requests_without_an_id_are_of_ones_own_project(world: World) -> None:
    dataset, image = world.ids["dataset_id"], world.ids["image_id"]
    parent = base64.b64encode(str(dataset).encode()).decode()
    upload = {"Upload-Length": "9", "Upload-Metadata": f"name YQ==,parent {parent}"}
    form = {"files": {"file": ("a.zip", b"zip")}, "data": {"parent": dataset}}
    asked: dict[tuple[str, str], dict[str, Any]] = {
        ("POST", "/v1/datasets"): form,
        ("POST", "/v1/uploads"): {"headers": upload},
        ("POST", "/v1/masks/preview"): {"json": {"dataset_id": dataset, "image_id": image, "mask": {"kind": "random"}}},
        ("POST", "/v1/jobs"): {"json": {"dataset_id": dataset}},
        ("POST", "/v1/jobs/estimate"): {"json": {"dataset_id": dataset}},
        ("POST", "/v1/priors"): {"json": {"dataset_id": dataset, "name": "wrists"}},
        ("POST", "/datasets"): form,
        ("POST", "/priors"): {"data": {"dataset_id": dataset, "name": "wrists"}},
        ("GET", "/pilots"): {"params": {"job": world.ids["job_id"]}},
    }
    kinds = ("datasets", "uploads", "jobs", "receipts", "priors", "trainings", "fetches", "audit")
    lists = {("GET", f"/v1/{kind}") for kind in kinds}
    pages = {("GET", f"/{kind}") for kind in ("datasets", "jobs", "priors")}
    nobodys = {("OPTIONS", "/v1/uploads"), ("GET", "/v1/session"), ("DELETE", "/v1/session"), ("POST", "/sign-out")}
    nobodys |= {("GET", "/metrics")}
    flat = {route for route in world.routes() if "{" not in route[1]}
    assert flat - OPEN - _MAKES == set(asked) | lists | pages | nobodys
    for (method, path), more in asked.items():
        theirs = world.ask(method, path, {}, world.hand, **more)
        assert theirs.status_code == 404, (method, path, theirs.text)
        own = world.ask(method, path, {}, world.knee, **more)
        assert own.status_code in (200, 201, 202, 303, 409), (method, path, own.text)
    for method, path in lists:
        theirs, own = world.ask(method, path, {}, world.hand).json(), world.ask(method, path, {}, world.knee).json()
        names = [each["name"] for each in theirs["items"]]
        assert names == (["builtin"] if path == "/v1/priors" else [])
        assert len(own["items"]) > len(names)
    priors = world.ask("GET", "/v1/priors", {}, world.hand).json()
    assert priors["trainings"] == priors["fetches"] == []
    for method, path in pages:
        theirs, own = world.ask(method, path, {}, world.hand), world.ask(method, path, {}, world.knee)
        told = [word for word in map(str, world.ids.values()) if len(word) > 5 and word in own.text]
        assert told, path
        assert not [word for word in told if word in theirs.text]
    for method, path in nobodys - {("GET", "/metrics")}:
        assert world.ask(method, path, {}, world.hand).status_code < 400


def test_what_the_operator_installed_is_there_for_all_and_nobody_deletes_it(world: World) -> None:
    for key in (world.knee, world.hand):
        ids = {"name": "builtin"}
        assert world.ask("GET", "/v1/priors/{name}", ids, key).status_code == 200
        assert world.ask("DELETE", "/v1/priors/{name}", ids, key).status_code == 409


def _without_ids(text: str, ids: dict[str, object]) -> str:
    text = re.sub('"request_id":"[0-9a-f]{32}"', "", text)
    for name, value in ids.items():
        text = re.sub(rf"\b{value}\b", name, text)
    return re.sub("(dataset|upload|job|receipt|training|fetch)_id", "id", re.sub("(image|item)_id", "number", text))
