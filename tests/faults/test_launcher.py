"""`regrow serve` itself is killed in the middle of a job: all it started ends, and a new one goes on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import law
import psutil
import pytest
from installation import Site
from live import free_port, until
from tiny_prior import write_tiny_prior

from regrow.client import Client
from regrow.errors import ClientError
from samples.phantoms import write_dataset

ROOT = Path(__file__).resolve().parents[2]
SPEC = {"prior": "tiny", "variants": 2, "sampler": {"steps": 40}, "canvas": {"long_side": 32}, "reuse": False}

pytestmark = pytest.mark.slow


@contextmanager
def served(home: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Client]]:
    """A `regrow serve` that is ready. When the block ends, so does the launcher, by SIGKILL."""
    port = free_port()
    env = {"REGROW_PRIORS": str(home / "priors"), "REGROW_MIN_FREE_GB": "0"}
    env |= {"REGROW_DEVICE": "cpu", "REGROW_SAMPLERS": "2"}
    env |= {"REGROW_LEASE_SECONDS": "5", "REGROW_RENEW_SECONDS": "1", "REGROW_SWEEP_SECONDS": "1"}
    command = [sys.executable, "-m", "regrow", "serve", "--port", str(port), "--data", str(home / "data")]
    with (home / "console").open("ab") as console:
        launcher = subprocess.Popen(command, cwd=ROOT, env=os.environ | env, stdout=console, stderr=console)
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            until(lambda: ready(client), 240, "it is ready")
            yield launcher, client
    finally:
        launcher.kill()
        launcher.wait()


def ready(client: Client) -> bool:
    try:
        return client.ready()["ready"]
    except ClientError:
        return False


def ours(data: Path) -> list[psutil.Process]:
    """The processes that run in the data folder: all but the launcher."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(data):
                found.append(process)
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    write_tiny_prior(tmp_path / "priors" / "tiny", native_size=32)
    write_dataset(tmp_path / "phantoms.zip", images=4, seed=2, size=(64, 76))
    yield tmp_path
    for process in ours(tmp_path / "data"):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_killed_launcher_takes_everything_along_and_the_next_one_ends_the_job(home: Path) -> None:
    # Looked at from outside; nothing is sent through this broker.
    site = Site(home / "data", f"sqlite:///{home}/data/regrow.db", "redis://127.0.0.1:1/0")
    with served(home) as (launcher, client):
        dataset = client.wait_dataset(client.upload(home / "phantoms.zip")["id"])
        spec = {"dataset_id": dataset["id"], **SPEC}
        undisturbed = client.wait_job(client.create_job(spec)["id"])
        like = law.undisturbed(site, undisturbed["id"])
        job = client.create_job(spec)["id"]
        until(lambda: site.done(job) > 0 and bool(site.at_work(job)), 240, "the job is in the middle")
        launcher.kill()
        launcher.wait()
        until(lambda: ours(home / "data") == [], 60, "all it started is gone")
        left = site.counts(job)
        assert left.get("pending", 0) + left.get("running", 0) > 0
    with served(home) as (_, client):
        assert client.wait_job(job)["state"] == "succeeded"
        law.check(site, job, like)
    site.sessions.dispose()
