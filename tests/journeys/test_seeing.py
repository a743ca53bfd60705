"""A job from its upload to the word that it is over, as one who runs the service sees it: logs, figures, a webhook."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fleet import Process
from installation import Site
from live import free_port, until
from prometheus_client.parser import text_string_to_metric_families
from receiver import SECRET, Receiver, receiving
from sqlalchemy import update
from tiny_prior import write_tiny_prior

from samples.phantoms import write_dataset
from shared.db import now
from shared.models import Webhook

pytestmark = pytest.mark.slow

PATIENT = "mueller_anna"
REQUEST = "from-the-lab-42"


@dataclass
class Seen:
    """An installation at work, and what it was asked."""

    home: Path
    site: Site
    api: httpx.Client
    receiver: Receiver
    cpu: Process
    job: str = ""

    def wait(self, path: str, state: str, seconds: float = 180) -> dict[str, Any]:
        answer: dict[str, Any] = {}

        def is_so() -> bool:
            answer.update(self.api.get(path).json())
            return bool(answer["state"] == state)

        until(is_so, seconds, f"{path} is {state}")
        return answer

    def bring_on(self) -> None:
        """The webhook's next attempt is due."""
        with self.site.sessions.write() as session:
            session.execute(update(Webhook).values(next_at=now() - 1))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The log of a process, of which every line is an object."""
        return [json.loads(line) for line in (self.home / f"{name}.log").read_text().splitlines()]


def named_after_a_patient(path: Path, *, broken: bool) -> Path:
    """A dataset whose every file has the patient's name; broken, one image is cut off and one label is none."""
    write_dataset(path.with_suffix(".plain"), images=2, seed=2, size=(64, 76))
    with zipfile.ZipFile(path.with_suffix(".plain")) as plain, zipfile.ZipFile(path, "w") as out:
        for member in plain.namelist():
            folder, _, name = member.rpartition("/")
            data = plain.read(member)
            if broken and folder.startswith("images"):
                data = data[: len(data) // 2]
            if broken and folder.startswith("labels"):
                data = f"0 0.1 {PATIENT} 0.1 0.1\n".encode()
            out.writestr(f"{folder}/{PATIENT}_{name}" if folder else member, data)
    return path


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, postgres_server: str, postgres_template: str) -> Iterator[Seen]:
    import psycopg
    from servers import Redis

    home = tmp_path_factory.mktemp("seeing")
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE seeing TEMPLATE {postgres_template}")
    redis = Redis(home)
    redis.start()
    write_tiny_prior(home / "priors" / "tiny", native_size=32)
    site = Site(
        home,
        postgres_server.rpartition("/")[0] + "/seeing",
        redis.url,
        REGROW_PRIORS=str(home / "priors"),
        REGROW_MIN_FREE_GB="0",
        REGROW_WEBHOOK_SECRET=SECRET,
        REGROW_WEBHOOK_NETWORKS="127.0.0.0/8",
    )
    port = free_port()
    try:
        with receiving() as receiver, httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as api:
            cpu = site.fleet.worker("cpu", "cpu")
            site.fleet.worker("gpu", "gpu")
            site.fleet.sweep()
            site.fleet.api(port)
            made = Seen(home, site, api, receiver, cpu)
            until(lambda: answers(api), 120, "the API answers")
            yield made
    finally:
        site.end()
        redis.end()


