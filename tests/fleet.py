"""Our processes as they run in earnest: the API, Celery's parents and their spawned children, the sweep."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]

Process = subprocess.Popen[bytes]


def pool_of(parent: Process) -> list[psutil.Process]:
    """The living children of Celery's parent that do its tasks."""
    found = []
    for child in psutil.Process(parent.pid).children():
        with suppress(psutil.Error):  # one that is gone by now, or not yet buried
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


class Fleet:
    """Starts processes against one database, broker and folder, and ends them."""

    def __init__(self, data: Path, database_url: str, broker_url: str, **env: str) -> None:
        self.data = data
        self.env = os.environ | {
            "REGROW_DATA": str(data),
            "REGROW_DATABASE_URL": database_url,
            "REGROW_BROKER_URL": broker_url,
            "REGROW_THREADS": "1",
            "REGROW_LEASE_SECONDS": "4",
            "REGROW_RENEW_SECONDS": "1",
            "REGROW_SWEEP_SECONDS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            **env,
        }
        self.running: list[Process] = []

    def worker(self, queue: str, name: str, app: str = "worker.main", **env: str) -> Process:
        celery = ["-m", "celery", "-A", app, "worker", "-Q", queue, "--concurrency", "1", "--loglevel", "info"]
        return self._start([*celery, "-n", f"{name}@%h", "--without-gossip", "--without-mingle"], name, **env)

    def sweep(self) -> Process:
        return self._start(["-m", "worker.sweep"], "sweep")

    def api(self, port: int) -> Process:
        uvicorn = ["-m", "uvicorn", "--factory", "api.main:from_settings", "--port", str(port)]
        return self._start([*uvicorn, "--no-access-log"], "api")

    def kill(self, process: Process) -> None:
        """SIGKILL to a process and all it started."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def kill_alone(self, process: Process) -> None:
        """SIGKILL to a process and to nobody else."""
        process.kill()
        process.wait()
        self.running.remove(process)

    def ask_to_end(self, process: Process) -> None:
        """SIGTERM to Celery's parent, which ends, with its child, within ten seconds (and some for a busy host)."""
        process.terminate()
        process.wait(30)
        self.running.remove(process)

    def end(self) -> None:
        for process in list(self.running):
            self.kill(process)

    def _start(self, arguments: list[str], name: str, **env: str) -> Process:
        with (self.data / f"{name}.log").open("ab") as log:
            # A session of its own, so that it can be killed with its children, as when a machine dies.
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env=self.env | env,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )
        self.running.append(process)
        return process
