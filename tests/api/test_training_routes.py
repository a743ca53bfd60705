"""Priors of one's own over HTTP: asked for, watched, told what to do, deleted."""

import threading
from typing import Any

import pytest
from service import MISSING, Service, on_both_databases, png
from sqlalchemy import update

from shared import leases, stretches
from shared.db import now
from shared.models import Prior, Training
from shared.queue import Task
from shared.storage import training_key
from shared.stretches import Noted, Work
from worker.sweep import sweep

ENOUGH = 20


@pytest.fixture
def dataset(service: Service) -> str:
    return service.ready(ENOUGH, valid=3)


def asked(service: Service, dataset_id: str, status: int = 202, **more: Any) -> Any:
    answer = service.client.post("/v1/priors", json={"dataset_id": dataset_id, "name": "wrists", **more})
    assert answer.status_code == status, answer.text
    return answer.json()


def claimed(service: Service, *, jobs_wait: bool = False) -> Work | None:
    with service.sessions.write() as session:
        return stretches.claim(session, "worker", 30, hashes=["a" * 64], jobs_wait=jobs_wait)


def renewed(service: Service, work: Work, noted: Noted, *, checkpointed: bool = False) -> bool:
    with service.sessions.write() as session:
        return stretches.renew(session, work.claim, noted, 30, checkpointed=checkpointed)


def finished(service: Service, work: Work, trained_on: list[str] | None = None) -> bool:
    prior = Prior(name=work.name, sha256="b" * 64, native_size=64, multiple=16, size=9, card="# Wrists")
    prior.training_id, prior.trained_on = work.claim.id, trained_on or []
    with service.sessions.write() as session:
        return stretches.finish(session, work, prior)


def work_on(service: Service) -> Work:
    work = claimed(service)
    assert work is not None
    return work


def install(service: Service, dataset_id: str, *, name: str = "wrists", trained_on: list[str] | None = None) -> str:
    """Has a prior trained by a worker in no time; returns its training."""
    made = asked(service, dataset_id, name=name)
    assert finished(service, work_on(service), trained_on)
    return str(made["id"])


def test_a_training_is_accepted_watched_and_ends_as_a_prior_that_a_job_can_name(service: Service, dataset: str) -> None:
    answer = service.client.post("/v1/priors", json={"dataset_id": dataset, "name": "wrists", "licence": "CC BY 4.0"})
    assert answer.status_code == 202
    made = answer.json()
    path = answer.headers["location"]
    assert (path, answer.headers["retry-after"]) == (f"/v1/trainings/{made['id']}", "1")
    assert service.hints == [Task.TRAIN]
    told = {key: made[key] for key in ("state", "progress", "images", "error", "eta_seconds", "licence")}
    assert told == {
        "state": "pending",
        "progress": 0.0,
        "images": ENOUGH,
        "error": None,
        "eta_seconds": None,
        "licence": "CC BY 4.0",
    }
    work = work_on(service)
    assert len(work.pictures) == ENOUGH
    assert renewed(service, work, Noted("denoiser", 30, 40, 0.25, 2.0))
    seen = service.get(path)
    told = {key: seen[key] for key in ("state", "stage", "step", "steps", "progress", "loss", "eta_seconds")}
    assert told == {
        "state": "running",
        "stage": "denoiser",
        "step": 30,
        "steps": 40,
        "progress": 0.75,
        "loss": 0.25,
        "eta_seconds": 20.0,
    }
    assert [each["name"] for each in service.get("/v1/priors")["trainings"]] == ["wrists"]
    assert finished(service, work)
    over = service.client.get(path)
    assert (over.json()["state"], over.json()["progress"], over.json()["eta_seconds"]) == ("done", 1.0, None)
    assert "retry-after" not in over.headers
    listed = service.get("/v1/priors")
    assert [(each["name"], each["origin"]) for each in listed["items"]] == [
        ("builtin", "builtin"),
        ("wrists", "trained"),
    ]
    assert listed["trainings"] == []
    assert service.get("/v1/priors/wrists")["training_id"] == made["id"]
    assert service.job(dataset, prior="wrists", canvas={"long_side": 64})["resolved"]["prior_sha256"] == "b" * 64


