"""A webhook on its way: to a real receiver, which checks its signature."""

import datetime
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from receiver import SECRET, Receiver, receiving
from sqlalchemy import select, update

from shared import jobs
from shared.db import Sessions, now
from shared.models import Dataset, Job, Webhook
from shared.settings import Settings
from worker import webhook
from worker.webhook import Resolve, deliver_next

LOOPBACK = "127.0.0.0/8"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made
        assert made.bad == []


def signing(tmp_path: Path, **more: Any) -> Settings:
    return Settings(data=tmp_path, _env_file=None, **{"webhook_secret": SECRET, "webhook_networks": LOOPBACK, **more})


def over(sessions: Sessions, url: str) -> str:
    """A job that has ended, of which `url` is to be told."""
    with sessions.write() as session:
        session.add(dataset := Dataset(owner="local", name="set"))
        session.flush()
        session.add(job := Job(owner="local", dataset_id=dataset.id, name="", spec={}, resolved={}, webhook=url))
    with sessions.write() as session:
        assert jobs.conclude(session) == [job.id]
    return job.id


def deliver(sessions: Sessions, settings: Settings, resolve: Resolve = webhook.resolve) -> Webhook:
    """An attempt, whose time is brought on; what became of it."""
    with sessions.write() as session:
        session.execute(update(Webhook).values(next_at=now() - 1))
    assert deliver_next(settings, sessions, resolve)
    with sessions.read() as session:
        return session.scalars(select(Webhook)).one()


def test_it_is_signed_and_tried_again_until_it_is_taken(local: Sessions, tmp_path: Path, receiver: Receiver) -> None:
    job_id = over(local, receiver.url)
    receiver.answers = [500, 429]
    for attempts, error in ((1, "The answer was 500."), (2, "The answer was 429.")):
        row = deliver(local, signing(tmp_path))
        assert (row.state, row.attempts, row.error) == ("pending", attempts, error)
        assert not deliver_next(signing(tmp_path), local), "its time has not come"
    row = deliver(local, signing(tmp_path))
    assert (row.state, row.attempts, row.error) == ("delivered", 3, None)
    assert not deliver_next(signing(tmp_path), local)
    assert [came["id"] for came in receiver.came] == [row.id] * 3
    first, *others = receiver.came
    assert others == [first] * 2
    assert first["path"] == "/hook?who=lab"
    assert first["host"] == f"127.0.0.1:{receiver.port}"
    assert first["body"]["data"]["job"] == job_id


def test_an_installation_names_its_own_receiver(local: Sessions, tmp_path: Path, receiver: Receiver) -> None:
    over(local, "")
    assert deliver(local, signing(tmp_path, webhook_url=receiver.url)).state == "delivered"
    over_again = over(local, "")
    with local.write() as session:
        session.execute(update(Webhook).where(Webhook.job_id != over_again).values(state="failed"))
    assert deliver_next(signing(tmp_path), local)
    with local.read() as session:
        row = session.get_one(Webhook, over_again)
    assert (row.state, row.error) == ("failed", "REGROW_WEBHOOK_URL or REGROW_WEBHOOK_SECRET is not set any more.")
    assert len(receiver.came) == 1


@pytest.mark.parametrize("status", [301, 307, 404])
def test_no_redirect_is_followed(local: Sessions, tmp_path: Path, receiver: Receiver, status: int) -> None:
    over(local, receiver.url)
    receiver.answers = [status]
    assert deliver(local, signing(tmp_path)).error == f"The answer was {status}."
    assert len(receiver.came) == 1


def test_who_says_that_he_is_gone_is_told_no_more(local: Sessions, tmp_path: Path, receiver: Receiver) -> None:
    over(local, receiver.url)
    receiver.answers = [410]
    assert deliver(local, signing(tmp_path)).state == "failed"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "2130706433", "0x7f.1"])  # noqa: S104
def test_this_machine_is_not_called_unless_that_is_allowed(
    local: Sessions, tmp_path: Path, receiver: Receiver, host: str
) -> None:
    over(local, f"http://{host}:{receiver.port}/")
    row = deliver(local, signing(tmp_path, webhook_networks=""))
    assert row.error is not None
    assert row.state == "failed" or "not known" in row.error
    assert receiver.came == []


def test_what_was_checked_is_called_whatever_the_name_means_by_then(
    local: Sessions, tmp_path: Path, receiver: Receiver
) -> None:
    over(local, f"http://rebind.example:{receiver.port}/")
    asked: list[tuple[str, int]] = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        # Asked a second time, it would lead elsewhere.
        return ["127.0.0.1"] if len(asked) == 1 else ["192.0.2.1"]

    assert deliver(local, signing(tmp_path), resolve).state == "delivered"
    assert asked == [("rebind.example", receiver.port)]
    assert receiver.came[0]["host"] == f"rebind.example:{receiver.port}"


def test_one_address_that_may_not_be_called_among_others_is_enough(
    local: Sessions, tmp_path: Path, receiver: Receiver
) -> None:
    over(local, f"http://mixed.example:{receiver.port}/")
    row = deliver(local, signing(tmp_path), lambda host, port: ["127.0.0.1", "10.0.0.1"])
    assert row.state == "failed"
    assert receiver.came == []


def test_another_address_of_the_name_is_tried_where_nobody_listens(
    local: Sessions, tmp_path: Path, receiver: Receiver
) -> None:
    over(local, f"http://two.example:{receiver.port}/")
    assert deliver(local, signing(tmp_path), lambda host, port: ["127.0.0.9", "127.0.0.1"]).state == "delivered"


def test_a_proxy_of_the_environment_has_no_say(
    local: Sessions, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    over(local, receiver.url)
    assert deliver(local, signing(tmp_path)).state == "delivered"


def test_who_does_not_answer_is_asked_again_later(
    local: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as deaf:
        patch.setattr(webhook, "SECONDS", 0.3)
        port = deaf.getsockname()[1]
        over(local, f"http://127.0.0.1:{port}/")
        row = deliver(local, signing(tmp_path))
        assert row.state == "pending"
        assert (row.error or "").startswith("No answer came within")
    row = deliver(local, signing(tmp_path))
    assert (row.state, row.error) == ("pending", "No answer came (ConnectError).")


def test_a_name_that_nobody_knows_is_asked_for_again_later(local: Sessions, tmp_path: Path) -> None:
    over(local, "http://nowhere.invalid/")
    row = deliver(local, signing(tmp_path))
    assert (row.state, row.error) == ("pending", "The host's name is not known.")


def test_the_certificate_must_be_that_of_the_name(
    local: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certified(tmp_path, "lab.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiving(context) as receiver:
        for name, state, came in (("other.example", "pending", 0), ("lab.example", "delivered", 1)):
            over(local, f"https://{name}:{receiver.port}/")
            with local.write() as session:
                session.execute(update(Webhook).values(url=f"https://{name}:{receiver.port}/"))
            assert deliver_next(signing(tmp_path), local, lambda host, port: ["127.0.0.1"])
            with local.read() as session:
                assert state in session.scalars(select(Webhook.state)).all()
            assert len(receiver.came) == came


def certified(folder: Path, name: str) -> Path:
    """A file with a key and a certificate for a host, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    at = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - datetime.timedelta(hours=1))
        .not_valid_after(at + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
