"""Uploads in pieces, as tus 1.0 has them."""

import base64
import contextlib
import errno
import hashlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from live import until
from service import MAX_UPLOAD, MISSING, Service, on_both_databases
from sqlalchemy import func, select, update

from api import reception
from shared import trash, uploads
from shared.db import now
from shared.errors import Conflict, Gone, Locked
from shared.models import Dataset, Upload
from shared.queue import Task
from shared.storage import upload_key
from worker.sweep import sweep

TUS = {"Tus-Resumable": "1.0.0"}
FILE = bytes(range(256)) * 15
PIECE = "application/offset+octet-stream"


def encoded(**pairs: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())


def announced(service: Service, size: int = len(FILE), **metadata: str) -> str:
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": encoded(**metadata)}
    answer = service.client.post("/v1/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    location: str = answer.headers["location"]
    return location


def add(service: Service, path: str, offset: int, data: Any, **headers: str) -> httpx.Response:
    sent = {**TUS, "Upload-Offset": str(offset), "Content-Type": PIECE, **headers}
    return service.client.patch(path, content=data, headers=sent)


def head(service: Service, path: str) -> httpx.Response:
    return service.client.head(path, headers=TUS)


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    return answer.status_code, told["type"].rpartition("/")[2], told["detail"]


def datasets(service: Service) -> list[Dataset]:
    with service.sessions.read() as session:
        return list(session.scalars(select(Dataset)))


@on_both_databases
def test_a_file_that_came_in_pieces_is_a_dataset(service: Service) -> None:
    path = announced(service, filename="C:\\scans\\hands.zip")
    for start, end in ((0, 1000), (1000, 1001), (1001, len(FILE))):
        assert head(service, path).headers["upload-offset"] == str(start)
        assert "regrow-dataset" not in head(service, path).headers
        answer = add(service, path, start, FILE[start:end])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end))
    dataset = service.get(answer.headers["regrow-dataset"])
    assert (dataset["name"], dataset["state"], dataset["upload_bytes"]) == ("hands", "checking", len(FILE))
    assert service.storage.read(upload_key(dataset["id"])) == FILE
    assert service.hints == [Task.INGEST]
    for told in (head(service, path), service.client.get(path)):
        assert told.headers["regrow-dataset"] == answer.headers["regrow-dataset"]
        assert told.headers["upload-offset"] == told.headers["upload-length"] == str(len(FILE))
    assert service.get(path)["dataset"] == f"/v1/datasets/{dataset['id']}"


def test_a_name_for_people_goes_before_that_of_the_file(service: Service) -> None:
    path = announced(service, size=3, filename="a.zip", name="Hände", filetype="application/zip")
    found = service.get(path)
    assert (found["name"], found["bytes"], found["offset"], found["dataset"]) == ("Hände", 3, 0, None)
    assert found["metadata"] == {"filename": "a.zip", "name": "Hände", "filetype": "application/zip"}
    assert head(service, path).headers["upload-metadata"] == encoded(**found["metadata"])
    assert service.get("/v1/uploads")["items"] == [found]


def test_how_it_is_to_be_read_is_said_when_it_is_announced(service: Service) -> None:
    wishes = {"format": "coco", "labels": "none", "on_bad_image": "skip", "group_pattern": "(p[0-9]+)_"}
    path = announced(service, size=2, **wishes)
    add(service, path, 0, b"PK")
    assert datasets(service)[0].options == wishes


def test_every_answer_names_the_version_and_none_is_cached(service: Service) -> None:
    path = announced(service)
    answers = [head(service, path), add(service, path, 5, b"x"), head(service, "/v1/uploads/nothing")]
    assert [answer.headers.get("tus-resumable") for answer in answers] == ["1.0.0"] * 3
    assert head(service, path).headers["cache-control"] == "no-store"
    assert "tus-resumable" not in service.client.get("/v1/datasets").headers


def test_what_uploads_can_be_like_is_told(service: Service) -> None:
    answer = service.client.options("/v1/uploads")
    assert answer.status_code == 204
    told = [answer.headers[name] for name in ("tus-version", "tus-extension", "tus-max-size")]
    assert told == ["1.0.0", "creation,expiration,termination,checksum", str(MAX_UPLOAD)]


