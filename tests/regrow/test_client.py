"""The client against the real API."""

import hashlib
import io
import socket
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from live import until
from PIL import Image

import regrow
from regrow import Client
from regrow.client import over
from regrow.errors import Damaged, ProblemError, Unreachable
from shared import archives


def test_an_upload_tells_how_much_was_sent_and_becomes_a_checked_dataset(client, zipped):
    told = []
    dataset = client.upload(zipped, name="wrists", on_progress=lambda sent, total: told.append((sent, total)))
    size = zipped.stat().st_size
    assert told[-1] == (size, size)
    assert [sent for sent, _ in told] == sorted(sent for sent, _ in told)
    polled = []
    dataset = client.wait_dataset(dataset["id"], on_poll=polled.append)
    assert (dataset["name"], dataset["state"], dataset["upload_bytes"]) == ("wrists", "ready", size)
    assert dataset["counts"]["images"] == {"train": 3, "valid": 1}
    assert polled[-1] == dataset == client.dataset(dataset["id"])


def test_a_broken_upload_is_rejected_with_its_faults(client, bad_zip):
    dataset = client.wait_dataset(client.upload(bad_zip)["id"])
    assert dataset["state"] == "rejected"
    assert "zip" in dataset["problems"][0]["what"]


def test_all_images_come_however_many_pages_they_fill(client, dataset_id, monkeypatch):
    whole = list(client.images(dataset_id))
    monkeypatch.setattr("regrow.wire._PAGE", 1)
    assert list(client.images(dataset_id)) == whole
    assert len(whole) == 4


def test_an_original_comes_as_it_was_uploaded(client, dataset_id, zipped):
    with zipfile.ZipFile(zipped) as archive:
        for image in client.images(dataset_id):
            assert client.image_file(dataset_id, image["id"]) == archive.read(image["path"])
            small = Image.open(io.BytesIO(client.image_preview(dataset_id, image["id"], size=50, boxes=True)))
            assert (small.format, max(small.size)) == ("JPEG", 50)


def test_a_job_is_waited_for_until_its_archive_is_built(client, service, dataset_id):
    polled = []
    job = client.wait_job(client.create_job({"dataset_id": dataset_id, "variants": 3})["id"], on_poll=polled.append)
    assert job["state"] == "succeeded"
    assert job["counts"]["done"] == job["total"] == 9
    assert job["archive"]["state"] == "ready"
    assert polled[-1] == job


def test_a_job_is_over_when_neither_its_items_nor_its_archive_will_change(finished):
    archive = finished["archive"]
    assert over(finished)
    assert over(finished | {"archive": archive | {"state": "failed"}})
    assert over(finished | {"state": "failed", "archive": None})
    assert not over(finished | {"archive": archive | {"state": "building"}})
    assert not over(finished | {"finished_at": None, "archive": None})  # the last item has ended this very moment
    assert not over(finished | {"state": "cancelling"})


def test_waiting_asks_for_changes_only_and_at_the_pace_the_server_names(client, service, dataset_id):
    service.open.clear()
    service.line.pace = "1.5"
    job = client.create_job({"dataset_id": dataset_id})
    polled = []

    def on_poll(answer):
        polled.append((time.monotonic(), answer["state"]))
        service.open.set()

    client.wait_job(job["id"], on_poll=on_poll)
    first, *later = service.line.requests("GET", job["id"])
    assert "If-None-Match" not in first.headers
    assert all(request.headers["If-None-Match"] for request in later)
    assert polled[1][0] - polled[0][0] >= 1.5


def test_an_answer_that_did_not_change_is_not_told_twice(client, service, dataset_id):
    service.open.clear()
    job = client.create_job({"dataset_id": dataset_id})
    asked = 0

    def open_when_known() -> None:
        nonlocal asked
        while not any(request.answered == 304 for request in service.line.requests("GET", job["id"])):
            time.sleep(0.02)
        asked = len(polled)
        service.open.set()

    polled = []
    thread = threading.Thread(target=open_when_known, daemon=True)
    thread.start()
    client.wait_job(job["id"], on_poll=polled.append)
    thread.join()
    assert asked == 1
    assert all(one != next_ for one, next_ in pairwise(polled))