def answers(api: httpx.Client) -> bool:
    try:
        return api.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_webhook_is_taken_the_third_time_by_another_worker_than_before(seen: Seen) -> None:
    for broken, state in ((True, "rejected"), (False, "ready")):
        zipped = named_after_a_patient(seen.home / f"{PATIENT}_{broken}.zip", broken=broken)
        files = {"file": (zipped.name, zipped.read_bytes())}
        dataset = seen.api.post("/v1/datasets", files=files, headers={"X-Request-ID": f"{REQUEST}-{state}"}).json()
        dataset = seen.wait(f"/v1/datasets/{dataset['id']}", state)
    seen.receiver.answers = [500, 503]
    spec = {
        "dataset_id": dataset["id"],
        "prior": "tiny",
        "variants": 3,
        "sampler": {"steps": 4, "enter": 1},
        "canvas": {"long_side": 32},
        "webhook": seen.receiver.url,
    }
    answer = seen.api.post("/v1/jobs", json=spec, headers={"X-Request-ID": REQUEST})
    assert answer.status_code == 202, answer.text
    seen.job = answer.json()["id"]
    seen.wait(f"/v1/jobs/{seen.job}", "succeeded")
    for attempts in (1, 2):
        until(lambda: len(seen.receiver.came) == attempts, 60, f"attempt {attempts}")  # noqa: B023
        until(lambda: told(seen)["attempts"] == attempts, 60, "it is noted")  # noqa: B023
        if attempts == 1:
            seen.bring_on()
    assert told(seen)["state"] == "pending"
    seen.site.fleet.kill(seen.cpu)
    seen.bring_on()
    seen.cpu = seen.site.fleet.worker("cpu", "cpu2")
    until(lambda: told(seen)["state"] == "delivered", 120, "it is delivered")
    assert told(seen)["attempts"] == len(seen.receiver.came) == 3
    assert len({came["id"] for came in seen.receiver.came}) == 1
    assert seen.receiver.bad == []
    data = seen.receiver.came[-1]["body"]["data"]
    archive = seen.api.get(f"/v1/jobs/{seen.job}/archive")
    assert (data["job"], data["archive"]["bytes"]) == (seen.job, len(archive.content))
    assert PATIENT not in json.dumps(seen.receiver.came)


def told(seen: Seen) -> dict[str, Any]:
    found: dict[str, Any] = seen.api.get(f"/v1/jobs/{seen.job}").json()["webhook"]
    return found


def test_every_line_of_every_log_is_json_and_names_no_patient_and_no_secret(seen: Seen) -> None:
    for name in ("api", "cpu", "cpu2", "gpu", "sweep"):
        lines = seen.lines(name)
        assert all({"event", "level", "logger", "at", "process", "pid"} <= set(line) for line in lines), name
        said = (seen.home / f"{name}.log").read_text().lower()
        assert PATIENT not in said, name
        assert SECRET.lower() not in said, name
        assert "/hook" not in said, name
    assert len(seen.lines("gpu")) > 6
    assert {line["logger"].partition(".")[0] for line in seen.lines("api")} >= {"uvicorn", "api"}
    assert {line["logger"].partition(".")[0] for line in seen.lines("gpu")} >= {"celery", "worker"}


def test_what_workers_log_carries_the_ids_of_the_request_the_project_the_job_and_the_item(seen: Seen) -> None:
    items = {str(item.id) for item in seen.site.items(seen.job)}
    made = [line for line in seen.lines("gpu") if "an image is made" in line["event"]]
    assert {str(line["item"]) for line in made} == items
    assert {(line["job"], line["project"], line["request"]) for line in made} == {(seen.job, "local", REQUEST)}
    cpu = seen.lines("cpu")
    rejected, ready = (
        [line for line in cpu if f"dataset is {state}" in line["event"]] for state in ("rejected", "ready")
    )
    assert [line["request"] for line in rejected + ready] == [f"{REQUEST}-rejected", f"{REQUEST}-ready"]
    assert all(line["dataset"] for line in rejected + ready)
    built = [line for line in cpu if "the archive is built" in line["event"]]
    assert [(line["job"], line["request"]) for line in built] == [(seen.job, REQUEST)]
    asked = [line for line in seen.lines("api") if line["event"].startswith("POST /v1/jobs: 202")]
    assert [(line["request"], line["project"]) for line in asked] == [(REQUEST, "local")]


def test_what_workers_counted_is_told_to_prometheus(seen: Seen) -> None:
    items = len(seen.site.items(seen.job))

    def figures() -> dict[str, float]:
        text = seen.api.get("/metrics").text
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = f"{sample.name}:{sample.labels.get('state', '')}"
                sums[name] = sums.get(name, 0) + sample.value
        return sums

    until(lambda: figures().get("regrow_item_seconds_count:") == items, 60, "the gpu worker has left its figures")
    found = figures()
    assert found["regrow_items:done"] == items
    assert found["regrow_sampler_steps_total:"] == 4 * items
    assert 0 < found["regrow_device_memory_used_bytes:"] < found["regrow_device_memory_bytes:"]
    # A cpu worker, a gpu worker, the sweep; and for a while the one that was killed.
    assert found["regrow_worker_up:"] in (3, 4)