@pytest.mark.parametrize("version", [{}, {"Tus-Resumable": "0.2.2"}])
def test_another_version_is_refused(service: Service, version: dict[str, str]) -> None:
    path = announced(service)
    for method, at in (("POST", "/v1/uploads"), ("PATCH", path), ("DELETE", path), ("HEAD", path)):
        sent = {"Upload-Length": "5", "Upload-Offset": "0", "Content-Type": PIECE}
        answer = service.client.request(method, at, headers={**sent, **version}, content=b"x")
        assert (answer.status_code, answer.headers["tus-version"]) == (412, "1.0.0")
    assert service.get(path)["offset"] == 0


@pytest.mark.parametrize(
    ("headers", "status", "told"),
    [
        ({}, 422, "header.Upload-Length"),
        ({"Upload-Length": "0"}, 422, "header.Upload-Length"),
        ({"Upload-Length": "-1"}, 422, "header.Upload-Length"),
        ({"Upload-Length": "ten"}, 422, "header.Upload-Length"),
        ({"Upload-Length": str(2**70)}, 422, "header.Upload-Length"),
        ({"Upload-Defer-Length": "1"}, 422, "header.Upload-Length"),
        ({"Upload-Length": str(MAX_UPLOAD + 1)}, 413, "5,001 bytes; the limit is 5,000"),
        ({"Upload-Length": "5", "Upload-Metadata": "name %%%"}, 422, "Upload-Metadata is not keys with values"),
        ({"Upload-Length": "5", "Upload-Metadata": "name /w=="}, 422, "Upload-Metadata is not keys with values"),
        ({"Upload-Length": "5", "Upload-Metadata": "a YQ==,a YQ=="}, 422, "a key twice"),
        ({"Upload-Length": "5", "Upload-Metadata": "a " + "A" * 5000}, 422, "header.Upload-Metadata"),
        (
            {"Upload-Length": "5", "Upload-Metadata": "format eG1s"},
            422,
            "header.Upload-Metadata.format: Input should be",
        ),
        ({"Upload-Length": "5", "Upload-Metadata": "group_pattern KA=="}, 422, "group_pattern: is no regular"),
        ({"Upload-Length": "5", "Upload-Concat": "partial"}, 422, "Parallel uploads"),
    ],
)
def test_what_cannot_be_uploaded_is_refused(service: Service, headers: dict, status: int, told: str) -> None:
    code, _, detail = problem(service.client.post("/v1/uploads", headers=TUS | headers))
    assert (code, told in detail) == (status, True), detail
    assert service.get("/v1/uploads")["items"] == []


@pytest.mark.parametrize("header", ["", "is_confidential", "filename YS56aXA=, is_confidential"])
def test_metadata_may_be_empty_and_a_key_may_stand_alone(service: Service, header: str) -> None:
    sent = {**TUS, "Upload-Length": "5", "Upload-Metadata": header}
    assert service.client.post("/v1/uploads", headers=sent).status_code == 201


@pytest.mark.parametrize(
    ("headers", "data", "status", "slug", "told"),
    [
        ({"Upload-Offset": "3"}, b"x", 409, "conflict", "has 4 bytes so far"),
        ({"Upload-Offset": "5"}, b"x", 409, "conflict", "has 4 bytes so far"),
        ({"Upload-Offset": "x"}, b"x", 422, "invalid", "header.Upload-Offset"),
        ({"Upload-Offset": "-1"}, b"x", 422, "invalid", "header.Upload-Offset"),
        ({"Content-Type": "application/octet-stream"}, b"x", 415, "unsupported-media-type", PIECE),
        ({}, b"1234567", 413, "too-large", "more than the 6 that are missing"),
        ({}, iter([b"12345", b"67"]), 413, "too-large", "the 10 bytes that were announced"),
        ({"Upload-Checksum": "crc32 AAAA"}, b"x", 422, "invalid", "names none of sha1"),
        ({"Upload-Checksum": "sha1 ?"}, b"x", 422, "invalid", "no base64"),
        ({"Upload-Checksum": "sha1 AAAA"}, b"123456", 460, "checksum-mismatch", "Nothing of it was kept"),
    ],
)
def test_a_piece_that_does_not_belong_there_changes_nothing(
    service: Service, headers: dict, data: Any, status: int, slug: str, told: str
) -> None:
    path = announced(service, size=10)
    add(service, path, 0, b"0123")
    code, kind, detail = problem(add(service, path, 4, data, **headers))
    assert (code, kind, told in detail) == (status, slug, True), detail
    assert service.get(path)["offset"] == 4
    assert datasets(service) == []
    assert add(service, path, 4, b"456789").headers["regrow-dataset"]
    assert service.storage.read(upload_key(path.rpartition("/")[2])) == b"0123456789"