def test_items_can_be_listed_by_state_and_looked_at(client, service, finished):
    items = list(client.items(finished["id"], state="done"))
    assert len(items) == 6
    assert list(client.items(finished["id"], state="failed")) == []
    image = client.item_image(finished["id"], items[0]["id"])
    assert hashlib.sha256(image).hexdigest() == items[0]["sha256"]
    mask = Image.open(io.BytesIO(client.item_mask(finished["id"], items[0]["id"])))
    small, pair, difference = (
        Image.open(io.BytesIO(picture))
        for picture in (
            client.item_preview(finished["id"], items[0]["id"], size=40, boxes=True),
            client.item_pair(finished["id"], items[0]["id"], size=40),
            client.item_difference(finished["id"], items[0]["id"], factor=2),
        )
    )
    assert (max(small.size), pair.width > 2 * small.width, difference.size) == (40, True, mask.size)
    assert mask.size == Image.open(io.BytesIO(image)).size == (320, 400)


def test_images_are_judged_filtered_and_reviewed_blindly(client, finished):
    job, items = finished["id"], [item["id"] for item in client.items(finished["id"])]
    assert client.judge(job, items[:2], "reject", "a step")["rejected"] == 2
    assert [item["verdict"]["reason"] for item in client.items(job) if item["verdict"]] == ["a step"] * 2
    assert client.judge(job, items[:2], None) == client.verdicts(job) == {"accepted": 0, "rejected": 0, "undecided": 6}
    (seconds,) = client.measures(job)
    assert (seconds["name"], seconds["count"], sum(seconds["bins"])) == ("seconds", 6, 6)
    seen = client.preview_filters(job, [{"measure": "seconds", "max": seconds["lowest"] - 0.001}])
    assert (seen["total"], seen["dropped"], seen["kept"]) == (6, 6, 0)
    review = client.begin_review(job, count=3, seed=1)
    pictures = [Image.open(io.BytesIO(client.review_card(job, review["id"], card["id"]))) for card in review["cards"]]
    assert {picture.size for picture in pictures} == {(320, 400)}
    told = client.answer_review(job, review["id"], {card["id"]: "regrown" for card in review["cards"]})
    assert told["score"]["right"] == told["score"]["regrown"] == told["score"]["regrown_known"]
    revision = client.job(job)["archive"]["revision"]
    assert client.pack(job, [{"measure": "seconds", "max": 100}])["archive"]["revision"] == revision + 1
    assert client.wait_job(job)["archive"]["filters"] == [{"measure": "seconds", "min": None, "max": 100}]
    client.pack(job)
    assert client.wait_job(job)["archive"]["filters"] == []


def test_a_mask_can_be_looked_at_before_and_is_the_items_own(client, finished):
    item = next(client.items(finished["id"]))
    asked = {"seed": finished["spec"]["seed"], "variant": item["variant"], "size": "source"}
    mask = finished["spec"]["operator"]["mask"]
    shown = np.asarray(
        Image.open(io.BytesIO(client.preview_mask(finished["dataset_id"], item["image_id"], mask, **asked)))
    )
    used = np.asarray(Image.open(io.BytesIO(client.item_mask(finished["id"], item["id"]))))
    assert np.array_equal(shown.max(axis=2) == shown.min(axis=2), used == 255)


def test_all_jobs_are_listed(client, finished):
    assert finished["id"] in [job["id"] for job in client.jobs()]


def test_a_cancelled_job_ends_as_cancelled(client, service, dataset_id):
    service.open.clear()
    job = client.create_job({"dataset_id": dataset_id, "reuse": False})
    assert client.cancel(job["id"])["state"] == "cancelled"
    service.open.set()
    assert client.wait_job(job["id"])["archive"] is None


def test_a_download_is_the_announced_archive_and_leaves_nothing_beside_it(client, finished, tmp_path):
    told = []
    path = client.download(finished["id"], tmp_path / "out.zip", on_progress=lambda *bytes_: told.append(bytes_))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == finished["archive"]["sha256"]
    assert told[-1] == (path.stat().st_size, finished["archive"]["bytes"])
    assert list(tmp_path.iterdir()) == [path]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_an_interrupted_download_goes_on_where_it_stopped(client, service, finished, tmp_path):
    service.line.cut = [70_000, 30_000]
    path = client.download(finished["id"], tmp_path / "out.zip")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == finished["archive"]["sha256"]
    ranges = [request.headers.get("Range") for request in service.line.requests("GET", "/archive")]
    assert ranges == ["bytes=0-0", None, "bytes=70000-", "bytes=100000-"]


