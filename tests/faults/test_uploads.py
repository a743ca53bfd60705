"""Uploads of real clients go on where they were, whatever breaks: the line, the client, the API."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cutter import Cutter, cutter
from fleet import ROOT, Fleet, Process
from live import free_port, until
from sqlalchemy import select, update

import regrow
from shared.db import Sessions, make_sessions
from shared.errors import Locked
from shared.models import Dataset, Upload
from shared.settings import Settings
from shared.storage import Folder, upload_key
from worker.ingest import check_next

MB = 2**20
KEPT_EVERY = 16 * MB
TUS_JS = "tus-js-client@4.3.1"

pytestmark = pytest.mark.slow


class Api:
    """The API as a process of its own, which can be killed and started again. It has the database at `url`."""

    def __init__(self, data: Path, url: str) -> None:
        self.sessions: Sessions = make_sessions(url)
        self.storage = Folder(data / "storage")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # No broker is there: hints are lost, which is no upload's concern.
        self.fleet = Fleet(data, url, f"redis://127.0.0.1:{free_port()}/0")
        self._process: Process | None = None

    def start(self) -> None:
        self._process = self.fleet.api(self.port)
        until(self._answers, 180, "the API answers")

    def kill(self) -> None:
        assert self._process is not None
        self.fleet.kill(self._process)

    def again(self) -> None:
        self.kill()
        self.start()

    def clear(self) -> None:
        """Forget all that came, and be there for the next test."""
        with self.sessions.write() as session:
            for row in (*session.scalars(select(Upload)), *session.scalars(select(Dataset))):
                session.delete(row)
        shutil.rmtree(self.storage.root / "uploads", ignore_errors=True)
        if self._process is None or self._process.poll() is not None:
            self.start()

    def uploads(self) -> list[Upload]:
        with self.sessions.read() as session:
            return list(session.scalars(select(Upload).order_by(Upload.created_at)))

    def received(self) -> int:
        return max((upload.received for upload in self.uploads()), default=0)

    def stored(self, upload: Upload) -> bytes:
        return self.storage.read(upload_key(upload.id))

    def check(self, data: bytes) -> None:
        """There is one dataset, of these bytes."""
        with self.sessions.read() as session:
            (dataset,) = session.scalars(select(Dataset))
        (upload,) = self.uploads()
        assert (upload.id, upload.received, dataset.upload_size) == (dataset.id, len(data), len(data))
        assert self.stored(upload) == data

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def _api(tmp_path_factory: pytest.TempPathFactory, new_sqlite: Callable[[Path], str]) -> Iterator[Api]:
    data = tmp_path_factory.mktemp("data")
    made = Api(data, new_sqlite(data / "regrow.db"))
    yield made
    made.fleet.end()
    made.sessions.dispose()


@pytest.fixture
def api(_api: Api) -> Api:
    """The API, which runs and to which nothing has come."""
    _api.clear()
    return _api


@pytest.fixture
def line(api: Api) -> Iterator[Cutter]:
    with cutter(api.port) as made:
        yield made


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.zip"
    path.write_bytes(random.Random(3).randbytes(3 * MB))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.zip"
    path.write_bytes(random.Random(4).randbytes(40 * MB))
    return path


@pytest.fixture(scope="session")
def tus_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds tus-js-client."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("tus-js")
    (folder / "package.json").write_text('{"private": true}')
    got = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", TUS_JS], check=False, cwd=folder, capture_output=True, text=True
    )
    if got.returncode:
        pytest.skip(f"npm did not get {TUS_JS}: {got.stderr[-300:]}")
    shutil.copy(Path(__file__).with_name("tus_upload.cjs"), folder)
    return folder


def test_an_api_killed_in_a_piece_has_kept_no_more_than_is_on_the_disk(api: Api, large: Path) -> None:
    data, killed = large.read_bytes(), []

    def kill_once(sent: int, _total: int) -> None:
        if sent > 30 * MB and not killed:
            until(lambda: api.received() >= KEPT_EVERY, 60, "a part is kept")
            api.kill()
            (upload,) = api.uploads()
            killed.append(upload.received)
            stored = api.stored(upload)
            assert len(stored) >= upload.received >= KEPT_EVERY
            assert stored[: upload.received] == data[: upload.received]
            api.start()

    with regrow.Client(api.url) as client:
        dataset = client.upload(large, on_progress=kill_once)
    assert killed
    assert killed[0] < len(data)
    assert (dataset["name"], dataset["upload_bytes"]) == ("large", len(data))
    api.check(data)


def test_the_client_goes_on_when_its_line_breaks_again_and_again(
    api: Api, line: Cutter, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regrow.pieces._PIECE", 9 * MB)
    line.cut_after = [20 * MB, 10 * MB, 5, 12 * MB]
    with regrow.Client(line.url) as client:
        client.upload(large)
    assert line.cuts == 4
    api.check(large.read_bytes())


def test_a_later_call_goes_on_where_an_interrupted_one_stopped(api: Api, line: Cutter, large: Path) -> None:
    command = [sys.executable, "-m", "regrow", "upload", str(large), "--server", line.url]
    line.stall_after = 30 * MB
    with started(command, ROOT) as first:
        until(lambda: api.received() >= KEPT_EVERY, 60, "a part is kept")
        first.send_signal(signal.SIGINT)
        said, _ = first.communicate(timeout=60)
    assert (first.returncode, "goes on where this one stopped" in said) == (130, True), said
    kept = api.received()
    line.stall_after, line.sent = None, 0
    with checking(api):
        second = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert second.returncode == 4, second.stderr  # these bytes are no zip
    assert "This is not a zip" in second.stderr
    # Not from the beginning; what the first connection still held may have been sent again.
    assert kept >= KEPT_EVERY
    assert line.sent < 34 * MB
    with api.sessions.read() as session:
        assert session.scalars(select(Dataset.upload_size)).all() == [40 * MB]


def test_a_changed_file_is_not_mixed_with_what_it_was(api: Api, large: Path) -> None:
    with regrow.Client(api.url) as client:
        interrupted(api, client, large)
        with large.open("r+b") as file:
            file.write(b"changed")
        client.upload(large)
    first, second = api.uploads()
    assert first.received < first.size
    assert api.stored(second) == large.read_bytes()


def test_an_upload_that_has_expired_is_begun_anew(api: Api, large: Path) -> None:
    with regrow.Client(api.url) as client:
        interrupted(api, client, large)
        with api.sessions.write() as session:
            session.execute(update(Upload).values(expires_at=1.0))
        client.upload(large)
    first, second = api.uploads()
    assert first.received < first.size
    assert api.stored(second) == large.read_bytes()


@pytest.mark.parametrize("checksum", [False, True])
def test_tuspy_goes_on_after_the_api_was_killed_between_its_chunks(api: Api, small: Path, checksum: bool) -> None:
    with tuspy(api.url, small, chunk_size=700_000, upload_checksum=checksum, stop_at=1_500_000) as first:
        said, _ = first.communicate(timeout=60)
    assert first.returncode == 0, said
    kept = api.received()
    assert kept == 1_500_000
    api.again()
    with tuspy(api.url, small, chunk_size=700_000, upload_checksum=checksum) as second:
        said, _ = second.communicate(timeout=60)
    assert (second.returncode, said) == (0, f"goes on at {kept}\n")
    api.check(small.read_bytes())


def test_tuspy_goes_on_after_its_line_broke_in_a_chunk(api: Api, line: Cutter, small: Path) -> None:
    line.cut_after = [500_000, 300_000]
    with tuspy(line.url, small, chunk_size=900_000, retries=3, retry_delay=0.1) as uploading:
        said, _ = uploading.communicate(timeout=60)
    assert (uploading.returncode, line.cuts) == (0, 2), said
    api.check(small.read_bytes())


def test_tuspy_goes_on_after_it_was_killed_itself(api: Api, line: Cutter, small: Path) -> None:
    line.stall_after = 700_000
    with tuspy(line.url, small, chunk_size=200_000) as uploading:
        until(lambda: api.received() >= 200_000, 60, "a part is kept")
        uploading.kill()
        uploading.communicate()
    line.stall_after = None
    with tuspy(line.url, small, chunk_size=200_000) as uploading:
        said, _ = uploading.communicate(timeout=60)
    assert uploading.returncode == 0, said
    assert "goes on at 0" not in said
    api.check(small.read_bytes())


def test_tus_js_goes_on_when_the_line_breaks_and_the_api_is_killed(
    api: Api, line: Cutter, small: Path, tus_js: Path
) -> None:
    line.cut_after = [400_000, 200_000]
    with tus_upload(tus_js, line.url, small) as uploading:
        until(lambda: api.received() >= MB, 60, "a part is kept")
        api.again()
        said, _ = uploading.communicate(timeout=120)
    assert uploading.returncode == 0, said
    assert line.cuts == 2
    api.check(small.read_bytes())
    (upload,) = api.uploads()
    assert upload.name == "small"
    assert f"dataset /v1/datasets/{upload.id}" in said


def test_tus_js_goes_on_after_it_was_killed_itself(api: Api, line: Cutter, small: Path, tus_js: Path) -> None:
    line.stall_after = 700_000
    with tus_upload(tus_js, line.url, small) as uploading:
        until(lambda: api.received() >= 2 * 200_000, 60, "a part is kept")
        uploading.kill()
        uploading.communicate()
    kept, line.stall_after = api.received(), None
    with tus_upload(tus_js, line.url, small) as uploading:
        said, _ = uploading.communicate(timeout=120)
    assert uploading.returncode == 0, said
    resumed = re.search(r"goes on at (\d+)", said)
    assert resumed
    assert int(resumed[1]) >= kept
    api.check(small.read_bytes())


def interrupted(api: Api, client: regrow.Client, path: Path) -> None:
    """An upload of which a part is kept."""

    class Enough(Exception):
        pass

    def stop(sent: int, _total: int) -> None:
        if sent > 20 * MB:
            until(lambda: api.received() >= KEPT_EVERY, 60, "a part is kept")
            raise Enough

    with pytest.raises(Enough):
        client.upload(path, on_progress=stop)
    (upload,) = api.uploads()

    def let_go() -> bool:
        try:
            with api.storage.growing(upload_key(upload.id)):
                return True
        except Locked:
            return False

    until(let_go, 60, "the API has kept what came last")


def tuspy(url: str, path: Path, **options: Any) -> AbstractContextManager["subprocess.Popen[str]"]:
    script = Path(__file__).with_name("tuspy_upload.py")
    arguments = [f"{url}/v1/uploads", path, path.with_suffix(".urls"), json.dumps(options)]
    return started([sys.executable, str(script), *map(str, arguments)], ROOT)


def tus_upload(folder: Path, url: str, path: Path) -> AbstractContextManager["subprocess.Popen[str]"]:
    return started(["node", "tus_upload.cjs", f"{url}/v1/uploads", str(path), str(path.with_suffix(".json"))], folder)


@contextmanager
def started(command: list[str], folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process, whose output comes together."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def checking(api: Api) -> Iterator[None]:
    """Meanwhile datasets are checked, as a worker does it."""
    settings = Settings(data=api.storage.root.parent, _env_file=None)
    over = threading.Event()

    def check() -> None:
        while not over.wait(0.1):
            check_next(settings, api.sessions, api.storage)

    thread = threading.Thread(target=check)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
