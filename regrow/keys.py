"""The commands for keys, which the operator runs where the service runs: they open its database themselves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.options import AsJson, Data, seconds
from regrow.outcome import Exit, fail, service_installed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from shared.models import ApiKey

app = typer.Typer(
    help="Make, list and revoke keys, on the machine that the service runs on.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command()
def create(
    project: Annotated[
        str,
        typer.Option(
            help="Owns what is made with the key, and is seen by its keys alone. `local` is what is made without one."
        ),
    ],
    name: Annotated[str, typer.Option(help="The person or script it is for.")],
    expires: Annotated[str | None, typer.Option(metavar="TIME", help="12h, 90d, 4w; left out: never.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: this once, since only its hash is kept."""
    lifetime = None if expires is None else seconds(expires, "--expires", least=1)
    with _transaction(data) as session:
        from shared import keys

        row, key = keys.create(session, project, name, lifetime)
        session.refresh(row)
        said = _told(session, row)
    if as_json:
        print(json.dumps({**said, "key": key}, indent=2))
        return
    print(key)
    until = f", until {said['expires_at']}" if said["expires_at"] else ""
    typer.echo(
        f"For {name} in project {project}{until}. It is not shown again: keep it, as a password is kept.", err=True
    )


@app.command("list")
def list_keys(
    project: Annotated[str | None, typer.Option(help="Left out: all projects.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show whose keys there are, when each was last used, and whether it counts."""
    with _transaction(data) as session:
        from shared import keys

        found = [_told(session, row) for row in keys.listed(session, project)]
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(map(_line, found)) or "There are no keys yet: regrow keys create --project NAME --name WHO")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="As `regrow keys list` shows it.")],
    data: Data = None,
) -> None:
    """Let a key count no more, from the next request on."""
    with _transaction(data) as session:
        from shared import keys

        said = _told(session, keys.revoke(session, key))
    print(_line(said))


@contextmanager
def _transaction(data: Path | None) -> "Iterator[Session]":
    """A transaction on the service's database, brought to its newest form; what goes wrong ends the command."""
    with service_installed():
        from sqlalchemy.exc import DatabaseError

        from regrow import local
        from regrow.preconditions import Refused, read_settings
        from shared.errors import RegrowError
    try:
        with local.database(read_settings(data), _say) as sessions, sessions.write() as session:
            yield session
    except (Refused, RegrowError) as error:
        fail(Exit.USAGE, str(error))
    except DatabaseError as error:
        fail(Exit.UNEXPECTED, f"The database cannot be used: {error.orig}")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _told(session: "Session", row: "ApiKey") -> dict[str, Any]:
    from shared import keys

    times = {name: _time(getattr(row, name)) for name in ("created_at", "used_at", "expires_at", "revoked_at")}
    return {"id": row.id, "project": row.project, "name": row.name, "state": keys.state(session, row), **times}


def _line(said: dict[str, Any]) -> str:
    used = f"used {said['used_at']}" if said["used_at"] else "never used"
    ends = f", expires {said['expires_at']}" if said["expires_at"] and said["state"] == "valid" else ""
    return f"{said['id']}  {said['project']}  {said['name']}  {said['state']}  {used}{ends}"


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
