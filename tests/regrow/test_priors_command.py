"""`regrow priors` and the client's side of it, against the real API."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import delete
from typer.testing import CliRunner, Result

from regrow import Client, cli
from regrow.errors import ProblemError
from shared.models import Prior


@pytest.fixture
def run(service: Any) -> Any:
    def command(*arguments: object) -> Result:
        env = {"REGROW_SERVER": service.url, "COLUMNS": "200"}
        return CliRunner().invoke(cli.app, ["priors", *map(str, arguments)], env=env)

    return command


def test_a_prior_is_trained_watched_listed_shown_and_deleted(run: Any, lessons: Path, tmp_path: Path) -> None:
    ran = run("train", lessons, "-o", "wrists", "--recipe", "small", "--licence", "CC BY 4.0", "--wait")
    assert ran.exit_code == 0, ran.output
    assert "wrists: done" in ran.stdout
    rows = {line.split()[0]: line for line in run().stdout.splitlines()}
    assert {"builtin", "wrists"} <= set(rows)
    assert "with Regrow" in rows["builtin"]
    assert "trained here" in rows["wrists"]
    assert "MB" in rows["wrists"]
    shown = run("show", "wrists", "--samples", tmp_path / "samples.png")
    assert "a small latent diffusion model" in shown.stdout
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size > (128, 128), "those of the prior, not of its training"
    refused = run("show", "builtin", "--samples", tmp_path / "none.png")
    assert (refused.exit_code, "'builtin' was not trained here" in refused.stderr) == (4, True)
    assert run("remove", "wrists").exit_code == 1
    assert run("remove", "wrists", "--yes").exit_code == 0
    assert "wrists" not in run().stdout
    assert run("show", "wrists").exit_code == 4


def test_the_words_that_a_prior_was_taught_are_shown(run: Any, service: Any) -> None:
    about = {"sha256": "c" * 64, "native_size": 512, "multiple": 64, "size": 9, "prompts": True}
    taught = Prior(name="taught", words=["<fracture>", "<plate>"], card="# Taught", **about)
    with service.sessions.write() as session:
        session.add(taught)
    shown = run("show", "taught").stdout
    with service.sessions.write() as session:
        session.execute(delete(Prior).where(Prior.name == "taught"))
    assert "takes a prompt, and knows <fracture>, <plate>" in shown
    assert "# Taught" in shown


def test_every_number_of_the_recipe_reaches_the_training(run: Any, lessons: Path, service: Any) -> None:
    service.open.clear()
    wishes = ["--set", "denoiser_steps=77", "--set", "seed=5", "--init", "builtin"]
    made = json.loads(run("train", lessons, "-o", "wrists", *wishes, "--json").stdout)
    assert (made["settings"]["denoiser_steps"], made["settings"]["seed"], made["init"]) == (77, 5, "builtin")
    refused = run("train", lessons, "-o", "other", "--set", "denoiser_steps=many")
    assert (refused.exit_code, "body.denoiser_steps" in refused.stderr) == (4, True)
    assert run("train", lessons, "-o", "other", "--set", "denoiser_steps").exit_code == 2


def test_a_training_is_cancelled_and_goes_on_by_the_name_of_its_prior(run: Any, lessons: Path, service: Any) -> None:
    service.open.clear()
    assert "pending" in run("train", lessons, "-o", "wrists").stdout
    assert "pending" in run("show", "wrists").stdout
    assert "pending" in run().stdout
    assert "cancelled" in run("cancel", "wrists").stdout
    assert "pending" in run("resume", "wrists").stdout
    again = run("train", lessons, "-o", "wrists")
    assert (again.exit_code, "being trained already" in again.stderr) == (4, True)
    assert run("show", "wrists", "--samples", "none.png").exit_code == 4, "nothing was drawn yet"
    assert run("remove", "wrists", "--yes").exit_code == 0
    assert run("cancel", "wrists").exit_code == 4


def test_a_training_that_fails_ends_with_5_and_says_why(run: Any, lessons: Path, service: Any) -> None:
    service.unteachable = True
    ran = run("train", lessons, "-o", "wrists", "--wait")
    assert ran.exit_code == 5
    assert "failed: The ink was spilt." in ran.stdout


def test_what_cannot_be_trained_is_refused_in_words(run: Any, zipped: Path) -> None:
    ran = run("train", zipped, "-o", "wrists")
    assert ran.exit_code == 4
    assert "3 different images in the split `train` are too few" in ran.stderr


def test_a_script_trains_a_prior_and_uses_it(client: Client, lessons: Path) -> None:
    dataset_id = client.wait_dataset(client.upload(lessons)["id"])["id"]
    seen: list[float] = []
    started = client.train_prior({"dataset_id": dataset_id, "name": "wrists"}, key="once")
    assert client.train_prior({"dataset_id": dataset_id, "name": "wrists"}, key="once")["id"] == started["id"]
    done = client.wait_training(started["id"], on_poll=lambda answer: seen.append(answer["progress"]))
    assert (done["state"], seen[-1]) == ("done", 1.0)
    assert Image.open(io.BytesIO(client.training_preview(started["id"]))).size == (8, 8)
    assert client.prior("wrists")["training_id"] == started["id"]
    facts = client.prior_facts("wrists")
    assert {"settings", "reconstruction_psnr", "held_out_loss", "memorisation", "about"} <= set(facts)
    assert Image.open(io.BytesIO(client.prior_samples("wrists"))).format == "PNG"
    assert [each["id"] for each in client.trainings()] == [started["id"]]
    job = client.wait_job(
        client.create_job({"dataset_id": dataset_id, "prior": "wrists", "variants": 1, "max_images": 1})["id"]
    )
    assert job["state"] == "succeeded"
    client.delete_prior("wrists")
    client.delete_training(started["id"])
    with pytest.raises(ProblemError, match="There is no prior"):
        client.prior("wrists")
