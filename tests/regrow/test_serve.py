"""`regrow serve` with its real processes."""

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from alembic import command
from typer.testing import CliRunner

import regrow
from migrations import config
from regrow import cli, local, preconditions, processes
from regrow.preconditions import Address
from regrow.processes import Processes
from shared import keys
from shared.settings import Settings

pytestmark = pytest.mark.slow

ROOT = Path(regrow.__file__).parents[1]
ONE_SAMPLER = {"REGROW_DEVICE": "cpu", "REGROW_SAMPLERS": "1"}
"""For those that are to be there soon, whatever they could do."""


@dataclass
class Served:
    """A `regrow serve` and what it says."""

    launcher: "subprocess.Popen[bytes]"
    data: Path
    port: int
    console: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        return self.console.read_text()

    def ours(self, word: str = "") -> list[psutil.Process]:
        return ours(self.data, word)

    def of_group(self, name: str) -> psutil.Process:
        """The worker of that queue: the leader of its process group."""
        (leader,) = [process for process in self.ours(f"-Q {name}") if os.getpgid(process.pid) == process.pid]
        return leader


@contextlib.contextmanager
def started(folder: Path, *arguments: str, **environ: str) -> Iterator[Served]:
    """A `regrow serve`; whatever a failing test leaves of it is killed in the end."""
    data, port, console = folder / "data", free_port(), folder / "console"
    command = [sys.executable, "-m", "regrow", "serve", "--port", str(port), "--data", str(data), *arguments]
    with console.open("wb") as file:
        there = os.environ | environ
        launcher = subprocess.Popen(command, cwd=ROOT, env=there, stdout=file, stderr=file, process_group=0)
    try:
        yield Served(launcher, data, port, console)
    finally:
        launcher.kill()
        launcher.wait()
        for process in ours(data):
            process.kill()


def refused(folder: Path, *arguments: str, **environ: str) -> str:
    """What `regrow serve` says, which must end with 2 before it starts anything."""
    ran = CliRunner().invoke(cli.app, ["serve", "--data", str(folder), *arguments], env=environ)
    assert ran.exit_code == 2, ran.output
    return ran.stderr


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with started(tmp_path_factory.mktemp("a folder with spaces")) as made:
        until(lambda: "ready\n" in made.said() or made.launcher.poll() is not None, 300, "ready")
        yield made


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Served]:
    """One that has just been started."""
    with started(tmp_path, **ONE_SAMPLER) as made:
        yield made


def test_it_says_where_it_is_on_which_device_and_when_it_is_ready(served):
    assert re.search(rf"Regrow is at {served.url} \(data: {re.escape(str(served.data))}, device: \w+", served.said())
    assert httpx.get(f"{served.url}/healthz", timeout=60).json() == {"status": "ok"}
    assert httpx.get(f"{served.url}/readyz", timeout=60).json()["ready"] is True
    assert len(served.ours("valkey-server")) == 1


