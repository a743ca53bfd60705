"""Who is let in, and as whom."""

import socket
from pathlib import Path

import httpx
import pytest
from doors import Keyring, Make, app_client, bearer
from live import serving
from service import Service
from sqlalchemy import select
from starlette.testclient import TestClient

from api import auth
from api.main import create_app
from shared import keys
from shared.db import Sessions, now
from shared.models import ApiKey, SignIn
from shared.queue import Task
from shared.settings import Settings
from shared.storage import Folder

LAN = "http://10.1.2.3:8000"


@pytest.fixture
def make(sessions: Sessions, storage: Folder, hints: list[Task]) -> Make:
    """Makes a client of the API with some settings, at an address."""
    return lambda base_url="http://127.0.0.1:8000", **settings: app_client(
        sessions, storage, hints, base_url, **settings
    )


@pytest.fixture
def ring(sessions: Sessions) -> Keyring:
    return Keyring(sessions)


@pytest.fixture
def strict(make: Make) -> TestClient:
    """Where everybody needs a key."""
    return make(require_key=True)


def who(client: TestClient, **headers: str) -> tuple[int, object]:
    answer = client.get("/v1/session", headers=headers)
    return answer.status_code, answer.json() if answer.status_code == 200 else answer.json()["type"]


def signed_in(client: TestClient, key: str) -> str:
    answer = client.post("/v1/session", json={"key": key})
    assert answer.status_code == 200, answer.text
    return answer.headers["set-cookie"]


def test_a_key_says_who_asks_and_for_which_project(strict: TestClient, ring: Keyring) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert who(strict, Authorization=f"{scheme} {ring.make()}") == (200, {"project": "knee", "name": "anna"})


def test_this_machine_needs_no_key_unless_it_is_said_so(make: Make, strict: TestClient) -> None:
    local = {"project": "local", "name": "local"}
    for address in ("http://127.0.0.1:8000", "http://[::1]:8000"):
        assert who(make(address)) == (200, local)
    assert who(strict)[0] == 401


def test_a_key_counts_where_none_is_needed_and_a_wrong_one_is_not_passed_over(make: Make, ring: Keyring) -> None:
    assert who(make(), **bearer(ring.make())) == (200, {"project": "knee", "name": "anna"})
    assert who(make(), **bearer("rg_0"))[0] == 401


def test_whoever_comes_over_the_network_needs_a_key_whatever_host_is_said(make: Make, ring: Keyring) -> None:
    lan = make(LAN)
    assert who(lan, Host="localhost") == (401, "https://regrow.dev/problems/unauthorized")
    assert who(lan, Host="localhost", **bearer(ring.make()))[0] == 200


