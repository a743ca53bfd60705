"""What the API promises of stored files, where they lie in a bucket."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cutter import Cutter, cutter
from fastapi import FastAPI
from servers import S3
from service import Service
from sqlalchemy import select
from starlette.testclient import TestClient
from test_upload_routes import FILE, TUS, add, announced, head, problem

from api.main import create_app
from regrow import Client
from regrow.errors import Damaged
from shared.bucket import Bucket
from shared.db import Sessions
from shared.models import Archive, Dataset
from shared.queue import Task
from shared.settings import Settings
from shared.storage import sha256, upload_key

ZIP = bytes(range(256)) * 10


@pytest.fixture
def line(s3: S3) -> Iterator[Cutter]:
    """Between us and the server."""
    with cutter(s3.port) as made:
        yield made


@pytest.fixture
def storage(line: Cutter, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
    return Bucket(s3_url, tmp_path / "spool", allow_http=True)


def packed(service: Service, data: bytes = ZIP) -> str:
    """A job that is done and has an archive."""
    job: str = service.job(service.ready(1), variants=1, name="Hände / 2. Serie")["id"]
    service.do(1)
    service.pack(None)
    with service.sessions.write() as session:
        archive = session.scalars(select(Archive).where(Archive.job_id == job)).one()
        archive.state, archive.error = "ready", None
        archive.key, archive.sha256, archive.size = f"archives/{job}-t.zip", sha256(data), len(data)
    with service.storage.writing(f"archives/{job}-t.zip", "Hände_2._Serie-expanded.zip") as file:
        file.write(data)
    return job


def test_an_archive_is_fetched_from_the_bucket_by_a_url_that_is_good_for_a_while(service: Service) -> None:
    path = f"/v1/jobs/{packed(service)}/archive"
    sent = service.client.get(path, follow_redirects=False)
    assert (sent.status_code, sent.content) == (307, b"")
    assert (sent.headers["etag"], sent.headers["cache-control"]) == (f'"{sha256(ZIP)}"', "no-store")
    assert "X-Amz-Expires=900" in sent.headers["location"]
    found = httpx.get(sent.headers["location"], headers={"Range": "bytes=1000-"}, trust_env=False)
    assert (found.status_code, found.content) == (206, ZIP[1000:])
    assert found.headers["content-type"] == "application/zip"
    assert found.headers["content-disposition"] == "attachment; filename*=utf-8''H%C3%A4nde_2._Serie-expanded.zip"


def test_head_and_who_has_it_already_need_no_bucket(service: Service, line: Cutter) -> None:
    path = f"/v1/jobs/{packed(service)}/archive"
    told = service.client.head(path)
    assert (told.status_code, told.headers["etag"]) == (200, f'"{sha256(ZIP)}"')
    assert told.headers["content-length"] == str(len(ZIP))
    line.away = True
    known = service.client.get(path, headers={"If-None-Match": told.headers["etag"]}, follow_redirects=False)
    assert known.status_code == 304


def test_the_client_goes_on_with_a_download_and_checks_what_came(live: Service, line: Cutter, tmp_path: Path) -> None:
    data = ZIP * 2000
    job = packed(live, data)
    part = tmp_path / f".a.zip.{sha256(data)[:16]}.part"
    part.write_bytes(data[:1_000_000])
    with Client(str(live.client.base_url)) as client:
        before, told = line.sent, list[tuple[int, int]]()
        client.download(job, tmp_path / "a.zip", lambda done, size: told.append((done, size)))
        assert (tmp_path / "a.zip").read_bytes() == data
        assert 1_000_000 < told[0][0] < len(data)
        assert told[-1] == (len(data), len(data))
        assert line.sent > before
        live.storage.write(f"archives/{job}-t.zip", b"x" * len(data))
        with pytest.raises(Damaged, match="SHA-256"):
            client.download(job, tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()


def test_pictures_come_through_the_api(service: Service) -> None:
    dataset = service.ready(1)
    (image,) = service.get(f"/v1/datasets/{dataset}/images")["items"]
    path = f"/v1/datasets/{dataset}/images/{image['id']}"
    whole = service.client.get(f"{path}/file")
    assert (whole.status_code, sha256(whole.content)) == (200, image["sha256"])
    assert whole.headers["content-type"] == "image/png"
    assert service.client.get(f"{path}/preview").status_code == 200


def test_an_upload_in_pieces_grows_here_and_is_whole_in_the_bucket(service: Service, tmp_path: Path) -> None:
    path = announced(service)
    assert add(service, path, 0, FILE[:1000]).status_code == 204
    upload = path.rpartition("/")[2]
    assert not service.storage.exists(upload_key(upload))
    assert add(service, path, 1000, FILE[1000:]).headers["regrow-dataset"] == f"/v1/datasets/{upload}"
    assert service.storage.read(upload_key(upload)) == FILE
    assert service.hints == [Task.INGEST]
    given_up = announced(service)
    add(service, given_up, 0, FILE[:1000])
    assert len(list((tmp_path / "spool").rglob("*.zip"))) == 1
    assert service.client.delete(given_up, headers=TUS).status_code == 204
    assert not list((tmp_path / "spool").rglob("*.zip"))


def test_pieces_that_lie_on_another_machine_are_not_taken_for_nothing(service: Service, tmp_path: Path) -> None:
    path = announced(service)
    add(service, path, 0, FILE[:1000])
    (tmp_path / "spool" / "pieces" / "uploads").rename(tmp_path / "elsewhere")
    status, slug, detail = problem(add(service, path, 1000, FILE[1000:]))
    assert (status, slug) == (410, "gone")
    assert "bytes were lost" in detail


def test_while_the_bucket_is_away_uploads_are_told_to_come_again_and_lose_nothing(
    service: Service, line: Cutter
) -> None:
    path = announced(service)
    add(service, path, 0, FILE[:1000])
    line.away = True
    for answer in (
        service.client.post("/v1/datasets", files={"file": ("a.zip", FILE)}),
        add(service, path, 1000, FILE[1000:]),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "storage does not answer" in problem(answer)[2]
    assert "cannot be written" in service.client.get("/readyz").json()["parts"]["storage"]
    with service.sessions.read() as session:
        assert not session.scalars(select(Dataset)).all()
    line.away = False
    assert head(service, path).headers["upload-offset"] == "1000"
    assert add(service, path, 1000, FILE[1000:]).status_code == 204
    assert service.storage.read(upload_key(path.rpartition("/")[2])) == FILE
    made = service.client.post("/v1/datasets", files={"file": ("a.zip", FILE)})
    assert service.storage.read(upload_key(made.json()["id"])) == FILE


@pytest.mark.usefixtures("make_app")
def test_what_passes_through_the_api_where_that_is_wished_is_the_same(
    sessions: Sessions, storage: Bucket, hints: list[Task], tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path, presigned_downloads=False, _env_file=None)
    app: FastAPI = create_app(settings, sessions, storage, hints.append, lambda: None, fresh=0.0)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        service = Service(client, sessions, storage, hints)
        data = ZIP * 2000
        path = f"/v1/jobs/{packed(service, data)}/archive"
        whole = client.get(path)
        assert (whole.status_code, whole.headers["etag"]) == (200, f'"{sha256(data)}"')
        assert whole.content == data
        assert whole.headers["content-disposition"] == "attachment; filename*=utf-8''H%C3%A4nde_2._Serie-expanded.zip"
        some = client.get(path, headers={"Range": "bytes=4194300-4194399", "If-Range": whole.headers["etag"]})
        assert (some.status_code, some.content) == (206, data[4194300:4194400])
        assert some.headers["content-range"] == f"bytes 4194300-4194399/{len(data)}"
        two = client.get(path, headers={"Range": "bytes=0-1,5000000-5000001"})
        assert data[:2] in two.content
        assert data[5_000_000:5_000_002] in two.content
        other = client.get(path, headers={"Range": "bytes=0-1", "If-Range": '"another"'})
        assert (other.status_code, len(other.content)) == (200, len(data))
        assert client.get(path, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
