"""Priors from a hub over HTTP: allowed or not, asked for, watched, told what to do, deleted. No hub is asked."""

from collections.abc import Iterator
from typing import Any

import pytest
from doors import Keyring, app_client, bearer
from service import Service
from sqlalchemy import select, update

from shared import hauls
from shared.db import Sessions, now
from shared.hauls import Noted, Work
from shared.models import Fetch, Prior, Trash
from shared.queue import Task
from shared.storage import Folder, fetch_key, prior_key

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASKED = {"repo": "lab/tiny-sd", "revision": COMMIT}


@pytest.fixture
def service(sessions: Sessions, storage: Folder, hints: list[Task]) -> Iterator[Service]:
    """The API of an installation whose operator allows some repositories."""
    with sessions.write() as session:
        session.add(Prior(name="builtin", sha256="a" * 64, native_size=128, multiple=16, size=7, card="# Built-in"))
    client = app_client(sessions, storage, hints, hub_allow="lab/*, other/one")
    with client:
        yield Service(client, sessions, storage, hints)


def ask(service: Service, status: int = 202, name: str = "sd15", **more: Any) -> Any:
    answer = service.client.post(f"/v1/priors/{name}/fetch", json={**ASKED, **more})
    assert answer.status_code == status, answer.text
    return answer.json()


def claimed(service: Service) -> Work:
    with service.sessions.write() as session:
        work = hauls.claim(session, "worker", 30)
    assert work is not None
    return work


def renewed(service: Service, work: Work, noted: Noted) -> bool:
    with service.sessions.write() as session:
        return hauls.renew(session, work.claim, noted, 30)


def finished(service: Service, work: Work) -> bool:
    prior = Prior(name=work.name, sha256="b" * 64, native_size=64, multiple=16, size=9, card="# Tiny")
    with service.sessions.write() as session:
        return hauls.finish(session, work, prior)


def test_a_fetch_is_accepted_watched_and_ends_as_a_prior_that_a_job_can_name(service: Service) -> None:
    answer = service.client.post("/v1/priors/sd15/fetch", json=ASKED)
    assert answer.status_code == 202
    made, path = answer.json(), answer.headers["location"]
    assert (path, answer.headers["retry-after"]) == (f"/v1/fetches/{made['id']}", "1")
    assert service.hints == [Task.FETCH]
    assert {key: made[key] for key in ("state", "progress", "bytes", "error", "waits_for", "repo", "revision")} == {
        "state": "pending",
        "progress": 0.0,
        "bytes": 0,
        "error": None,
        "waits_for": "no_worker",
        **ASKED,
    }
    work = claimed(service)
    assert (work.repo, work.revision, work.file, work.variant) == ("lab/tiny-sd", COMMIT, None, None)
    assert renewed(service, work, Noted("download", 30, 40))
    seen = service.get(path)
    told = {key: seen[key] for key in ("state", "stage", "received", "bytes", "progress")}
    assert told == {"state": "running", "stage": "download", "received": 30, "bytes": 40, "progress": 0.75}
    assert [each["name"] for each in service.get("/v1/priors")["fetches"]] == ["sd15"]
    dataset = service.ready(1)
    refused = service.client.post("/v1/jobs", json={"dataset_id": dataset, "prior": "sd15"})
    assert (refused.status_code, "it is being fetched, 75% is here" in refused.json()["detail"]) == (422, True)
    assert finished(service, work)
    over = service.client.get(path)
    assert (over.json()["state"], over.json()["progress"]) == ("done", 1.0)
    assert "retry-after" not in over.headers
    listed = service.get("/v1/priors")
    assert [(each["name"], each["origin"]) for each in listed["items"]] == [("builtin", "builtin"), ("sd15", "fetched")]
    assert listed["fetches"] == []
    assert service.get("/v1/priors/sd15")["source"] == f"lab/tiny-sd@{COMMIT}"
    assert service.job(dataset, prior="sd15", canvas={"long_side": 64})["resolved"]["prior_sha256"] == "b" * 64