@pytest.mark.parametrize("name", ["sha1", "sha256", "md5"])
def test_a_piece_with_the_right_checksum_is_kept(service: Service, name: str) -> None:
    path = announced(service, size=6)
    digest = base64.b64encode(hashlib.new(name, b"abc").digest()).decode()
    assert add(service, path, 0, b"abc", **{"Upload-Checksum": f"{name} {digest}"}).headers["upload-offset"] == "3"


def test_what_is_whole_takes_no_more(service: Service) -> None:
    path = announced(service, size=4)
    add(service, path, 0, b"0123")
    service.storage.delete(upload_key(path.rpartition("/")[2]))  # as a worker does that has read it
    for offset in (0, 4):
        assert problem(add(service, path, offset, b""))[:2] == (409, "conflict")
    assert not list(service.storage.root.rglob("*.zip"))


def test_a_client_that_cannot_patch_says_so_in_a_header(service: Service) -> None:
    path = announced(service, size=4)
    sent = {**TUS, "Upload-Offset": "0", "Content-Type": PIECE, "X-HTTP-Method-Override": "PATCH"}
    assert service.client.post(path, content=b"0123", headers=sent).headers["upload-offset"] == "4"


def test_what_is_not_there_or_not_ones_own_is_not_found(service: Service) -> None:
    with service.sessions.write() as session:
        theirs = uploads.create(session, "somebody", "theirs", 10, 60).id
    for upload_id in (MISSING, "no-id", theirs):
        path = f"/v1/uploads/{upload_id}"
        assert problem(add(service, path, 0, b"x"))[0] == 404
        assert problem(service.client.delete(path, headers=TUS))[0] == 404
        assert service.get(path, 404)
        assert head(service, path).status_code == 404
    assert service.get("/v1/uploads")["items"] == []
    assert not service.storage.root.exists()


@on_both_databases
def test_what_is_given_up_is_gone_with_its_bytes(service: Service) -> None:
    path = announced(service)
    add(service, path, 0, b"0123")
    assert service.client.delete(path, headers=TUS).status_code == 204
    assert problem(add(service, path, 4, b"x"))[0] == 404
    sweep(service.sessions, service.storage)
    assert not list(service.storage.root.rglob("*.zip"))


@on_both_databases
def test_a_dataset_outlives_its_upload_and_takes_it_along(service: Service) -> None:
    paths = [announced(service, size=2) for _ in range(2)]
    made = [add(service, path, 0, b"PK").headers["regrow-dataset"] for path in paths]
    assert service.client.delete(paths[0], headers=TUS).status_code == 204
    sweep(service.sessions, service.storage)
    assert service.get(made[0])["state"] == "checking"
    assert service.storage.read(upload_key(made[0].rpartition("/")[2])) == b"PK"
    assert service.client.delete(made[1]).status_code == 204
    assert head(service, paths[1]).status_code == 404


@on_both_databases
def test_an_upload_expires_when_nothing_is_added_to_it(service: Service) -> None:
    stale, lively, whole = [announced(service, size=9) for _ in range(3)]
    for path in (stale, lively):
        add(service, path, 0, b"0123")
    add(service, whole, 0, b"012345678")
    assert head(service, stale).headers["upload-expires"].endswith(" GMT")
    age(service, 3600 * 24 - 30)
    assert add(service, lively, 4, b"4").status_code == 204
    age(service, 60)
    assert problem(add(service, stale, 4, b"4"))[:2] == (410, "gone")
    assert head(service, stale).status_code == 410
    assert head(service, lively).headers["upload-offset"] == "5"
    assert head(service, whole).headers["regrow-dataset"]
    sweep(service.sessions, service.storage)
    assert [head(service, path).status_code for path in (stale, lively, whole)] == [404, 200, 404]
    left = {path.name for path in service.storage.root.rglob("*.zip")}
    assert left == {f"{path.rpartition('/')[2]}.zip" for path in (lively, whole)}
    assert len(datasets(service)) == 1


