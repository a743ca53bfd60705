"""What starts the service with the machine. Neither a user's systemd nor cron need be here: programs that only note
what they are told stand in for both, in a home of the test's own; what they were told to run is then run in earnest."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from regrow.cli import app

CRONTAB = """#!/bin/sh
if [ -f "$HOME/broken" ]; then echo "you may not" >&2; exit 1; fi
if [ "$1" = - ]; then exec cat > "$HOME/table"; fi
cat "$HOME/table" 2>/dev/null && exit
echo "no crontab for you" >&2
exit 1
"""
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$HOME/told"
case "$2" in is-enabled) echo enabled;; is-active) echo inactive;; esac
"""
SILENT_SYSTEMCTL = """#!/bin/sh
echo "Failed to connect to bus" >&2
exit 1
"""
LOGINCTL = """#!/bin/sh
echo Linger=$(cat "$HOME/linger" 2>/dev/null || echo no)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, a PATH with nothing but a shell's programs, and a project folder of an awkward name."""
    for name in [name for name in os.environ if name.startswith(("REGROW_", "XDG_"))]:
        monkeypatch.delenv(name)
    home, project = tmp_path / "home", tmp_path / "50% 'of' $HOME"
    home.mkdir()
    project.mkdir()
    (tmp_path / "bin").mkdir()
    for program in ("sh", "cat", "mkdir"):
        found = next(path for path in ("/bin", "/usr/bin") if (Path(path) / program).exists())
        (tmp_path / "bin" / program).symlink_to(Path(found) / program)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.chdir(project)
    return home


@pytest.fixture
def place(tmp_path: Path, home: Path) -> Callable[[str, str], None]:
    """Puts a program on the PATH."""

    def put(name: str, code: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(code)
        path.chmod(0o700)

    return put


Place = Callable[[str, str], None]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["autostart", *arguments])


def everything(home: Path) -> set[Path]:
    return {path for path in home.rglob("*") if path.is_file() and path.name != "told"}


def test_where_systemd_answers_a_unit_is_enabled_and_taken_away_again(home: Path, place: Place) -> None:
    place("systemctl", SYSTEMCTL)
    place("crontab", CRONTAB)
    place("loginctl", LOGINCTL)
    assert "Nothing starts Regrow" in run("status").output
    result = run("install", "--data", "my data", "--", "--port", "9000")
    assert result.exit_code == 0, result.output
    unit = home / ".config/systemd/user/regrow.service"
    assert f"Installed for systemd: {unit}" in result.output
    assert "loginctl enable-linger" in result.output
    assert everything(home) == {unit}, "and cron is left alone"
    assert (home / "told").read_text().splitlines()[-2:] == ["--user daemon-reload", "--user enable regrow.service"]
    assert f"systemd: {unit} (enabled, inactive)" in run("status").output

    (home / "linger").write_text("yes")
    assert "enable-linger" not in run("status").output
    said = run("remove").output
    assert "Removed" in said
    assert "Nothing" not in said
    assert not unit.exists()
    assert (home / "told").read_text().splitlines()[-2:] == ["--user disable regrow.service", "--user daemon-reload"]
    assert "Nothing starts Regrow" in run("remove").output


def test_the_unit_starts_what_was_asked_for_where_it_was_asked(home: Path, place: Place) -> None:
    place("systemctl", SYSTEMCTL)
    run("install", "--", "--help")
    lines = (home / ".config/systemd/user/regrow.service").read_text().splitlines()
    (folder,) = [line.removeprefix("WorkingDirectory=") for line in lines if line.startswith("WorkingDirectory=")]
    (command,) = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    # As systemd reads it: quoted words, in which %% is % and $$ is $.
    words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(command)]
    assert Path(folder.replace("%%", "%")) == Path.cwd()
    assert words == [sys.executable, "-m", "regrow", "serve", "--data", str(Path.cwd() / "data"), "--help"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout
    assert "Run the service on this machine" in said


def test_without_systemd_cron_starts_it_and_its_other_lines_stay(home: Path, place: Place) -> None:
    place("systemctl", SILENT_SYSTEMCTL)
    place("crontab", CRONTAB)
    (home / "table").write_text("0 5 * * * backup\n")
    result = run("install", "--", "--help")
    assert "no systemd of yours answers here" in result.output
    assert run("install", "--", "--help").exit_code == 0
    kept, line = (home / "table").read_text().splitlines()
    assert kept == "0 5 * * * backup"
    assert f"cron: {line}" in run("status").output
    # As cron does it: \\% is %, and what remains is for the shell, in a bare environment.
    assert line.startswith("@reboot ")
    command = line.removeprefix("@reboot ").replace("\\%", "%")
    bare = {"PATH": os.environ["PATH"], "HOME": "/", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(["sh", "-c", command], check=True, env=bare, cwd="/")
    assert "Run the service on this machine" in (Path("data") / "logs" / "serve.log").read_text()

    assert "Removed the line" in run("remove").output
    assert (home / "table").read_text() == "0 5 * * * backup\n"


def test_a_crontab_that_cannot_be_read_is_not_replaced(home: Path, place: Place) -> None:
    place("crontab", CRONTAB)
    (home / "table").write_text("0 5 * * * backup\n")
    (home / "broken").touch()
    for command in ("install", "remove", "status"):
        result = run(command)
        assert (result.exit_code, "you may not" in result.output) == (1, True)
    assert (home / "table").read_text() == "0 5 * * * backup\n"


def test_where_nothing_starts_programs_the_command_is_told(home: Path) -> None:
    result = run("install")
    assert result.exit_code == 1
    assert shlex.join([sys.executable, "-m", "regrow", "serve", "--data", str(Path.cwd() / "data")]) in result.output


@pytest.mark.parametrize("systemctl", [SYSTEMCTL, SILENT_SYSTEMCTL])
def test_a_dry_run_prints_and_changes_nothing(home: Path, place: Place, systemctl: str) -> None:
    place("systemctl", systemctl)
    place("crontab", CRONTAB)
    assert "Would" in run("install", "--dry-run").output
    assert everything(home) == set()
    run("install")
    before = {path: path.read_text() for path in everything(home)}
    assert len(before) == 1
    assert "Would remove" in run("remove", "--dry-run").output
    assert {path: path.read_text() for path in everything(home)} == before


def test_settings_of_the_shell_alone_are_named(home: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place("crontab", CRONTAB)
    monkeypatch.setenv("REGROW_DEVICE", "cuda")
    monkeypatch.setenv("REGROW_DATA", "elsewhere")
    result = run("install")
    assert "Not carried over" in result.output
    assert "REGROW_DEVICE" in result.output
    assert str(Path.cwd() / "elsewhere") in (home / "table").read_text().replace("\\%", "%").replace("'\"'\"'", "'")