def test_the_same_request_is_one_fetch_and_goes_on_with_one_that_ended(service: Service) -> None:
    first = ask(service)
    assert ask(service)["id"] == first["id"]
    work = claimed(service)
    with service.sessions.write() as session:
        assert hauls.fail(session, work, "no_repository", "There is none.", final=True)
    seen = service.get(f"/v1/fetches/{first['id']}")
    assert (seen["state"], seen["error"]) == ("failed", {"type": "no_repository", "detail": "There is none."})
    dataset = service.ready(1)
    refused = service.client.post("/v1/jobs", json={"dataset_id": dataset, "prior": "sd15"}).json()["detail"]
    assert "to fetch it failed. There is none." in refused
    service.hints.clear()
    again = ask(service)
    assert (again["id"], again["state"], again["error"], again["attempts"]) == (first["id"], "pending", None, 0)
    assert service.hints == [Task.FETCH]
    assert finished(service, claimed(service))
    assert ask(service)["state"] == "done"
    assert service.client.delete("/v1/priors/sd15").status_code == 204
    assert ask(service)["id"] != first["id"]
    assert [each["state"] for each in service.get("/v1/fetches")["items"]] == ["pending", "done"]


def test_a_name_belongs_to_one(service: Service) -> None:
    first = ask(service)
    assert first["id"] in ask(service, 409, variant="fp16")["detail"]
    assert "is installed already" in ask(service, 409, name="builtin")["detail"]
    dataset = service.ready(20)
    training = service.client.post("/v1/priors", json={"dataset_id": dataset, "name": "sd15"})
    assert (training.status_code, first["id"] in training.json()["detail"]) == (409, True)
    service.client.post("/v1/priors", json={"dataset_id": dataset, "name": "wrists"})
    assert "is being trained" in ask(service, 409, name="wrists")["detail"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"revision": "main"}, "'main' is no commit, and a branch or a tag may be another model tomorrow. Give the 40"),
    ({"revision": "0123456"}, "is no commit"),
    ({"repo": "sd15"}, "body.repo"),
    ({"repo": "evil/sd"}, "fetches nothing from evil/sd: its operator has to name it in REGROW_HUB_ALLOW"),
    ({"repo": "other/two"}, "fetches nothing from other/two"),
    ({"file": "model.ckpt"}, "body.file"),
    ({"file": "../../model.safetensors\n"}, "body.file"),
    ({"architecture": "sd3"}, "body.architecture"),
    ({"branch": "main"}, "body.branch"),
    ({"name": "Not A Name"}, "is no name of a prior"),
]


def test_what_cannot_be_fetched_is_refused_at_the_door(service: Service) -> None:
    for more, said in REFUSED:
        assert said in ask(service, 422, **more)["detail"]
    assert service.hints == []
    assert service.get("/v1/fetches")["items"] == []


def test_nothing_is_allowed_unless_the_operator_says_so(sessions: Sessions, storage: Folder, hints: list[Task]) -> None:
    silent = app_client(sessions, storage, hints)
    offline = app_client(sessions, storage, hints, hub_allow="lab/*", offline=True)
    for client, said in ((silent, "REGROW_HUB_ALLOW"), (offline, "REGROW_OFFLINE")):
        answer = client.post("/v1/priors/sd15/fetch", json=ASKED)
        assert answer.status_code == 422
        assert said in answer.json()["detail"]
        assert "regrow priors add" in answer.json()["detail"]
        assert "connects to nothing" in client.get("/priors").text
    dataset = Service(silent, sessions, storage, hints).ready(1)
    missing = silent.post("/v1/jobs", json={"dataset_id": dataset, "prior": "sd15"})
    assert missing.status_code == 422
    assert "There is no prior named 'sd15'. Installed: none yet" in missing.json()["detail"]
    assert "`regrow priors add`" in missing.json()["detail"]


