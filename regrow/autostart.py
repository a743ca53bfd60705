"""Have `regrow serve` started with the machine: by the user's own systemd where one answers, else by cron."""

import getpass
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from regrow.outcome import Exit, fail

app = typer.Typer(help="Have the service started with the machine.", no_args_is_help=True)

_UNIT = "regrow.service"
_MARK = "# regrow autostart"
_NOTHING = "Nothing starts Regrow with this machine."
_CARRIED = frozenset({"REGROW_DATA", "REGROW_SERVER"})

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")]


@dataclass(frozen=True, slots=True)
class Start:
    """What is to be started, and in which folder: that of `.env`."""

    folder: Path
    data: Path
    command: tuple[str, ...]


@app.command()
def install(
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTIONS]", help="Further options of `regrow serve`, after --.")
    ] = None,
    *,
    data: Annotated[
        Path, typer.Option(metavar="FOLDER", envvar="REGROW_DATA", help="The data folder of the service.")
    ] = Path("data"),
    dry_run: DryRun = False,
) -> None:
    """Start the service with the machine, in the present folder: what `.env` there says holds. Says by what."""
    where = data.absolute()
    command = (sys.executable, "-m", "regrow", "serve", "--data", str(where), *(options or ()))
    start = Start(Path.cwd(), where, command)
    if any("\n" in part for part in (str(start.folder), *command)):
        fail(Exit.USAGE, "A path or an option with a line break in it cannot be written down.")
    if _systemd_answers():
        _install_unit(start, dry_run)
    elif shutil.which("crontab"):
        _install_line(start, dry_run)
    else:
        said = shlex.join(command)
        fail(
            Exit.UNEXPECTED,
            "No systemd of yours answers here (systemctl --user), and there is no cron (crontab). Have this started by "
            f"whatever starts programs on this machine, in {start.folder}:\n  {said}",
        )
    if only_here := sorted(n for n in os.environ if n.startswith("REGROW_") and n not in _CARRIED):
        typer.echo(f"Not carried over, write them into {start.folder / '.env'}: {', '.join(only_here)}", err=True)


@app.command()
def remove(dry_run: DryRun = False) -> None:
    """Start the service with the machine no longer. One that runs goes on."""
    lines = _cron_lines()
    rest = [line for line in lines if not line.endswith(_MARK)]
    unit = _unit_path()
    if rest == lines and not unit.is_file():
        print(_NOTHING)
    if unit.is_file():
        _systemctl(["disable", _UNIT], dry_run)
        print(f"{'Would remove' if dry_run else 'Removed'} {unit}")
        if not dry_run:
            unit.unlink()
            _systemctl(["daemon-reload"], dry_run)
    if rest != lines:
        print(f"{'Would remove' if dry_run else 'Removed'} the line in your crontab")
        if not dry_run:
            _write_cron(rest)


@app.command()
def status() -> None:
    """Say whether, and by what, the service is started with the machine."""
    found = list(_found())
    print("\n".join(found) if found else _NOTHING)


def _found() -> Iterator[str]:
    unit = _unit_path()
    if unit.is_file():
        if _systemd_answers():
            states = [_ask("systemctl", "--user", what, _UNIT).stdout.strip() for what in ("is-enabled", "is-active")]
            yield f"systemd: {unit} ({', '.join(filter(None, states))})"
            yield from _lingering()
        else:
            yield f"systemd: {unit}, but no systemd of yours answers here"
    yield from (f"cron: {line}" for line in _cron_lines() if line.endswith(_MARK))


def _install_unit(start: Start, dry_run: bool) -> None:
    path, text = _unit_path(), unit_text(start)
    if dry_run:
        print(f"Would write {path}:\n{text}")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"Installed for systemd: {path}")
    _systemctl(["daemon-reload"], dry_run)
    _systemctl(["enable", _UNIT], dry_run)
    print(f"To start it now: systemctl --user start {_UNIT}")
    for line in _lingering():
        print(line)


def _install_line(start: Start, dry_run: bool) -> None:
    line = cron_line(start)
    rest = [each for each in _cron_lines() if not each.endswith(_MARK)]
    if dry_run:
        print(f"Would add to your crontab:\n{line}")
        return
    _write_cron([*rest, line])
    print(
        f"Installed for cron (no systemd of yours answers here): it starts with the machine and is not watched.\n{line}"
    )


def unit_text(start: Start) -> str:
    """The systemd unit."""
    command = " ".join(map(_for_systemd, start.command))
    return f"""# Written by `regrow autostart install`; `regrow autostart remove` takes it away.
[Unit]
Description=Regrow

[Service]
WorkingDirectory={str(start.folder).replace("%", "%%")}
ExecStart={command}
# 2: it cannot be served like this, and will not be the next time either.
Restart=on-failure
RestartPreventExitStatus=2
RestartSec=10
# It ends what it has started itself.
KillMode=mixed
TimeoutStopSec=60

[Install]
WantedBy=default.target
"""


def cron_line(start: Start) -> str:
    """The crontab's line."""
    folder, logs = shlex.quote(str(start.folder)), start.data / "logs"
    to = shlex.quote(str(logs / "serve.log"))
    line = f"cd {folder} && mkdir -p {shlex.quote(str(logs))} && exec {shlex.join(start.command)} >> {to} 2>&1"
    # To cron a % ends the command.
    return f"@reboot {line.replace('%', chr(92) + '%')} {_MARK}"


def _for_systemd(argument: str) -> str:
    for sign, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        argument = argument.replace(sign, written)
    return f'"{argument}"'


def _lingering() -> Iterator[str]:
    """What is to be said where the user's systemd runs only while they are logged in."""
    if (
        shutil.which("loginctl")
        and "Linger=yes" in _ask("loginctl", "show-user", getpass.getuser(), "-p", "Linger").stdout
    ):
        return
    yield "It starts when you log in. To have it start with the machine: loginctl enable-linger"


def _systemd_answers() -> bool:
    return shutil.which("systemctl") is not None and _ask("systemctl", "--user", "show-environment").returncode == 0


def _systemctl(arguments: Sequence[str], dry_run: bool) -> None:
    if dry_run:
        print(f"Would run systemctl --user {shlex.join(arguments)}")
        return
    done = _ask("systemctl", "--user", *arguments)
    if done.returncode != 0:
        typer.echo(f"systemctl --user {shlex.join(arguments)}: {done.stderr.strip()}", err=True)


def _unit_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "systemd" / "user" / _UNIT


def _cron_lines() -> list[str]:
    """The user's crontab; empty where there is none."""
    if not shutil.which("crontab"):
        return []
    done = _ask("crontab", "-l")
    if done.returncode != 0 and "no crontab" not in done.stderr:
        # What cannot be read must not be replaced.
        fail(Exit.UNEXPECTED, f"Your crontab cannot be read: {done.stderr.strip()}")
    return done.stdout.splitlines() if done.returncode == 0 else []


def _write_cron(lines: Sequence[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(["crontab", "-"], input=text, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        fail(Exit.UNEXPECTED, f"Your crontab was not changed: {done.stderr.strip()}")


def _ask(*command: str) -> "subprocess.CompletedProcess[str]":
    # Its words are looked for.
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
