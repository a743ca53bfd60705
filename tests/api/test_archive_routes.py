"""The zip over HTTP."""

import io
import json
import zipfile

import pytest
from service import Service

from shared import archives
from shared.queue import Task
from shared.storage import sha256

ZIP = bytes(range(256)) * 10


@pytest.fixture
def path(service: Service) -> str:
    """Of the archive of a job that is done."""
    job = service.job(service.ready(1), variants=1, name="Hände / 2. Serie")
    service.do(1)
    service.pack(ZIP)
    return f"/v1/jobs/{job['id']}/archive"


def test_the_archive_comes_whole_with_its_hash_and_a_name(service: Service, path: str) -> None:
    answer = service.client.get(path)
    assert (answer.status_code, answer.content) == (200, ZIP)
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["etag"] == f'"{sha256(ZIP)}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''H%C3%A4nde_2._Serie-expanded.zip"


def test_head_tells_the_same_without_the_bytes(service: Service, path: str) -> None:
    head, get = service.client.head(path), service.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    own = {"x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in get.headers.items() if k not in own
    }
    assert head.headers["content-length"] == str(len(ZIP))


def test_a_broken_download_goes_on_where_it_ended(service: Service, path: str) -> None:
    etag = service.client.get(path).headers["etag"]
    rest = service.client.get(path, headers={"Range": "bytes=1000-", "If-Range": etag})
    assert (rest.status_code, rest.content) == (206, ZIP[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(ZIP) - 1}/{len(ZIP)}"
    other = service.client.get(path, headers={"Range": "bytes=1000-", "If-Range": '"of another archive"'})
    assert (other.status_code, other.content) == (200, ZIP)


def test_who_has_the_archive_does_not_get_it_again(service: Service, path: str) -> None:
    etag = service.client.get(path).headers["etag"]
    for known in (etag, "*", f'"x", {etag}'):
        answer = service.client.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert service.client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200


def test_a_range_that_is_not_there_is_a_problem(service: Service, path: str) -> None:
    answer = service.client.get(path, headers={"Range": "bytes=9000-"})
    assert answer.headers["content-range"] == f"bytes */{len(ZIP)}"
    assert "'bytes=9000-'" in service.get(path, 416, Range="bytes=9000-")["detail"]
    service.get(path, 400, Range="lines=1-2")


def test_while_it_is_not_there_yet_one_is_told_to_come_again(service: Service) -> None:
    path = f"/v1/jobs/{service.job(service.ready(2), variants=1)['id']}/archive"
    service.do(1)
    answer = service.client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    assert "50% is done" in service.get(path, 409)["detail"]
    service.do(1)
    answer = service.client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    assert "being built" in service.get(path, 409)["detail"]


def test_a_partial_archive_holds_what_is_done_so_far(service: Service) -> None:
    spec = {"variants": 1, "name": "Knie", "output": {"include_originals": False}}
    path = f"/v1/jobs/{service.job(service.ready(2), **spec)['id']}/archive"
    assert "0% is done" in service.get(f"{path}?partial=1", 409)["detail"]
    service.do(1)
    service.get(path, 409)
    answer = service.client.get(path, params={"partial": True})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''Knie-expanded.partial.zip"
    assert not {"etag", "accept-ranges", "content-length"} & set(answer.headers)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        (row,) = (json.loads(line) for line in archive.read("manifest.jsonl").splitlines())
        assert sha256(archive.read(row["file"])) == row["sha256"]
        assert b"THIS ARCHIVE IS PARTIAL" in archive.read("README.txt")
        assert archive.testzip() is None
    head = service.client.head(path, params={"partial": True})
    assert (head.status_code, head.content) == (200, b"")


def test_once_there_is_an_archive_partial_makes_no_difference(service: Service, path: str) -> None:
    whole, partial = service.client.get(path), service.client.get(path, params={"partial": True})
    assert partial.content == ZIP
    assert partial.headers["etag"] == whole.headers["etag"]


def test_where_there_never_will_be_one_one_is_told_why(service: Service) -> None:
    none = f"/v1/jobs/{service.job(service.ready(2), variants=1)['id']}/archive"
    service.fail(2)
    assert "Its items: 2 failed" in service.get(none, 409)["detail"]
    broken = f"/v1/jobs/{service.job(service.ready(1), variants=1)['id']}/archive"
    service.do(1)
    service.pack(None)
    assert "The disk is full." in service.get(broken, 409)["detail"]
    for path in (none, broken):
        assert "retry-after" not in service.client.get(path).headers


def test_no_name_of_a_job_makes_a_file_name_that_does_harm(service: Service) -> None:
    dataset_id = service.ready(1)
    for name in ("../../etc/passwd", 'a"; filename="b', "a\r\nb", "...", "名前"):
        job = service.job(dataset_id, variants=1, name=name)
        service.do(1)
        service.pack(ZIP)
        told = service.client.get(f"/v1/jobs/{job['id']}/archive").headers["content-disposition"]
        _, _, file = told.removeprefix("attachment; ").partition("=")
        file = file.removeprefix("utf-8''").strip('"')
        assert file.endswith(".zip")
        assert not file.startswith(".")
        assert not set(file) & set('/\\"\r\n;')


def test_an_archive_that_was_pruned_is_built_again_for_who_asks(service: Service, path: str) -> None:
    job = path.removesuffix("/archive")
    etag = service.client.get(path).headers["etag"]
    with service.sessions.write() as session:
        assert archives.prune(session, -60) == 1
    gone = {"state": "pruned", "bytes": None, "sha256": None, "error": None}
    assert service.get(job)["archive"] == service.get(job)["archive"] | gone
    service.hints.clear()
    assert service.client.head(path).status_code == 409
    assert service.get(job)["archive"]["state"] == "pruned", "HEAD only asks"
    assert not service.hints
    answer = service.client.get(path, params={"partial": 1})
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    assert "being built again" in answer.json()["detail"]
    assert service.hints == [Task.ARCHIVE]
    assert service.get(job)["archive"]["state"] == "building"
    service.pack(ZIP)
    answer = service.client.get(path)
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (200, ZIP, etag)