def test_the_address_is_that_of_the_socket(sessions: Sessions, storage: Folder, tmp_path: Path) -> None:
    app = create_app(Settings(data=tmp_path), sessions, storage, lambda task: None, lambda: None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    with serving(app, "0.0.0.0") as url:  # noqa: S104  (this is what is tested)
        port = httpx.URL(url).port
        with httpx.Client(trust_env=False, headers={"Host": "localhost"}) as client:
            assert client.get(f"http://127.0.0.1:{port}/v1/jobs").status_code == 200
            assert client.get(f"http://{address}:{port}/v1/jobs").status_code == 401


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto", "Via"])
def test_what_a_proxy_passes_on_is_not_this_machines(make: Make, header: str) -> None:
    assert who(make(), **{header: "127.0.0.1"})[0] == 401


def test_a_name_that_is_allowed_needs_a_key_and_others_are_refused(make: Make, ring: Keyring) -> None:
    client = make(hosts="Regrow.lab, other")
    assert who(client)[0] == 200
    assert who(client, Host="regrow.lab")[0] == 401
    assert who(client, Host="regrow.lab:443", **bearer(ring.make()))[0] == 200
    assert who(client, Host="evil.example", **bearer(ring.make()))[0] == 403
    assert who(make(require_key=True), Host="any.example", **bearer(ring.make()))[0] == 200
    assert who(make(require_key=True, hosts="other"), Host="any.example", **bearer(ring.make()))[0] == 403


@pytest.mark.parametrize("said", ["", "Bearer", "Bearer ", "Basic YTpi", "rg_1", "Bearer rg_1 rg_2", "Bearer é"])
def test_what_is_no_key_is_refused_with_a_challenge(make: Make, strict: TestClient, said: str) -> None:
    for client in (make(), strict):
        answer = client.get("/v1/jobs", headers={"Authorization": said.encode("latin-1")})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="regrow", error="invalid_token"'
        assert answer.headers["content-type"] == "application/problem+json"


def test_two_keys_are_one_too_many(strict: TestClient, ring: Keyring) -> None:
    headers = [("Authorization", f"Bearer {ring.make()}"), ("Authorization", f"Bearer {ring.make()}")]
    assert strict.get("/v1/jobs", headers=headers).status_code == 401


def test_nothing_of_a_body_is_read_without_a_key(strict: TestClient, hints: list[Task], storage: Folder) -> None:
    answer = strict.post("/v1/datasets", files={"file": ("a.zip", b"x" * 4000)})
    assert answer.status_code == 401
    assert strict.post("/v1/jobs", content=b"{", headers={"Content-Type": "application/json"}).status_code == 401
    assert hints == []


def test_use_of_a_key_is_noted_once_a_minute(strict: TestClient, ring: Keyring, sessions: Sessions) -> None:
    key = ring.make()

    def used() -> float | None:
        assert who(strict, **bearer(key))[0] == 200
        with sessions.read() as session:
            return session.scalar(select(ApiKey.used_at))

    first = used()
    assert first is not None
    assert used() == first
    ring.change(key, used_at=now() - 61)
    assert used() >= first


def test_a_database_that_is_away_is_no_wrong_key(service: Service, make: Make, ring: Keyring) -> None:
    strict, key = make(require_key=True), ring.make()
    with service.sessions.write() as session:
        session.connection().exec_driver_sql("DROP TABLE sign_in")
        session.connection().exec_driver_sql("DROP TABLE api_key")
    answer = strict.get("/v1/jobs", headers=bearer(key))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


class TestCookie:
    """A browser that is signed in."""

    def test_a_key_is_exchanged_for_a_cookie_that_says_the_same(self, strict: TestClient, ring: Keyring) -> None:
        key = ring.make()
        said = signed_in(strict, f" {key}\n")
        assert key not in said
        assert said.endswith("; HttpOnly; Max-Age=43200; Path=/; SameSite=lax")
        assert who(strict) == (200, {"project": "knee", "name": "anna"})

    def test_under_tls_it_is_secure(self, make: Make, ring: Keyring) -> None:
        said = signed_in(make("https://127.0.0.1:8000", require_key=True), ring.make())
        assert said.endswith("; Secure")

    def test_what_is_kept_of_it_is_a_hash(self, strict: TestClient, ring: Keyring, sessions: Sessions) -> None:
        token = signed_in(strict, ring.make()).partition("=")[2].partition(";")[0]
        with sessions.read() as session:
            kept = session.scalars(select(SignIn)).one()
        assert len(token) == 64
        assert token not in (kept.sha256, kept.key_id)

    def test_signing_out_ends_it_here_and_in_the_browser(self, strict: TestClient, ring: Keyring) -> None:
        token = signed_in(strict, ring.make()).partition("=")[2].partition(";")[0]
        answer = strict.delete("/v1/session", headers={"Origin": "http://127.0.0.1:8000"})
        assert answer.status_code == 204
        assert 'regrow_session=""; ' in answer.headers["set-cookie"]
        assert dict(strict.cookies) == {}
        strict.cookies.set(auth.COOKIE, token)
        assert who(strict)[0] == 401

    @pytest.mark.parametrize("end", ["revoke", "expire"])
    def test_it_ends_with_its_key_and_is_taken_back(self, make: Make, ring: Keyring, end: str) -> None:
        client, key = make(), ring.make()
        signed_in(client, key)
        if end == "revoke":
            with ring.sessions.write() as session:
                keys.revoke(session, key)
        else:
            ring.change(key, expires_at=now() - 1)
        assert who(client)[0] == 401
        # The next one comes from this machine without a key, as if nobody had ever signed in.
        assert who(client) == (200, {"project": "local", "name": "local"})

    @pytest.mark.parametrize("key", ["rg_0", "expired", "revoked"])
    def test_nobody_signs_in_with_a_key_that_does_not_count(self, strict: TestClient, ring: Keyring, key: str) -> None:
        given = getattr(ring, key)() if hasattr(ring, key) else key
        answer = strict.post("/v1/session", json={"key": given})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="regrow"')
        assert "set-cookie" not in answer.headers

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_a_change_must_come_from_a_page_of_this_service(
        self, strict: TestClient, ring: Keyring, method: str
    ) -> None:
        signed_in(strict, ring.make())
        path = "/v1/jobs/" + "0" * 32
        for foreign in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
            assert strict.request(method, path, headers=foreign).status_code == 403
        for foreign in ("http://evil.example", "null", "http://127.0.0.1:9"):
            headers = {"Origin": foreign, "Sec-Fetch-Site": "same-origin"}
            assert strict.request(method, path, headers=headers).status_code == 403
        for ours in ({"Origin": "http://127.0.0.1:8000"}, {"Sec-Fetch-Site": "same-origin"}):
            assert strict.request(method, path, headers=ours).status_code in (404, 405)

    def test_a_method_in_a_header_counts_as_that_method(self, strict: TestClient, ring: Keyring) -> None:
        signed_in(strict, ring.make())
        headers = {"X-HTTP-Method-Override": "DELETE", "Tus-Resumable": "1.0.0"}
        assert strict.get("/v1/uploads/" + "0" * 32, headers=headers).status_code == 403

    def test_a_key_beside_it_counts_and_needs_no_page(self, strict: TestClient, ring: Keyring) -> None:
        signed_in(strict, ring.make())
        other = bearer(ring.make("hand", "script"))
        assert who(strict, **other) == (200, {"project": "hand", "name": "script"})
        assert strict.delete("/v1/jobs/" + "0" * 32, headers=other).status_code == 404
