"""What is refused before any route sees it."""

import select
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import httpx
import pytest
from service import MAX_UPLOAD, Service

from api.guards import LOOPBACK, BodyLimit, Hosts


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8000"]
)
def test_the_machine_itself_is_answered_by_each_of_its_names(host: str) -> None:
    for origin in ([], [(b"origin", f"http://{host}".encode())]):
        assert _run(Hosts(_answers, LOOPBACK), headers=origin, hosts=[host])[0]["status"] == 204


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evil@localhost",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "[::1",
        "::1",
        "localhost:80:80",
        "localhost:x",
        "",
    ],
)
def test_another_name_for_this_machine_is_refused(host: str) -> None:
    head, body = _run(Hosts(_never, LOOPBACK), hosts=[host])
    assert head["status"] == 403
    assert b"answers on 127.0.0.1, [::1], localhost only" in body["body"]


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example:8000",
        "null",
        "http://127.0.0.1",
        "http://localhost:8000",
        "file://",
    ],
)
def test_a_page_of_another_site_is_refused(origin: str) -> None:
    app = Hosts(_never, LOOPBACK)
    head, body = _run(app, headers=[(b"origin", origin.encode())], hosts=["127.0.0.1:8000"])
    assert head["status"] == 403
    assert f"page of '{origin}'".encode() in body["body"]


def test_the_service_refuses_what_another_site_sends(service: Service) -> None:
    files = {"file": ("a.zip", b"zip")}
    for foreign in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        answer = service.client.post("/v1/datasets", files=files, headers=foreign)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert service.hints == []
    assert service.get("/v1/datasets")["items"] == []


def test_two_hosts_or_none_are_refused() -> None:
    for hosts in ([], ["localhost", "localhost"]):
        assert _run(Hosts(_never, LOOPBACK), hosts=hosts)[0]["status"] == 403


def test_other_names_are_answered_where_they_are_allowed() -> None:
    assert _run(Hosts(_answers, {"lab"}), hosts=["lab:8000"])[0]["status"] == 204


def test_an_upload_without_end_is_cut_off_at_the_limit(service: Service) -> None:
    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield start
        while sent < 2**23:
            sent += 2**16
            yield bytes(2**16)
        pytest.fail("it was read on and on")

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    head, *_ = _run(service.client.app, endless(), "/v1/datasets", headers)
    assert head["status"] == 413
    assert sent <= MAX_UPLOAD + 2**20 + 2**17
    assert not list(service.storage.root.rglob("*.part"))


def test_a_body_that_says_it_is_too_large_is_not_read(service: Service) -> None:
    def untouched() -> Iterator[bytes]:
        pytest.fail("it was read")
        yield b""

    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"content-length", b"%d" % 2**40)]
    head, body, *_ = _run(service.client.app, untouched(), "/v1/datasets", headers)
    assert head["status"] == 413
    assert (b"content-type", b"application/problem+json") in head["headers"]
    assert b"larger than the 1,053,576 bytes" in body["body"]


def test_a_form_in_chunks_is_cut_off_where_the_limit_is(live: Service) -> None:
    url = httpx.URL(live.client.base_url)
    head = f"POST /v1/datasets HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nTransfer-Encoding: chunked\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'
    sent = 0
    with socket.create_connection((url.host, url.port), timeout=60) as connection:
        connection.sendall(head.encode() + b"%x\r\n%s\r\n" % (len(start), start))
        while not select.select([connection], [], [], 0)[0]:
            connection.sendall(b"10000\r\n%s\r\n" % bytes(2**16))
            sent += 2**16
            assert sent < 2**27, "it takes more and more"
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert not list(live.storage.root.rglob("*.part"))
    assert live.get("/v1/datasets")["items"] == []


def test_a_form_longer_than_it_says_is_no_upload(live: Service) -> None:
    url = httpx.URL(live.client.base_url)
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\nPK\r\n--x--\r\n'
    head = f"POST /v1/datasets HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nContent-Length: {len(form) - 20}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    with socket.create_connection((url.host, url.port), timeout=60) as connection:
        connection.sendall(head.encode() + form)
        assert connection.recv(100).startswith(b"HTTP/1.1 4")
    assert live.get("/v1/datasets")["items"] == []
    assert live.hints == []


def test_a_body_at_the_limit_is_read_whole() -> None:
    read = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        read.append((await receive())["body"] + (await receive())["body"])
        await send({"type": "http.response.start", "status": 204})

    _run(BodyLimit(app, most=1, others={"/large": 6}), iter([b"abc", b"def"]), "/large")
    assert read == [b"abcdef"]


async def _answers(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204})


async def _never(*_: Any) -> None:
    pytest.fail("it was answered")


def _run(
    app: Any,
    body: Iterator[bytes] = iter(()),  # noqa: B008  (empty)
    path: str = "/",
    headers: Sequence[tuple[bytes, bytes]] = (),
    hosts: Sequence[str] = ("127.0.0.1:8000",),
) -> list[dict[str, Any]]:
    """What an ASGI application sends for a request whose body comes in parts."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", host.encode()) for host in hosts] + [*headers],
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": next(body), "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    anyio.run(app, scope, receive, send)
    return sent
