"""How a command ends: its exit codes, and what it says when something went wrong."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperGroup

from regrow import DEFAULT_URL
from regrow.errors import ClientError, FolderError, ProblemError, Unreachable

if TYPE_CHECKING:
    from regrow.answers import Job
    from regrow.client import Client


class Exit(IntEnum):
    """What a command ends with."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    INCOMPLETE = 5
    UNWELL = 6
    INTERRUPTED = 130


class Commands(TyperGroup):
    """All of them, and what wrong usage is told: without the words that typer's validation puts before its own."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


def code(job: "Job") -> Exit:
    """How a command ends that has seen a job to its end."""
    whole = job["state"] == "succeeded" and job["archive"] is not None and job["archive"]["state"] == "ready"
    return Exit.OK if whole else Exit.INCOMPLETE


@contextmanager
def talking(server: str, key: str | None = None) -> "Iterator[Client]":
    """A client; what goes wrong is said in a sentence, and decides the exit code."""
    from regrow.client import Client

    try:
        with Client(server, key=key) as regrow:
            yield regrow
    except Unreachable as error:
        fail(Exit.UNREACHABLE, str(error))
    except ProblemError as error:
        advice = "\nA command takes its key from REGROW_KEY, or from --key." if error.status == 401 else ""
        fail(Exit.REFUSED if error.status < 500 else Exit.UNEXPECTED, f"{error}{advice}")
    except FolderError as error:
        fail(Exit.USAGE, str(error))
    except ClientError as error:
        fail(Exit.UNEXPECTED, str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(Exit.UNEXPECTED, f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "))


@contextmanager
def service_installed() -> Iterator[None]:
    """Around imports of what the service is made of: a machine that has only the client is told in a sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        fail(Exit.UNEXPECTED, f"{error.name} is missing: pip install 'regrow[api,worker]'")


@contextmanager
def going_on(what: str, hints: Mapping[str, str], server: str) -> Iterator[None]:
    """Tells who interrupts the waiting that the work itself goes on; `hints` are commands, by what they are for."""
    try:
        yield
    except KeyboardInterrupt:
        at = "" if server == DEFAULT_URL else f" --server {server}"
        lines = [f"To {aim}: regrow {command}{at}" for aim, command in hints.items()]
        fail(Exit.INTERRUPTED, "\n".join([f"\nThe {what} itself is not interrupted.", *lines]))


@contextmanager
def sending(path: Path) -> Iterator[None]:
    """Tells who interrupts a large upload that it can be gone on with."""
    from regrow import pieces

    try:
        yield
    except KeyboardInterrupt:
        if path.is_file() and path.stat().st_size < pieces.LARGE:
            raise
        fail(Exit.INTERRUPTED, "\nThe same command goes on where this one stopped.")


def fail(code: Exit, message: str) -> NoReturn:
    """Say why on standard error, and end."""
    typer.echo(message, err=True)
    raise typer.Exit(code)
