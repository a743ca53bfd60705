"""A job from the upload to the zip, by the processes as they run in earnest: none speaks to anybody beyond this
machine, and no log has a name that a user gave, or a secret."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from fleet import Fleet
from live import free_port, until

from regrow.client import Client
from regrow.errors import ClientError
from samples.phantoms import write_dataset
from shared import keys, priors
from shared.db import make_sessions
from worker.priors.diffusers import BUILTIN

pytestmark = pytest.mark.slow

WATCHED = Path(__file__).parent / "watched"
NAME = "Mustermann"
"""In the names of all that is uploaded and made."""


@pytest.fixture
def watched_by(tmp_path: Path) -> Path:
    folder = tmp_path / "watched"
    folder.mkdir()
    return folder


@pytest.fixture
def fleet(tmp_path: Path, new_sqlite: Callable[[Path], str], watched_by: Path, redis_url: str) -> Iterator[Fleet]:
    data = tmp_path / "data"
    url = new_sqlite(data / "regrow.db")
    made = Fleet(data, url, redis_url, PYTHONPATH=str(WATCHED), WATCHED_BY=str(watched_by), REGROW_LOG_LEVEL="debug")
    sessions = make_sessions(url)
    with sessions.write() as session:
        priors.register(session, "builtin", BUILTIN)
    sessions.dispose()
    yield made
    made.end()


def key_of(fleet: Fleet) -> str:
    sessions = make_sessions(fleet.env["REGROW_DATABASE_URL"])
    with sessions.write() as session:
        _, key = keys.create(session, "knee", "anna")
    sessions.dispose()
    return key


def renamed(archive: Path, out: Path, **spoiled: bytes) -> Path:
    """The same with the name in each image's and label's; `spoiled` are contents by the end of their name."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.namelist():
            folder, _, file = member.rpartition("/")
            data = next((data for end, data in spoiled.items() if member.endswith(end)), old.read(member))
            new.writestr(f"{folder}/{NAME}_{file}" if folder else member, data)
    return out


def test_a_whole_job_speaks_to_nobody_and_logs_no_name(fleet: Fleet, watched_by: Path, tmp_path: Path) -> None:
    port, key = free_port(), key_of(fleet)
    fleet.api(port)
    fleet.worker("cpu", "cpu")
    fleet.worker("gpu", "gpu")
    fleet.sweep()
    write_dataset(tmp_path / "plain.zip", images=2, seed=5, size=(90, 110))
    good = renamed(tmp_path / "plain.zip", tmp_path / f"{NAME}.zip")
    bad = renamed(tmp_path / "plain.zip", tmp_path / f"{NAME}_bad.zip", txt=b"0 1 2 3\n")
    url = f"http://127.0.0.1:{port}"
    with Client(url, key=key) as regrow:
        until(lambda: ready(regrow), 180, "the service is ready")
        rejected = regrow.wait_dataset(regrow.upload(bad)["id"])
        assert rejected["state"] == "rejected"
        assert NAME in rejected["problems"][0]["where"]
        dataset = regrow.wait_dataset(regrow.upload(good, name=NAME)["id"])
        spec = {"dataset_id": dataset["id"], "name": NAME, "variants": 1, "sampler": {"steps": 4, "finish": 2}}
        job = regrow.wait_job(regrow.create_job(spec)["id"])
        assert job["state"] == "succeeded"
        regrow.download(job["id"], tmp_path / "out.zip")
        assert NAME in str(zipfile.ZipFile(tmp_path / "out.zip").namelist())
        assert httpx.get(f"{url}/v1/priors/{NAME}", headers={"Authorization": f"Bearer {key}"}).status_code == 404
        assert httpx.get(f"{url}/v1/jobs", headers={"Authorization": f"Bearer {key}x"}).status_code == 401
    fleet.end()

    notes = {path.name: path.read_text().splitlines() for path in watched_by.iterdir()}
    started = " ".join(lines[0] for lines in notes.values())
    assert all(part in started for part in ("uvicorn", "-Q cpu", "-Q gpu", "worker.sweep", "spawn_main"))
    assert {name: lines[1:] for name, lines in notes.items() if lines[1:]} == {}
    logs = {path.name: path.read_text() for path in fleet.data.rglob("*.log")}
    assert set(logs) >= {"api.log", "cpu.log", "gpu.log", "sweep.log"}
    assert dataset["id"] in logs["cpu.log"]
    for name, log in logs.items():
        assert NAME not in log, name
        assert key not in log, name


def ready(regrow: Client) -> bool:
    with suppress(ClientError):
        return regrow.ready()["ready"]
    return False


@pytest.mark.parametrize(
    ("does", "may"),
    [
        ("socket.create_connection(('192.0.2.1', 80), 1)", False),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))", False),
        ("socket.getaddrinfo('example.org', 80)", False),
        ("socket.getaddrinfo('localhost', 80)", True),
        ("socket.create_server(('127.0.0.1', 0)).getsockname()", True),
    ],
)
def test_the_guard_sees_who_leaves_this_machine(watched_by: Path, does: str, may: bool) -> None:
    env = os.environ | {"PYTHONPATH": str(WATCHED), "WATCHED_BY": str(watched_by)}
    done = subprocess.run(
        [sys.executable, "-c", f"import socket; {does}"], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == may
    assert may or "leaves this machine" in done.stderr
    (notes,) = watched_by.iterdir()
    assert len(notes.read_text().splitlines()) == (1 if may else 2)
