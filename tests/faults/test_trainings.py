"""Priors through API, broker and workers. A training's worker is killed and another ends it as if nothing had been; it
shares its worker with jobs; what it ends as is used at once. So is a fetch from a hub, which goes on with the bytes
that are there."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from fleet import Process
from hub import COMMIT, REPO, Hub, serving_hub
from live import free_port, until
from safetensors.torch import load_file, save_file
from stage import Stage, gone
from tiny_stable_diffusion import write_tiny_stable_diffusion

from regrow.answers import Training
from regrow.client import Client
from regrow.errors import ClientError
from samples.phantoms import write_dataset
from shared import models
from shared.storage import fetch_key, prior_key

pytestmark = pytest.mark.slow

EVERY = 5
UNET = "unet/diffusion_pytorch_model.safetensors"
TINY = {
    "init": "tiny",
    "crop": 16,
    "image_side": 32,
    "denoiser_side": 16,
    "autoencoder_steps": 10,
    "autoencoder_batch": 2,
    "denoiser_steps": 200,
    "denoiser_batch": 2,
    "checkpoint_every": EVERY,
    "sample_every": 50,
    "samples": 4,
}


class Play:
    """The stage with an API, a gpu worker, a cpu worker and a sweep on it, and a client."""

    def __init__(self, stage: Stage, client: Client) -> None:
        self.stage, self.client = stage, client
        self.gpu: Process = stage.gpu("first")
        self.cpu: Process = stage.cpu()

    def upload(self) -> str:
        archive = self.stage.home / "lessons.zip"
        write_dataset(archive, images=28, seed=3, size=(64, 72))
        return self.client.wait_dataset(self.client.upload(archive)["id"])["id"]

    def train(self, name: str, **more: Any) -> str:
        return self.client.train_prior({"dataset_id": self.dataset, "name": name, **TINY, **more})["id"]

    def in_the_middle(self, training_id: str, step: int) -> Training:
        """The training once it runs and has come so far."""
        seen: list[Training] = []

        def there() -> bool:
            seen[:] = [self.client.training(training_id)]
            assert seen[0]["state"] in ("pending", "running"), "it was over before we looked"
            return seen[0]["state"] == "running" and seen[0]["step"] >= step

        until(there, 240, "the training is in the middle")
        return seen[0]

    def worker_of(self, training_id: str) -> int:
        """Number of the pool's child that trains."""
        with self.stage.site.sessions.read() as session:
            worker = session.get_one(models.Training, training_id).worker
        return int((worker or "").rpartition(":")[2])

    def job(self, prior: str, **sampler: Any) -> str:
        small = {"canvas": {"long_side": 32}, "max_images": 2, "variants": 1, "reuse": False}
        asked = {"dataset_id": self.dataset, "prior": prior, "sampler": {"steps": 2, **sampler}, **small}
        return self.client.create_job(asked)["id"]

    def weights(self, training_id: str) -> dict[str, bytes]:
        folder = self.stage.site.storage.path(prior_key(training_id))
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.safetensors")}


@pytest.fixture(scope="module")
def hub(stage: Stage) -> Iterator[Hub]:
    """It sends half of its largest file, and then nothing."""
    folder = stage.home / "published"
    write_tiny_stable_diffusion(folder)
    weights = load_file(folder / UNET)
    weights["unused"] = weights["conv_in.weight"].new_ones(2**20)
    save_file(weights, folder / UNET, metadata={"format": "pt"})
    with serving_hub() as made:
        made.add(folder)
        made.stall = UNET
        yield made


@pytest.fixture(scope="module")
def play(stage: Stage, hub: Hub) -> Iterator[Play]:
    fleet, port = stage.site.fleet, free_port()
    write_tiny_stable_diffusion(stage.home / "priors" / "sd")
    fleet.env |= {"REGROW_HUB_ALLOW": "lab/*", "REGROW_HUB_ENDPOINT": hub.url}
    fleet.sweep()
    fleet.api(port)
    stage.orders.give(step=0.0)
    with Client(f"http://127.0.0.1:{port}") as client:
        made = Play(stage, client)
        until(lambda: _ready(client), 240, "everything is up")
        made.dataset = made.upload()
        yield made


def test_a_killed_training_goes_on_elsewhere_and_ends_as_if_it_had_not_been(play: Play) -> None:
    undisturbed = play.train("undisturbed")
    assert play.client.wait_training(undisturbed)["state"] == "done"
    killed = play.train("killed")
    before = play.in_the_middle(killed, 4 * EVERY)["step"]
    play.stage.site.fleet.kill(play.gpu)
    play.gpu = play.stage.gpu("second")
    steps: list[int] = []
    done = play.client.wait_training(killed, on_poll=lambda answer: steps.append(answer["step"]))
    assert (done["state"], done["attempts"]) == ("done", 0)
    assert min(steps) >= before - EVERY, "it began anew"
    assert play.weights(killed) == play.weights(undisturbed)
    job = play.client.wait_job(play.job("killed"))
    assert (job["state"], job["counts"]["done"]) == ("succeeded", 2)


