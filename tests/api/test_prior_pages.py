"""The page of priors, and the words of a prior in the form of a job, without a browser."""

from typing import Any

import pytest
from service import Service
from sqlalchemy import select

from shared import stretches
from shared.db import Sessions
from shared.models import Prior, Training
from shared.storage import prior_key

ENOUGH = 20


@pytest.fixture
def dataset(service: Service) -> str:
    return service.ready(ENOUGH)


@pytest.fixture
def large(sessions: Sessions) -> None:
    """A Stable Diffusion named sd, which was taught a word; and one without prompts, named plain."""
    taught = {"prompts": True, "words": ["<fracture>"]}
    sides = {"native_size": 64, "multiple": 16, "size": 9, "factor": 8, "channels": 4}
    with sessions.write() as session:
        session.add(Prior(name="sd", sha256="c" * 64, card="# SD", **sides, **taught))
        session.add(Prior(name="plain", sha256="d" * 64, card="# Plain", **sides))


def send(service: Service, path: str, status: int = 303, **fields: Any) -> str:
    answer = service.client.post(path, data=fields, headers={"Accept": "text/html"}, follow_redirects=False)
    assert answer.status_code == status, answer.text
    return str(answer.headers.get("location") or answer.text)


@pytest.mark.parametrize(("recipe", "steps"), [("lora", 1000), ("textual_inversion", 2000)])
def test_a_large_prior_is_adapted_by_the_form_with_the_recipes_own_numbers(
    service: Service, dataset: str, large: None, recipe: str, steps: int
) -> None:
    page = service.client.get("/priors").text
    before, _, rest = page.partition("All other numbers")
    for field in ("f-dataset_id", "f-name", "f-recipe", "f-init", "f-licence"):
        assert f'id="{field}"' in before
    assert all(f'id="f-{field}"' in rest for field in ("rank", "denoiser_steps", "hidden"))
    asked = {"dataset_id": dataset, "name": "wrists", "recipe": recipe, "init": "sd", "rank": "4", "denoiser_steps": ""}
    training = send(service, "/priors", **asked).rpartition("/")[2]
    made = service.get(f"/v1/trainings/{training}")
    assert made["init"] == "sd"
    settings = made["settings"]
    assert (settings["recipe"], settings["rank"], settings["denoiser_steps"]) == (recipe, 4, steps)


def test_what_cannot_be_trained_is_said_on_the_page(service: Service, dataset: str, large: None) -> None:
    asked = {"dataset_id": dataset, "name": "wrists"}
    assert "lora needs a Stable Diffusion prior" in send(service, "/priors", 422, **asked, recipe="lora")
    assert "&#39;plain&#39; is none" in send(service, "/priors", 422, **asked, recipe="lora", init="plain")
    assert "&#39;sd&#39; is a Stable Diffusion" in send(service, "/priors", 422, **asked, init="sd")
    send(service, "/priors", **asked)
    assert "is being trained already" in send(service, "/priors", 409, **asked)
    few = {"dataset_id": service.ready(ENOUGH - 1), "name": "few"}
    assert "19 different images" in send(service, "/priors", 422, **few)


def test_a_prior_shows_its_card_samples_and_words_and_stays_while_a_job_needs_it(
    service: Service, sessions: Sessions, dataset: str, large: None
) -> None:
    training = send(service, "/priors", dataset_id=dataset, name="wrists").rpartition("/")[2]
    with sessions.write() as session:
        work = stretches.claim(session, "worker", 30, hashes=[], jobs_wait=False)
        assert work is not None
        card = "| reconstruction | 34.2 dB PSNR |"
        prior = Prior(name="wrists", sha256="b" * 64, native_size=64, multiple=16, size=9, card=card)
        prior.training_id = session.scalars(select(Training.id)).one()
        assert stretches.finish(session, work, prior)
    service.storage.write(prior_key(training) + "samples.png", b"png")
    page = service.client.get("/priors").text
    assert "34.2 dB PSNR" in page
    assert "takes a prompt, and knows &lt;fracture&gt;" in page
    shown = [f'"/v1/priors/wrists/{what}"' in page for what in ("samples", "facts")]
    assert shown == [True, True]
    assert service.client.get("/v1/priors/wrists/samples").content == b"png"
    job = service.job(dataset, prior="wrists", canvas={"long_side": 64})["id"]
    assert f"Job {job} is not over and needs the prior" in send(service, "/priors/wrists/delete", 409)
    send(service, f"/jobs/{job}/cancel")
    send(service, "/priors/wrists/delete")
    assert 'id="p-3">sd' in service.client.get("/priors").text, "only that one is gone"


def test_a_learned_word_is_said_in_the_form_of_a_job(service: Service, dataset: str, large: None) -> None:
    form, asked = f"/datasets/{dataset}/expand", {"prior": "sd", "canvas.long_side": "64"}
    refused = send(service, form, 422, **asked, **{"sampler.prompt": "a <plate>"})
    assert "was not taught &lt;plate&gt;. Words it was: &lt;fracture&gt;" in refused
    job = send(service, form, **asked, **{"sampler.prompt": "a <fracture>"}).rpartition("/")[2]
    assert service.get(f"/v1/jobs/{job}")["resolved"]["conditioning"]["prompt"] == "a <fracture>"
