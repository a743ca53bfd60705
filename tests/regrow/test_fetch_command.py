"""`regrow priors fetch` and the client's side of it, against the real API; no hub is asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from regrow import Client
from regrow.errors import ProblemError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SD = ("priors", "fetch", "lab/sd", "--revision", COMMIT, "--name", "sd15")


def test_a_prior_is_fetched_listed_shown_and_removed(run: Any) -> None:
    ran = run(*SD)
    assert ran.exit_code == 0, ran.output
    assert "sd15: done" in ran.stdout
    assert f"from lab/sd@{COMMIT}" in ran.stdout
    assert "fetching: " in ran.stderr
    rows = {line.split()[0]: line for line in run("priors", "list").stdout.splitlines()}
    assert "fetched" in rows["sd15"]
    assert "ready" in rows["sd15"]
    assert f"from lab/sd@{COMMIT}" in run("priors", "show", "sd15").stdout
    assert run("priors", "remove", "sd15", "--yes").exit_code == 0
    assert "sd15" not in run("priors").stdout
    assert run("priors", "show", "sd15").exit_code == 4


def test_who_does_not_wait_can_look_cancel_and_go_on(run: Any, service: Any) -> None:
    service.open.clear()
    made = json.loads(run(*SD, "--no-wait", "--json").stdout)
    assert (made["state"], made["name"]) == ("pending", "sd15")
    assert "sd15: pending" in run("priors", "show", "sd15").stdout
    assert "pending 0%: waiting" in run("priors").stdout
    assert "cancelled" in run("priors", "cancel", "sd15").stdout
    again = json.loads(run(*SD, "--no-wait", "--json").stdout)
    assert (again["id"], again["state"]) == (made["id"], "pending")
    assert run("priors", "remove", "sd15", "--yes").exit_code == 0
    assert run("priors", "cancel", "sd15").exit_code == 4


def test_what_fails_ends_with_5_and_says_why(run: Any) -> None:
    ran = run("priors", "fetch", "lab/gated", "--revision", COMMIT, "-n", "sd15")
    assert ran.exit_code == 5
    assert "failed: Its terms must be accepted first." in ran.stdout


def test_what_cannot_be_fetched_is_refused_in_words(run: Any) -> None:
    for arguments, said in (
        (("lab/sd", "--revision", "main"), "'main' is no commit"),
        (("evil/sd", "--revision", COMMIT), "REGROW_HUB_ALLOW"),
    ):
        ran = run("priors", "fetch", *arguments, "-n", "sd15")
        assert (ran.exit_code, said in ran.stderr) == (4, True), ran.output
    assert run("priors", "fetch", "lab/sd", "-n", "sd15").exit_code == 2


def test_a_script_fetches_a_prior_and_uses_it(client: Client, lessons: Path) -> None:
    dataset_id = client.wait_dataset(client.upload(lessons)["id"])["id"]
    spec = {"repo": "lab/sd", "revision": COMMIT}
    started = client.fetch_prior("sd15", spec)
    assert client.wait_fetch(started["id"])["state"] == "done"
    assert client.fetch_prior("sd15", spec)["id"] == started["id"]
    assert [each["id"] for each in client.fetches()] == [started["id"]]
    job = client.create_job({"dataset_id": dataset_id, "prior": "sd15", "variants": 1, "max_images": 1})
    assert client.wait_job(job["id"])["state"] == "succeeded"
    client.delete_prior("sd15")
    client.delete_fetch(started["id"])
    with pytest.raises(ProblemError, match="There is no fetch"):
        client.fetch(started["id"])