def test_a_cancel_stops_the_worker_and_leaves_what_is_here(service: Service) -> None:
    fetch = ask(service)["id"]
    work = claimed(service)
    service.storage.write(fetch_key(fetch) + "unet/config.json", b"{}")
    for _ in range(2):
        cancelled = service.client.post(f"/v1/fetches/{fetch}/cancel").json()
        assert cancelled["state"] == "cancelled"
    assert not renewed(service, work, Noted("download", 1, 2))
    assert not finished(service, work)
    with service.sessions.read() as session:
        assert session.scalars(select(Trash)).all() == []


def test_what_is_deleted_goes_with_its_files(service: Service) -> None:
    fetch = ask(service)["id"]
    assert finished(service, claimed(service))
    assert service.client.delete("/v1/priors/sd15").status_code == 204
    assert service.client.delete(f"/v1/fetches/{fetch}").status_code == 204
    service.get(f"/v1/fetches/{fetch}", 404)
    with service.sessions.read() as session:
        assert set(session.scalars(select(Trash.key))) == {fetch_key(fetch), prior_key(fetch)}


def test_what_the_operator_fetches_is_for_all_and_what_a_project_does_is_its_own(
    service: Service, sessions: Sessions, storage: Folder, hints: list[Task]
) -> None:
    ring = Keyring(sessions)
    knee, hand = bearer(ring.make("knee")), bearer(ring.make("hand"))
    ask(service)
    assert finished(service, claimed(service))
    assert service.client.post("/v1/priors/own/fetch", json=ASKED, headers=knee).status_code == 202
    assert finished(service, claimed(service))

    def names(headers: dict[str, str]) -> list[str]:
        return [each["name"] for each in service.client.get("/v1/priors", headers=headers).json()["items"]]

    assert names(knee) == ["builtin", "own", "sd15"]
    assert names(hand) == ["builtin", "sd15"]
    assert service.client.get("/v1/fetches", headers=hand).json()["items"] == []
    refused = service.client.delete("/v1/priors/sd15", headers=hand)
    assert (refused.status_code, "is for all" in refused.json()["detail"]) == (409, True)
    assert service.client.delete("/v1/priors/own", headers=knee).status_code == 204


def test_the_page_fetches_shows_how_far_it_is_and_says_what_is_wrong(service: Service) -> None:
    form = {"hub.repo": "lab/tiny-sd", "hub.revision": "main", "hub.name": "sd15", "hub.variant": ""}
    wrong = service.client.post("/fetches", data=form)
    assert wrong.status_code == 422
    assert "is no commit" in wrong.text
    assert 'value="lab/tiny-sd"' in wrong.text
    assert (
        "REGROW_HUB_ALLOW"
        in service.client.post("/fetches", data=form | {"hub.revision": COMMIT, "hub.repo": "evil/sd"}).text
    )
    assert (
        "is no name of a prior"
        in service.client.post("/fetches", data=form | {"hub.revision": COMMIT, "hub.name": ""}).text
    )
    sent = service.client.post("/fetches", data=form | {"hub.revision": COMMIT}, follow_redirects=False)
    assert (sent.status_code, sent.headers["location"]) == (303, "/priors#fetches")
    fetch = service.get("/v1/fetches")["items"][0]["id"]
    work = claimed(service)
    assert renewed(service, work, Noted("download", 30, 40))
    page = service.client.get("/priors").text
    assert "75 %" in page
    assert 'hx-select="#of-fetches"' in page
    service.client.post(f"/fetches/{fetch}/cancel")
    assert "Go on with it" in service.client.get("/priors").text
    service.client.post(f"/fetches/{fetch}/again")
    with service.sessions.write() as session:
        session.execute(update(Fetch).values(next_at=now()))
    assert finished(service, claimed(service))
    assert f"from lab/tiny-sd@{COMMIT}" in service.client.get("/priors").text
    service.client.post(f"/fetches/{fetch}/delete")
    assert service.get("/v1/fetches")["items"] == []