def test_a_later_call_goes_on_where_an_earlier_one_was_killed(client, service, finished, tmp_path):
    path = tmp_path / "out.zip"

    def killed(done, _total):
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.download(finished["id"], path, on_progress=killed)
    assert not path.exists()
    (part,) = tmp_path.iterdir()
    have = part.stat().st_size
    client.download(finished["id"], path)
    assert service.line.requests("GET", "/archive")[-1].headers["Range"] == f"bytes={have}-"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == finished["archive"]["sha256"]


def test_a_damaged_download_is_refused_and_what_was_there_stays(client, service, finished, tmp_path):
    path = tmp_path / "out.zip"
    path.write_bytes(b"last week's")
    service.line.flip = True
    with pytest.raises(Damaged, match=finished["archive"]["sha256"]):
        client.download(finished["id"], path)
    assert path.read_bytes() == b"last week's"
    assert list(tmp_path.iterdir()) == [path]


def test_the_archive_of_a_job_that_is_not_over_cannot_be_downloaded(client, service, dataset_id, tmp_path):
    service.open.clear()
    job = client.create_job({"dataset_id": dataset_id})
    with pytest.raises(ProblemError, match="not over") as caught:
        client.download(job["id"], tmp_path / "out.zip")
    assert caught.value.status == 409
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_was_pruned_is_built_again_and_is_the_same(client, service, finished, tmp_path, run):
    hashes = []
    for _ in range(2):
        with service.sessions.write() as session:
            archives.prune(session, -60)
        until(lambda: "archive pruned" in run("status", finished["id"]).stdout, 60, "it is told")
        result = run("download", finished["id"], "-o", tmp_path / "out.zip")
        assert result.exit_code == 0, result.stderr
        assert "archive ready" in result.stdout
        hashes.append(hashlib.sha256((tmp_path / "out.zip").read_bytes()).hexdigest())
    assert hashes[0] == hashes[1] == client.job(finished["id"])["archive"]["sha256"]


def test_what_is_done_so_far_can_be_had_while_a_job_runs(client, service, dataset_id, tmp_path, run):
    begun, go_on = [], threading.Event()

    def after_the_first(work):
        if work.job_id == job["id"]:
            begun.append(work)
        return len(begun) > 1 and not go_on.wait(60)

    service.open.clear()
    job = client.create_job({"dataset_id": dataset_id})
    service.fails = after_the_first
    service.open.set()
    while client.job(job["id"])["counts"].get("done", 0) < 1:
        time.sleep(0.05)
    path, told = tmp_path / "part.zip", []
    client.download(job["id"], path, lambda *bytes_: told.append(bytes_), partial=True)
    assert told[-1] == (path.stat().st_size, 0)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.read("manifest.jsonl").splitlines()) == 1
    service.line.cut = [1000]
    with pytest.raises(Unreachable):
        client.download(job["id"], tmp_path / "broken.zip", partial=True)
    assert run("download", job["id"], "-o", tmp_path / "again.zip", "--partial").exit_code == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["again.zip", "part.zip"]
    go_on.set()
    assert client.wait_job(job["id"])["state"] == "succeeded"
    client.download(job["id"], path, partial=True)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.read("manifest.jsonl").splitlines()) == job["total"]


def test_a_wish_that_cannot_be_names_the_field_and_what_is_wrong(client, dataset_id):
    with pytest.raises(ProblemError) as caught:
        client.create_job({"dataset_id": dataset_id, "variants": 0})
    assert (caught.value.status, caught.value.type.rpartition("/")[2]) == (422, "invalid")
    assert [error["where"] for error in caught.value.errors] == ["body.variants"]
    assert "body.variants: Input should be greater than or equal to 1" in str(caught.value)


def test_what_is_not_there_is_a_problem_with_the_servers_words(client):
    with pytest.raises(ProblemError, match="There is no job") as caught:
        client.job("0" * 32)
    assert caught.value.status == 404


