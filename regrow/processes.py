"""A handful of processes that are kept alive, and ended together.

Each is the leader of a process group of its own, so that Ctrl-C at the terminal reaches only the launcher, and so
that what a process started itself is ended with it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from regrow import guard

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
STEADY = 60.0
"""Seconds after which a process counts as running well, and its next restart is quick again."""
_GROUP_GRACE = 10.0


@dataclass
class Child:
    """A process to be kept alive, and what is known of its present run."""

    name: str
    argv: Sequence[str]
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    died: float | None = None
    pause: float = FIRST_PAUSE


class Processes:
    """Starts processes, starts them again when they end, and ends them.

    Should this process be killed, a guard ends them (see `regrow.guard`).

    Args:
        env: their environment.
        logs: folder of their logs, one file each.
        guarded: a folder that the guard removes after them.
        hold: a file descriptor that the guard keeps open until the last of them is gone.
        say: told, in a sentence, what was done unasked.
    """

    def __init__(
        self, env: Mapping[str, str], logs: Path, guarded: Path, hold: int, say: Callable[[str], None]
    ) -> None:
        self._env, self._logs, self._guarded, self._hold, self._say = dict(env), logs, guarded, hold, say
        self._children: dict[str, Child] = {}
        self._guard = self._start_guard()

    def start(self, name: str, argv: Sequence[str], folder: Path) -> None:
        """Start a process in `folder`, and keep it alive from now on."""
        self._children[name] = child = Child(name, argv, folder)
        self._run(child)

    def tend(self) -> None:
        """Start again what has ended; to be called a few times a second."""
        if self._guard.poll() is not None:
            self._guard = self._start_guard()
        for child in self._children.values():
            if child.process is None or child.process.poll() is None:
                continue
            if child.died is None:
                self._mourn(child, child.process)
            elif self._may_restart(child, child.process.pid, child.died):
                self._tell_guard(f"-{child.process.pid}")
                self._run(child)

    def stop(self, names: Sequence[str], grace: float, hurry: Callable[[], bool]) -> None:
        """Ask some to end; kill what is left of them after `grace` seconds, or at once when `hurry` says so."""
        children = [self._children.pop(name) for name in names if name in self._children]
        ending = [(child.name, child.process) for child in children if child.process]
        for _, process in ending:
            process.terminate()
        until = time.monotonic() + grace
        while any(process.poll() is None for _, process in ending) and time.monotonic() < until and not hurry():
            time.sleep(0.05)
        for name, process in ending:
            if process.poll() is None:
                self._say(f"{name} did not end in time and was killed")
            guard.send(process.pid, signal.SIGKILL)
            process.wait()
            self._tell_guard(f"-{process.pid}")

    def close(self) -> None:
        """Dismiss the guard; everything was stopped before."""
        self._tell_guard("bye")
        if self._guard.stdin:
            self._guard.stdin.close()
        self._guard.wait()

    def _start_guard(self) -> "subprocess.Popen[bytes]":
        with self._log("guard") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "regrow.guard", str(self._guarded)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self._logs,
                pass_fds=(self._hold,),
                process_group=0,
            )
        groups = [child.process.pid for child in self._children.values() if child.process]
        _write(process, "".join(f"+{group}\n" for group in groups))
        return process

    def _tell_guard(self, word: str) -> None:
        _write(self._guard, f"{word}\n")

    def _run(self, child: Child) -> None:
        with self._log(child.name) as log:
            child.process = subprocess.Popen(
                child.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=child.folder,
                process_group=0,
            )
        self._tell_guard(f"+{child.process.pid}")
        child.started, child.died = time.monotonic(), None

    def _mourn(self, child: Child, process: "subprocess.Popen[bytes]") -> None:
        child.died = time.monotonic()
        lived = child.died - child.started
        if lived > STEADY:
            child.pause = FIRST_PAUSE
        # What it started itself can hand back its work and end.
        guard.send(process.pid, signal.SIGTERM)
        self._say(
            f"{child.name} {_how(process.returncode)} after {lived:.0f} s and is started again in {child.pause:g} s; "
            f"see {self._log_path(child.name)}"
        )

    def _may_restart(self, child: Child, group: int, died: float) -> bool:
        """Whether the pause is over, and nothing is left of the last run that could hold the GPU."""
        waited = time.monotonic() - died
        if waited < child.pause or (_anyone_in(group) and waited < child.pause + _GROUP_GRACE):
            return False
        guard.send(group, signal.SIGKILL)
        child.pause = min(child.pause * 2, LONGEST_PAUSE)
        return True

    def _log(self, name: str) -> BinaryIO:
        return self._log_path(name).open("ab")

    def _log_path(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def _write(guard_process: "subprocess.Popen[bytes]", text: str) -> None:
    # A guard that was killed is replaced, and told anew, when the processes are next tended.
    if guard_process.stdin:
        with contextlib.suppress(BrokenPipeError):
            guard_process.stdin.write(text.encode())
            guard_process.stdin.flush()


def _anyone_in(group: int) -> bool:
    """Whether anything is left in a process group whose leader is gone."""
    # As process 1 of a container we inherit orphans, and must collect them.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-group, os.WNOHANG)
    return guard.send(group, 0)


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