def test_what_has_not_changed_is_not_sent_again(service: Service, dataset: str) -> None:
    path = f"/v1/trainings/{asked(service, dataset)['id']}"
    first = service.client.get(path)
    assert first.headers["retry-after"] == "1"
    assert service.client.get(path, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    work = work_on(service)
    assert renewed(service, work, Noted("autoencoder", 1, 40, 0.5))
    second = service.client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (second.status_code, second.json()["step"]) == (200, 1)


def test_samples_are_shown_once_there_are_some(service: Service, dataset: str) -> None:
    training = asked(service, dataset)["id"]
    path = f"/v1/trainings/{training}/preview"
    assert "Nothing was drawn yet" in service.get(path, 409)["detail"]
    service.storage.write(training_key(training, "preview.png"), png(1))
    answer = service.client.get(path)
    assert (answer.content, answer.headers["content-type"]) == (png(1), "image/png")
    assert service.client.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_only_the_train_split_is_learned_from_and_each_picture_once(service: Service) -> None:
    dataset_id = service.ready(ENOUGH, valid=5)
    asked(service, dataset_id)
    work = work_on(service)
    assert {picture.path.split("/")[1] for picture in work.pictures} == {"train"}
    assert len({picture.sha256 for picture in work.pictures}) == ENOUGH


@pytest.mark.parametrize(
    ("images", "more", "said"),
    [
        (ENOUGH - 1, {}, "19 different images in the split `train` are too few to train on; 20 are needed."),
        (ENOUGH, {"crop": 272, "image_side": 512}, "20 of 20 images are smaller than the crop of 272 px."),
        (ENOUGH, {"init": "none-such"}, "There is no prior named 'none-such'."),
        (ENOUGH, {"name": "No Name"}, "body.name"),
        (ENOUGH, {"recipe": "magic"}, "body.recipe"),
        (ENOUGH, {"crop": 97}, "body.crop"),
        (ENOUGH, {"steps": 3}, "body.steps"),
        (ENOUGH, {"recipe": "lora"}, "needs a Stable Diffusion prior"),
        (ENOUGH, {"autoencoder_steps": 0}, "a prior is needed whose autoencoder is kept"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_the_door(
    service: Service, images: int, more: dict[str, Any], said: str
) -> None:
    assert said in asked(service, service.ready(images), 422, **more)["detail"]
    assert service.hints == []


def test_what_cannot_be_learned_from_is_refused(service: Service) -> None:
    asked(service, MISSING, 404)
    asked(service, service.rejected(), 422)
    asked(service, service.checking(), 409)


def test_the_same_request_under_one_key_is_one_training(service: Service, dataset: str) -> None:
    body = {"dataset_id": dataset, "name": "wrists"}
    answers = [service.client.post("/v1/priors", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    other = service.client.post("/v1/priors", json=body | {"seed": 1}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["type"].rpartition("/")[2]) == (422, "idempotency-key-reused")


def test_two_trainings_of_one_name_are_refused_until_the_first_is_over(service: Service, dataset: str) -> None:
    first = asked(service, dataset)
    assert first["id"] in asked(service, dataset, 409)["detail"]
    service.client.post(f"/v1/trainings/{first['id']}/cancel")
    second = asked(service, dataset)
    assert "being trained already" in _post(service, f"/v1/trainings/{first['id']}/retry", 409)["detail"]
    assert finished(service, work_on(service))
    assert "is installed already" in asked(service, dataset, 409)["detail"]
    assert "is installed already" in _post(service, f"/v1/trainings/{first['id']}/retry", 409)["detail"]
    assert "is installed already" in asked(service, dataset, 409, name="builtin")["detail"]
    assert service.get(f"/v1/trainings/{second['id']}")["state"] == "done"


@on_both_databases
def test_of_many_requests_for_one_name_at_the_same_moment_one_is_accepted(service: Service, dataset: str) -> None:
    start, answers = threading.Barrier(6), []

    def ask(number: int) -> None:
        start.wait()
        body = {"dataset_id": dataset, "name": "wrists", "seed": number}
        answers.append(service.client.post("/v1/priors", json=body).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [202, 409, 409, 409, 409, 409]
    assert len(service.get("/v1/trainings")["items"]) == 1


def test_a_cancel_stops_the_worker_and_a_retry_goes_on(service: Service, dataset: str) -> None:
    path = f"/v1/trainings/{asked(service, dataset)['id']}"
    work = work_on(service)
    assert renewed(service, work, Noted("autoencoder", 10, 40, 0.5, 1.0), checkpointed=True)
    for _ in range(2):
        assert _post(service, f"{path}/cancel")["state"] == "cancelled"
    assert not renewed(service, work, Noted("autoencoder", 11, 40, 0.5, 1.0))
    assert not finished(service, work)
    assert service.get(path)["state"] == "cancelled"
    service.hints.clear()
    again = _post(service, f"{path}/retry")
    assert (again["state"], again["step"]) == ("pending", 10)
    assert service.hints == [Task.TRAIN]
    assert finished(service, work_on(service))
    for what in ("cancel", "retry"):
        assert _post(service, f"{path}/{what}")["state"] == "done"


def test_what_failed_says_why_and_can_be_tried_again(service: Service, dataset: str) -> None:
    path = f"/v1/trainings/{asked(service, dataset)['id']}"
    for attempt in range(1, leases.MAX_ATTEMPTS + 1):
        work = work_on(service)
        with service.sessions.write() as session:
            assert stretches.fail(session, work.claim, "unexpected", "It broke.", final=False)
        seen = service.get(path)
        assert (seen["attempts"], seen["error"]) == (attempt, {"type": "unexpected", "detail": "It broke."})
        assert seen["state"] == ("failed" if attempt == leases.MAX_ATTEMPTS else "pending")
    again = _post(service, f"{path}/retry")
    assert (again["state"], again["attempts"], again["error"]) == ("pending", 0, None)


def test_a_training_that_is_deleted_is_gone_with_all_it_kept(service: Service, dataset: str) -> None:
    training = asked(service, dataset)["id"]
    work = work_on(service)
    for what in ("work/checkpoint.pt", "preview.png"):
        service.storage.write(training_key(training, what), b"x")
    assert service.client.delete(f"/v1/trainings/{training}").status_code == 204
    service.get(f"/v1/trainings/{training}", 404)
    assert not renewed(service, work, Noted())
    sweep(service.sessions, service.storage)
    assert not service.storage.path(training_key(training)).exists()


def test_once_it_is_done_its_checkpoints_go_and_its_samples_and_prior_stay(service: Service, dataset: str) -> None:
    training = asked(service, dataset)["id"]
    kept = training_key(training, "preview.png"), f"priors/{training}/unet/config.json"
    for key in (*kept, training_key(training, "work/checkpoint.pt")):
        service.storage.write(key, b"x")
    assert finished(service, work_on(service))
    sweep(service.sessions, service.storage)
    assert [service.storage.exists(key) for key in kept] == [True, True]
    assert not service.storage.path(training_key(training, "work")).exists()
    assert service.client.delete(f"/v1/trainings/{training}").status_code == 204
    sweep(service.sessions, service.storage)
    assert [service.storage.exists(key) for key in kept] == [False, True]
    assert service.client.delete("/v1/priors/wrists").status_code == 204
    sweep(service.sessions, service.storage)
    assert not service.storage.exists(kept[1])


def test_what_a_prior_has_beside_its_card_outlives_its_training(service: Service, dataset: str) -> None:
    training = install(service, dataset)
    for name, said in (("wrists", "no samples.png"), ("builtin", "not trained here"), ("other", "no prior 'other'")):
        assert said in service.get(f"/v1/priors/{name}/samples", 404)["detail"]
    facts = b'{"held_out_loss": 0.1}'
    service.storage.write(f"priors/{training}/samples.png", png(1))
    service.storage.write(f"priors/{training}/card.json", facts)
    assert service.client.delete(f"/v1/trainings/{training}").status_code == 204
    for what, kind, content in (("samples", "image/png", png(1)), ("facts", "application/json", facts)):
        answer = service.client.get(f"/v1/priors/wrists/{what}")
        assert (answer.content, answer.headers["content-type"]) == (content, kind)
        known = {"If-None-Match": answer.headers["etag"]}
        assert service.client.get(f"/v1/priors/wrists/{what}", headers=known).status_code == 304


def test_a_prior_is_deleted_only_if_nothing_needs_it(service: Service, dataset: str) -> None:
    install(service, dataset)
    job = service.job(dataset, prior="wrists", canvas={"long_side": 64})
    assert job["id"] in _delete(service, "wrists", 409)
    _post(service, f"/v1/jobs/{job['id']}/cancel")
    training = asked(service, dataset, name="hands", init="wrists")
    assert training["id"] in _delete(service, "wrists", 409)
    _post(service, f"/v1/trainings/{training['id']}/cancel")
    assert _delete(service, "wrists", 204) == ""
    _delete(service, "wrists", 404)
    service.get("/v1/priors/wrists", 404)
    assert "comes with Regrow" in _delete(service, "builtin", 409)
    again = _post(service, f"/v1/jobs/{job['id']}/retry")
    assert again["waits_for"] == "prior_gone"
    assert _post(service, f"/v1/trainings/{training['id']}/retry")["waits_for"] == "prior_gone"


def test_a_dataset_that_is_learned_from_stays_until_that_is_over(service: Service, dataset: str) -> None:
    training = asked(service, dataset)["id"]
    refused = service.client.delete(f"/v1/datasets/{dataset}")
    assert (refused.status_code, "is being trained" in refused.json()["detail"]) == (409, True)
    assert finished(service, work_on(service))
    assert service.client.delete(f"/v1/datasets/{dataset}").status_code == 204
    service.get(f"/v1/trainings/{training}", 404)
    assert service.get("/v1/priors/wrists")["origin"] == "trained"


def test_a_job_is_told_how_many_of_its_judges_trained_its_prior(service: Service, dataset: str) -> None:
    found = service.get(f"/v1/datasets/{dataset}/images")["items"]
    judges = [image["sha256"] for image in found if image["split"] == "valid"]
    learners = [image["sha256"] for image in found if image["split"] == "train"]
    install(service, dataset, trained_on=judges[:2] + learners)
    install(service, dataset, name="honest", trained_on=learners)
    small, warning = {"canvas": {"long_side": 64}}, "2 of your valid images trained this prior"
    job = service.job(dataset, prior="wrists", **small)
    said = [each for each in job["warnings"] if "trained this prior" in each]
    assert [each.partition(":")[0] for each in said] == [warning]
    asked = {"dataset_id": dataset, "prior": "wrists", **small}
    assert warning in str(service.client.post("/v1/jobs/estimate", json=asked).json()["warnings"])
    filled = {"prior": "wrists", "canvas.long_side": "64"}
    assert warning in service.client.post(f"/datasets/{dataset}/estimate", data=filled).text
    assert warning in service.client.get(f"/jobs/{job['id']}").text
    assert warning in service.client.get(f"/v1/jobs/{job['id']}/report").text
    for prior in ("honest", "builtin"):
        assert "trained this prior" not in str(service.job(dataset, prior=prior, reuse=False)["warnings"])


def test_it_says_that_it_waits_for_a_worker(service: Service, dataset: str) -> None:
    path = f"/v1/trainings/{asked(service, dataset)['id']}"
    assert service.get(path)["waits_for"] == "no_worker"
    work_on(service)
    assert service.get(path)["waits_for"] is None


def test_others_trainings_are_not_there(service: Service, dataset: str) -> None:
    training = asked(service, dataset)["id"]
    with service.sessions.write() as session:
        session.execute(update(Training).values(owner="somebody"))
    for method, path in (("GET", ""), ("GET", "/preview"), ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")):
        assert service.client.request(method, f"/v1/trainings/{training}{path}").status_code == 404
    assert service.get("/v1/trainings")["items"] == []
    assert service.get("/v1/priors")["trainings"] == []


def test_who_made_way_for_jobs_stays_away_as_long_as_it_was_at_work(service: Service, dataset: str) -> None:
    asked(service, dataset)
    work = work_on(service)
    with service.sessions.write() as session:
        session.execute(update(Training).values(claimed_at=now() - 1000))
        assert stretches.hand_back(session, work.claim, made_way=True)
    assert claimed(service, jobs_wait=True) is None
    with service.sessions.write() as session:
        session.execute(update(Training).values(claimed_at=now() - 2000, yielded_at=now() - 1001))
    again = claimed(service, jobs_wait=True)
    assert again is not None
    with service.sessions.write() as session:
        assert stretches.hand_back(session, again.claim, made_way=True)
    assert claimed(service, jobs_wait=False) is not None


def _post(service: Service, path: str, status: int = 200) -> Any:
    answer = service.client.post(path)
    assert answer.status_code == status, answer.text
    return answer.json()


def _delete(service: Service, name: str, status: int) -> str:
    answer = service.client.delete(f"/v1/priors/{name}")
    assert answer.status_code == status, answer.text
    return str(answer.json()["detail"]) if answer.content else ""