def test_a_busy_server_is_asked_again_after_the_time_it_names(client, service, dataset_id):
    service.line.busy = 2
    started = time.monotonic()
    assert client.dataset(dataset_id)["id"] == dataset_id
    assert time.monotonic() - started >= 0.6
    assert len(service.line.requests("GET", dataset_id)) == 3


def test_a_server_that_stays_busy_is_an_error_in_the_end(client, service, dataset_id):
    service.line.busy = 1000
    with pytest.raises(ProblemError) as caught:
        client.dataset(dataset_id)
    assert caught.value.status == 503
    assert 2 < len(service.line.seen) < 20


def test_what_might_be_done_twice_is_never_sent_twice(client, service, zipped):
    service.line.busy = 1
    with pytest.raises(ProblemError):
        client.upload(zipped)
    assert len(service.line.seen) == 1


def test_a_job_whose_request_was_lost_is_asked_for_again_under_the_same_key(client, service, dataset_id):
    service.line.busy = 1
    before = {job["id"] for job in client.jobs()}
    service.line.busy = 2
    job = client.create_job({"dataset_id": dataset_id})
    assert len(service.line.requests("POST", "/v1/jobs")) == 3
    assert {job["id"] for job in client.jobs()} - before == {job["id"]}
    assert client.create_job({"dataset_id": dataset_id})["id"] != job["id"]
    again = [client.create_job({"dataset_id": dataset_id}, key="mine")["id"] for _ in range(2)]
    assert again[0] == again[1]


def test_a_job_can_be_paused_resumed_cancelled_retried_and_deleted(client, service, dataset_id):
    service.open.clear()
    job_id = client.create_job({"dataset_id": dataset_id})["id"]
    told = (client.pause, client.resume, client.cancel, client.retry)
    assert [each(job_id)["state"] for each in told] == ["paused", "queued", "cancelled", "queued"]
    assert client.upgrade(job_id, "keep")["state"] == "queued"
    client.delete_job(job_id)
    with pytest.raises(ProblemError, match="There is no job"):
        client.job(job_id)


def test_a_dataset_can_be_deleted(client, zipped):
    dataset_id = client.wait_dataset(client.upload(zipped)["id"])["id"]
    client.delete_dataset(dataset_id)
    with pytest.raises(ProblemError, match="There is no dataset"):
        client.dataset(dataset_id)


def test_a_server_that_is_not_there_is_unreachable_and_the_message_says_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with Client(url) as client, pytest.raises(Unreachable, match=r"regrow serve") as caught:
        client.job("0" * 32)
    assert url in str(caught.value)


def test_a_server_that_comes_back_while_waiting_is_waited_for(client, service, dataset_id):
    job = client.create_job({"dataset_id": dataset_id})
    service.line.busy = 4  # for longer than a single question is repeated
    service.line.retry_after = "0.5"
    assert client.wait_job(job["id"])["state"] == "succeeded"


@pytest.mark.parametrize("status", [200, 404, 502])
def test_an_answer_that_is_not_regrows_is_not_taken_for_one(status):
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<h1>hello</h1>")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client, pytest.raises(ProblemError) as caught:
            client.job("0" * 32)
        server.shutdown()
    assert caught.value.status == status
    assert "not as Regrow does" in str(caught.value)


def test_a_proxy_from_the_environment_is_not_used_for_this_machine(service, dataset_id, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with Client(service.url) as client:
        assert client.dataset(dataset_id)["id"] == dataset_id


def test_readiness_is_an_answer_even_when_it_is_no(client):
    readiness = client.ready()
    assert readiness["ready"] is False
    assert readiness["parts"]["database"] == "ok"
    assert "no worker" in readiness["parts"]["workers"]


def test_the_client_needs_nothing_of_the_server():
    code = (
        "import sys; from regrow import Client; Client().close(); "
        "print([name for name in ('shared', 'api', 'worker', 'torch', 'sqlalchemy') if name in sys.modules])"
    )
    root = Path(regrow.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_what_a_job_would_take_is_asked_before(client: Client, dataset_id: str) -> None:
    told = client.estimate_job({"dataset_id": dataset_id, "variants": 3, "reuse": False})
    assert (told["images"], told["items"], told["reused"]) == (3, 9, 0)
    assert told["bytes_needed"] > 0