def test_a_stable_diffusion_is_adapted_through_a_kill_and_its_prompts_and_words_are_used(play: Play) -> None:
    large = {"init": "sd", "denoiser_batch": 8}
    adapted = play.train("adapted", recipe="lora", rank=4, denoiser_steps=120, **large)
    taught = play.train("taught", recipe="textual_inversion", denoiser_steps=10, **large)
    before = play.in_the_middle(adapted, 4 * EVERY)["step"]
    play.stage.site.fleet.kill(play.gpu)
    play.gpu = play.stage.gpu("adapting")
    steps: list[int] = []
    done = play.client.wait_training(adapted, on_poll=lambda answer: steps.append(answer["step"]))
    assert (done["state"], done["attempts"], done["init"]) == ("done", 0, "sd")
    assert min(steps) >= before - EVERY, "it began anew"
    assert play.client.wait_training(taught)["state"] == "done"
    told = {name: play.client.prior(name) for name in ("adapted", "taught")}
    assert [(each["prompts"], each["words"]) for each in told.values()] == [(True, []), (True, ["<fractured>"])]
    asked = {"adapted": "a fracture", "taught": "a <fractured>"}
    for job in [play.job(prior, prompt=prompt) for prior, prompt in asked.items()]:
        seen = play.client.wait_job(job)
        assert (seen["state"], seen["counts"]["done"]) == ("succeeded", 2)
        assert seen["resolved"]["conditioning"]["prompt"] == asked[seen["resolved"]["prior"]]


def test_jobs_and_a_training_take_turns_on_one_worker_and_a_cancel_frees_it(play: Play) -> None:
    training = play.train("shared", denoiser_steps=100_000)
    play.in_the_middle(training, 2 * EVERY)
    child = play.worker_of(training)
    for _ in range(2):
        assert play.client.wait_job(play.job("tiny"))["state"] == "succeeded"
        step = play.client.training(training)["step"]
        play.in_the_middle(training, step + 1)
    assert play.worker_of(training) == child
    play.client.cancel_training(training)
    assert play.client.wait_job(play.job("tiny"))["state"] == "succeeded"
    assert play.client.training(training)["state"] == "cancelled"
    assert not gone(child)
    play.client.delete_training(training)
    folder = play.stage.site.storage.path(f"trainings/{training}")
    until(lambda: not folder.exists(), 60, "its checkpoints are gone")


def test_a_training_whose_worker_is_told_to_end_is_handed_back(play: Play) -> None:
    training = play.train("handed", denoiser_steps=100_000)
    before = play.in_the_middle(training, 2 * EVERY)["step"]
    child = play.worker_of(training)
    play.stage.site.fleet.ask_to_end(play.gpu)
    assert gone(child)
    seen = play.client.training(training)
    assert (seen["state"], seen["attempts"], seen["lapses"]) == ("pending", 0, 0)
    play.gpu = play.stage.gpu("third")
    assert play.in_the_middle(training, 1)["step"] >= before - EVERY
    play.client.delete_training(training)


def test_who_wakes_after_his_training_was_deleted_leaves_nothing_behind(play: Play) -> None:
    training = play.train("deleted", denoiser_steps=100_000)
    play.in_the_middle(training, 2 * EVERY)
    child, folder = play.worker_of(training), play.stage.site.storage.path(f"trainings/{training}")
    os.kill(child, signal.SIGSTOP)
    try:
        play.client.delete_training(training)
        until(lambda: not folder.exists(), 60, "the sweep has removed its folder")
    finally:
        os.kill(child, signal.SIGCONT)
    assert play.client.wait_job(play.job("tiny"))["state"] == "succeeded"
    assert not folder.exists()


def test_a_killed_fetch_goes_on_with_the_bytes_that_are_there_and_its_prior_is_used(play: Play, hub: Hub) -> None:
    client = play.client
    fetch = client.fetch_prior("sd15", {"repo": REPO, "revision": COMMIT})["id"]
    until(lambda: client.fetch(fetch)["received"] > 2**19, 120, "it is in the middle of the file")
    with play.stage.site.sessions.read() as session:
        child = int((session.get_one(models.Fetch, fetch).worker or "").rpartition(":")[2])
    play.stage.site.fleet.kill(play.cpu)
    until(lambda: gone(child), 60, "its child is gone with it")
    hub.stall = None
    hub.go_on.set()
    play.cpu = play.stage.cpu()
    done = client.wait_fetch(fetch)
    assert (done["state"], done["attempts"], done["error"]) == ("done", 0, None)
    begun, *_, went_on = hub.ranges(UNET)
    assert begun is None
    assert int((went_on or "").removeprefix("bytes=").removesuffix("-")) > 2**19
    prior = client.prior("sd15")
    assert (prior["source"], prior["prompts"]) == (f"{REPO}@{COMMIT}", True)
    folder = play.stage.site.storage.path(prior_key(fetch))
    assert (folder / UNET).read_bytes() == hub.repos[REPO][UNET]
    assert not play.stage.site.storage.path(fetch_key(fetch)).exists()
    job = client.wait_job(play.job("sd15"))
    assert (job["state"], job["counts"]["done"]) == ("succeeded", 2)


def _ready(client: Client) -> bool:
    try:
        return client.ready()["ready"]
    except ClientError:
        return False