def test_only_the_api_listens_and_only_on_this_machine(served):
    listening = [
        connection.laddr
        for process in [psutil.Process(served.launcher.pid), *served.ours()]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", served.port)]


def test_each_process_has_a_log(served):
    logs = {path.stem: path.stat().st_size for path in (served.data / "logs").iterdir()}
    assert set(logs) == {"api", "cpu", "gpu", "sweep", "broker", "guard"}
    assert min(logs[name] for name in ("api", "cpu", "gpu", "broker")) > 0
    assert logs["guard"] == 0


def test_a_second_one_on_the_same_folder_is_refused_by_name(served):
    said = refused(served.data, "--port", str(free_port()))
    assert str(served.data) in said
    assert f"process {served.launcher.pid}" in said
    assert httpx.get(f"{served.url}/readyz", timeout=60).status_code == 200


def test_a_worker_that_is_killed_comes_back_and_leaves_nothing_behind(served):
    worker = served.of_group("cpu")
    family = [worker, *worker.children(recursive=True)]
    worker.kill()
    until(lambda: "cpu was ended by SIGKILL" in served.said(), 60, "it is noticed")
    until(lambda: len([p for p in served.ours("-Q cpu") if p.pid != worker.pid]) > 0, 60, "a new one is there")
    assert [process for process in family if process.is_running()] == []
    assert served.of_group("gpu").is_running()


def test_a_broker_that_is_killed_comes_back_at_the_same_address(served):
    (broker,) = served.ours("valkey-server")
    broker.kill()

    def answers() -> bool:
        return httpx.get(f"{served.url}/readyz", timeout=60).json()["parts"]["broker"] == "ok"

    until(lambda: served.ours("valkey-server") not in ([], [broker]) and answers(), 60, "the broker answers")


def test_ctrl_c_reaches_the_launcher_alone_which_ends_all_in_order(served):
    sockets = socket_folder(served)
    # What a terminal does: it signals the whole foreground group.
    os.killpg(served.launcher.pid, signal.SIGINT)
    assert served.launcher.wait(60) == 0
    assert served.ours() == []
    assert not sockets.exists()
    assert "was killed" not in served.said()
    assert served.said().count("is started again") == 2  # the two killed above
    with preconditions.locked(served.data):
        pass


def test_a_start_can_be_broken_off(starting):
    until(lambda: "Logs are in" in starting.said(), 60, "it starts")
    starting.launcher.send_signal(signal.SIGTERM)
    assert starting.launcher.wait(60) == 0
    assert starting.ours() == []


def test_a_terminal_that_is_closed_ends_it_in_order(tmp_path):
    data = tmp_path / "data"
    command = [sys.executable, "-m", "regrow", "serve", "--port", str(free_port()), "--data", str(data)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as launcher:
        assert launcher.stdout.readline().startswith(b"Logs are in")
        launcher.stdout.close()
        launcher.send_signal(signal.SIGHUP)
        assert launcher.wait(60) == 0
        assert launcher.stderr.read() == b""
    assert ours(data) == []


def test_nothing_survives_a_killed_launcher_even_if_its_guard_was_replaced(starting):
    until(lambda: len({os.getpgid(p.pid) for p in starting.ours("celery")}) == 2, 60, "its workers are there")
    (guard,) = starting.ours("regrow.guard")
    guard.kill()
    until(lambda: [p.pid for p in starting.ours("regrow.guard")] not in ([], [guard.pid]), 60, "a new guard is there")
    sockets = socket_folder(starting)
    assert sockets.is_dir()
    starting.launcher.kill()
    starting.launcher.wait()
    with pytest.raises(preconditions.Refused), preconditions.locked(starting.data):
        pytest.fail("the folder was given away while some of its processes were still there")
    until(lambda: starting.ours() == [], 60, "all are gone")
    assert not sockets.exists()
    with preconditions.locked(starting.data):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", "127.0.0.2"])  # noqa: S104  (to be refused)
def test_an_address_others_can_reach_is_refused_without_a_key_before_anything_is_started(tmp_path, host):
    data = tmp_path / "data of mine"
    with pytest.raises(preconditions.Refused, match=r"regrow keys create .* --data '.*data of mine'"):
        local.serve(Address(host, free_port()), data, pytest.fail)
    assert not data.exists()


def test_only_a_key_that_counts_opens_an_address_to_others(tmp_path):
    settings = Settings(data=tmp_path, _env_file=None)
    with local.database(settings, print) as sessions:
        for way in ("none", "expired", "revoked"):
            with pytest.raises(preconditions.Refused, match="there is none"):
                preconditions.check_key(settings)
            with sessions.write() as session:
                made, _ = keys.create(session, "knee", way)
                if way == "revoked":
                    keys.revoke(session, made.id)
                else:
                    made.expires_at = 1.0
        with pytest.raises(preconditions.Refused, match="there is none"):
            preconditions.check_key(settings)
        with sessions.write() as session:
            keys.create(session, "knee", "anna")
    preconditions.check_key(settings)


def test_a_database_older_than_keys_has_none(tmp_path):
    settings = Settings(data=tmp_path, _env_file=None)
    with local.database(settings, print) as sessions, sessions.engine.begin() as connection:
        command.downgrade(config(connection), "0006")
    with pytest.raises(preconditions.Refused, match="there is none"):
        preconditions.check_key(settings)
    (tmp_path / "regrow.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(preconditions.Refused, match="cannot be used"):
        preconditions.check_key(settings)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, by nobody."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    asked = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    asked += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(asked, check=True, capture_output=True)
    return cert, key


def test_a_certificate_and_key_that_do_not_go_together_are_refused(tmp_path, certificate):
    cert, key = certificate
    (tmp_path / "rubbish.pem").write_text("rubbish")
    locked = tmp_path / "locked.pem"
    asked = ["openssl", "rsa", "-aes256", "-passout", "pass:x", "-in", str(key), "-out", str(locked)]
    subprocess.run(asked, check=True, capture_output=True)
    for wrong in (
        (cert, cert),
        (key, cert),
        (cert, tmp_path / "rubbish.pem"),
        (cert, tmp_path / "none"),
        (cert, locked),
    ):
        with pytest.raises(preconditions.Refused, match="no certificate and its key"):
            preconditions.check_tls(wrong)
    preconditions.check_tls(certificate)
    assert "go together" in refused(tmp_path / "data", "--tls-cert", str(cert))


def test_with_a_key_it_serves_all_addresses_under_tls_and_lets_nobody_in_without(tmp_path, certificate):
    settings = Settings(data=tmp_path / "data", _env_file=None)
    with local.database(settings, print) as sessions, sessions.write() as session:
        _, key = keys.create(session, "knee", "anna")
    files = ["--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1])]
    with started(tmp_path, "--host", "0.0.0.0", *files, **ONE_SAMPLER) as served:  # noqa: S104  (that is what is tested)
        url = f"https://127.0.0.1:{served.port}"
        until(lambda: "Regrow is at https://0.0.0.0" in served.said() or served.launcher.poll() is not None, 300, "up")
        context = ssl.create_default_context(cafile=certificate[0])
        with httpx.Client(base_url=url, verify=context, trust_env=False, timeout=60) as client:
            assert client.get("/v1/session").status_code == 401
            asked = {"Authorization": f"Bearer {key}"}
            assert client.get("/v1/session", headers=asked).json() == {"project": "knee", "name": "anna"}
            assert client.post("/v1/session", json={"key": key}).headers["set-cookie"].endswith("; Secure")
        served.launcher.send_signal(signal.SIGTERM)
        assert served.launcher.wait(60) == 0


def test_refusals_end_with_2_and_leave_nothing_behind(tmp_path):
    data = tmp_path / "data"
    assert "needs a key" in refused(data, "--host", "0.0.0.0")  # noqa: S104  (to be refused)
    assert "needs a key" in refused(data, "--require-key")
    assert "needs a key" in refused(data, REGROW_REQUIRE_KEY="true")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in refused(data, "--port", port)
    assert "REGROW_THREADS" in refused(data, REGROW_THREADS="many")
    assert not data.exists()


def test_a_device_that_is_not_there_is_refused_before_anything_else_is_started(tmp_path):
    command = [sys.executable, "-m", "regrow", "serve", "--data", str(tmp_path / "data"), "--port", str(free_port())]
    there = os.environ | {"REGROW_DEVICE": "cuda:99"}
    ran = subprocess.run(command, cwd=ROOT, env=there, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "REGROW_DEVICE=cpu" in ran.stderr
    assert not (tmp_path / "data" / "regrow.db").exists()
    assert ours(tmp_path / "data") == []


class TestProcesses:
    """The keeper of processes, with small ones."""

    @pytest.fixture
    def kept(self, tmp_path: Path) -> Iterator[tuple[Processes, list[str]]]:
        said: list[str] = []
        logs = tmp_path / "logs"
        logs.mkdir()
        with (tmp_path / "lock").open("w") as lock:
            made = Processes(
                os.environ | {"PYTHONPATH": str(ROOT)}, logs, tmp_path / "none", lock.fileno(), said.append
            )
            yield made, said
            made.stop(["one"], 0.5, lambda: False)
            made.close()

    def test_the_pause_before_a_restart_grows(self, kept, tmp_path):
        made, said = kept
        made.start("one", [sys.executable, "-c", "raise SystemExit(7)"], tmp_path)
        until(lambda: made.tend() or len(said) == 3, 60, "it has ended three times")
        assert [re.findall(r"code (\d+) .* in ([\d.]+) s", line)[0] for line in said] == [
            ("7", "0.5"),
            ("7", "1"),
            ("7", "2"),
        ]

    def test_the_pause_is_short_again_after_a_good_run(self, kept, tmp_path, monkeypatch):
        monkeypatch.setattr(processes, "STEADY", 0.2)
        made, said = kept
        made.start("one", [sys.executable, "-c", "import time; time.sleep(0.3)"], tmp_path)
        until(lambda: made.tend() or len(said) == 2, 60, "it has ended twice")
        assert all("in 0.5 s" in line for line in said)

    def test_what_does_not_end_when_asked_is_killed_with_all_it_started(self, kept, tmp_path):
        made, said = kept
        stubborn = "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        code = stubborn + "subprocess.Popen(['sleep', '1000']); open('up', 'w').close(); time.sleep(1000)"
        made.start("one", [sys.executable, "-c", code], tmp_path)
        until((tmp_path / "up").exists, 60, "it runs")
        family = psutil.Process().children(recursive=True)
        stubborn_ones = [process for process in family if "sleep" in " ".join(process.cmdline())]
        assert len(stubborn_ones) == 2
        made.stop(["one"], 0.3, lambda: False)
        until(lambda: not any(map(alive, stubborn_ones)), 60, "both are gone")
        assert said == ["one did not end in time and was killed"]


def ours(data: Path, word: str = "") -> list[psutil.Process]:
    """The processes that run in a data folder, with `word` in their command line: all but the launcher."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(data) and word in " ".join(process.cmdline()):
                found.append(process)
    return found


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def until(true: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def socket_folder(served: Served) -> Path:
    """The private folder of the broker's socket, which the guard knows."""
    return Path(served.ours("regrow.guard")[0].cmdline()[-1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