@on_both_databases
def test_only_the_writer_who_knew_how_much_was_there_may_add(service: Service) -> None:
    upload_id = announced(service, size=10).rpartition("/")[2]
    with service.sessions.read() as session:
        known = uploads.growing(session, "local", upload_id, 0)
    with service.sessions.write() as session:
        uploads.keep(session, known, 4, 60)
    with pytest.raises(Gone), service.sessions.write() as session:
        uploads.keep(session, known, 6, 60)
    with pytest.raises(Conflict), service.sessions.read() as session:
        uploads.growing(session, "local", upload_id, 0)


def test_an_upload_deleted_while_a_piece_comes_leaves_nothing(live: Service) -> None:
    path = announced(live)
    stored = live.storage.path(upload_key(path.rpartition("/")[2]))
    with sending(live, path, 0, len(FILE)) as connection:
        connection.sendall(FILE[:500])
        until(stored.exists, 60, "the request adds to it")
        assert live.client.delete(path, headers=TUS).status_code == 204
        sweep(live.sessions, live.storage)
        connection.sendall(FILE[500:])
        assert connection.recv(100).startswith((b"HTTP/1.1 410 ", b"HTTP/1.1 404 "))
    assert not stored.exists()
    assert datasets(live) == []


def test_a_file_that_lost_its_bytes_is_not_gone_on_with(service: Service) -> None:
    path = announced(service)
    add(service, path, 0, FILE[:1000])
    service.storage.path(upload_key(path.rpartition("/")[2])).write_bytes(FILE[:999])
    assert problem(add(service, path, 1000, FILE[1000:]))[:2] == (410, "gone")


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_is_told_and_costs_nothing_of_what_was_kept(
    service: Service, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = announced(service)
    add(service, path, 0, FILE[:1000])
    with monkeypatch.context() as full:
        if fails == "write":
            full.setattr("api.routes.uploads.receiving", on_a_full_disk)
        else:
            full.setattr("os.fsync", no_space)
        refused = add(service, path, 1000, FILE[1000:])
    assert problem(refused)[:2] == (507, "insufficient-storage")
    assert head(service, path).headers["upload-offset"] == "1000"
    assert add(service, path, 1000, FILE[1000:]).headers["regrow-dataset"]
    assert service.storage.read(upload_key(path.rpartition("/")[2])) == FILE


@contextlib.contextmanager
def on_a_full_disk(*arguments: Any) -> Iterator[reception.Reception]:
    with reception.receiving(*arguments) as made, open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        made.file = full
        yield made


def no_space(_file: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_one_process_at_a_time_has_the_file(service: Service) -> None:
    path = announced(service)
    with service.storage.growing(upload_key(path.rpartition("/")[2])) as file:
        assert problem(add(service, path, 0, b"x"))[:2] == (423, "locked")
        file.write(b"y")
    assert add(service, path, 0, b"x").status_code == 204


def test_a_growing_file_in_which_nothing_was_written_is_taken_away(service: Service) -> None:
    with service.storage.growing("uploads/a.zip") as first:
        path = service.storage.path("uploads/a.zip")
        assert path.exists()
        path.unlink()
        with service.storage.growing("uploads/a.zip") as second:
            second.write(b"x")
        assert first.seek(0) == 0
    assert path.read_bytes() == b"x"


def test_a_file_taken_away_before_it_was_locked_is_not_written_to(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def too_late(_file: Any, _how: int) -> None:
        service.storage.delete("uploads/a.zip")

    monkeypatch.setattr(fcntl, "flock", too_late)
    with pytest.raises(Locked), service.storage.growing("uploads/a.zip"):
        pass


def test_what_came_before_a_connection_broke_is_kept(live: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    path = announced(live)
    came: list[int] = []
    whole = reception.Reception.add
    monkeypatch.setattr(reception, "_PIECE", 1)
    monkeypatch.setattr(reception.Reception, "add", lambda self, data: (came.append(len(data)), whole(self, data)))
    with sending(live, path, 0, len(FILE)) as connection:
        connection.sendall(FILE[:1234])
        # What the server has not handed over yet is lost with the connection.
        until(lambda: sum(came) == 1234, 60, "it came")
        assert live.get(path)["offset"] == 0
    until(lambda: live.get(path)["offset"] == 1234, 60, "what came is kept")
    assert add(live, path, 1234, FILE[1234:]).headers["regrow-dataset"]
    assert live.storage.read(upload_key(path.rpartition("/")[2])) == FILE


def test_a_sender_who_comes_again_ends_its_connection_of_before(live: Service) -> None:
    path = announced(live)
    stored = live.storage.path(upload_key(path.rpartition("/")[2]))
    with sending(live, path, 0, len(FILE)) as connection:
        connection.sendall(FILE[:500])
        until(stored.exists, 60, "the first request adds to it")
        answer = add(live, path, 0, FILE)
        assert answer.headers["regrow-dataset"]
        assert connection.recv(100).startswith(b"HTTP/1.1 423 ")
    assert stored.read_bytes() == FILE
    assert len(datasets(live)) == 1


def test_many_at_once_make_one_right_file(live: Service) -> None:
    path = announced(live)
    answers: list[int] = []

    def send() -> None:
        with httpx.Client(base_url=str(live.client.base_url), trust_env=False, timeout=60) as client:
            while (offset := int(client.head(path, headers=TUS).headers["upload-offset"])) < len(FILE):
                sent = {**TUS, "Upload-Offset": str(offset), "Content-Type": PIECE}
                answers.append(client.patch(path, content=FILE[offset : offset + 97], headers=sent).status_code)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {204, 409, 410, 423}
    assert live.storage.read(upload_key(path.rpartition("/")[2])) == FILE
    assert len(datasets(live)) == 1


def test_a_connection_that_falls_silent_counts_as_broken(live: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "_SILENCE", 0.2)
    path = announced(live)
    with sending(live, path, 0, len(FILE)) as connection:
        connection.sendall(FILE[:700])
        answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert b"upload-offset: 700\r\n" in answer.lower()


def test_of_a_long_piece_something_is_kept_on_the_way(live: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "_PIECE", 256)
    monkeypatch.setattr(reception, "_KEEP_EVERY", 1000)
    path = announced(live)
    with sending(live, path, 0, len(FILE)) as connection:
        connection.sendall(FILE[:2900])
        until(lambda: live.get(path)["offset"] >= 2000, 60, "a part is kept")
        upload_id = path.rpartition("/")[2]
        assert live.get(path)["offset"] <= live.storage.path(upload_key(upload_id)).stat().st_size


def test_the_sweep_leaves_an_upload_alone_to_which_something_was_added_meanwhile(service: Service) -> None:
    path = announced(service, size=10)
    add(service, path, 0, b"0123")
    age(service, 3600 * 24 + 1)
    with service.sessions.write() as session:
        session.execute(update(Upload).values(expires_at=now() + 60))
    with service.sessions.write() as session:
        assert uploads.sweep(session) == 0
        assert trash.empty(session, service.storage) == 0
    assert head(service, path).headers["upload-offset"] == "4"


@contextlib.contextmanager
def sending(live: Service, path: str, offset: int, length: int) -> Iterator[socket.socket]:
    """A PATCH of `length` bytes, whose body is still to be sent."""
    url = httpx.URL(live.client.base_url)
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        head = f"PATCH {path} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nTus-Resumable: 1.0.0\r\n"
        head += f"Upload-Offset: {offset}\r\nContent-Type: {PIECE}\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode())
        yield connection


def age(service: Service, seconds: float) -> None:
    """All uploads are so much older."""
    with service.sessions.write() as session:
        session.execute(update(Upload).values(expires_at=Upload.expires_at - seconds))
        assert session.scalar(select(func.count()).select_from(Upload))
