"""The commands that look at a job and tell it what to do."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from regrow import DEFAULT_URL, report
from regrow.options import AsJson, JobId, Key, Server, Yes, deleted, printed, sure
from regrow.outcome import Exit, code, fail, going_on, talking

if TYPE_CHECKING:
    from regrow.answers import Job
    from regrow.client import Client


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (whoami, status, watch, cancel, pause, resume, retry, delete):
        app.command()(command)


def status(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Left out: all jobs.")] = None,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show all jobs, or one."""
    with talking(server, key) as regrow:
        if job is None:
            printed(list(regrow.jobs()), report.jobs, as_json)
            return
        found = regrow.job(job)
        failed = [] if as_json or not found["counts"].get("failed") else regrow.items(job, state="failed")
        printed(found, lambda answer: report.job(answer, failed), as_json)


def watch(job: JobId, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Wait until a job is over and its archive is packed, and show how far it is."""
    with talking(server, key) as regrow:
        found = regrow.job(job)
        with going_on("job", {"end": f"cancel {job}"}, server):
            found = wait(regrow, found)
        failed = [] if as_json or not found["counts"].get("failed") else regrow.items(job, state="failed")
        printed(found, lambda answer: report.job(answer, failed), as_json)
    raise typer.Exit(code(found))


def wait(regrow: "Client", job: "Job") -> "Job":
    """The job when it is over; shows how far it is meanwhile."""
    from regrow import progress

    with progress.expansion() as shown:
        return regrow.wait_job(job["id"], on_poll=shown)


def whoami(server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Tell whose the key is, and which project it is for."""
    with talking(server, key) as regrow:
        printed(regrow.who(), lambda who: f"{who['name']} in project {who['project']}", as_json)


def cancel(job: JobId, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """End a job. What is done is packed and can be downloaded; `retry` takes it back."""
    _tell(server, key, lambda regrow: regrow.cancel(job), as_json)


def pause(job: JobId, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Let workers take nothing more of a job. What they are at is finished."""
    _tell(server, key, lambda regrow: regrow.pause(job), as_json)


def resume(
    job: JobId,
    *,
    finish_with_new: Annotated[
        bool, typer.Option("--finish-with-new", help="After an upgrade: keep what is done, make the rest anew.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="After an upgrade: make all images again with the new engine.")
    ] = False,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Let a paused job go on, or one that waits because it was made for an earlier engine or prior."""
    if finish_with_new and restart:
        fail(Exit.USAGE, "Choose one of --finish-with-new and --restart.")

    def go_on(regrow: "Client") -> "Job":
        if finish_with_new or restart:
            regrow.upgrade(job, "remake" if restart else "keep")
        return regrow.resume(job)

    _tell(server, key, go_on, as_json)


def retry(job: JobId, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Try again what failed or was cancelled. What is done stays."""
    _tell(server, key, lambda regrow: regrow.retry(job), as_json)


def delete(
    job: JobId,
    yes: Yes = False,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Remove a job with its images and archive, for good. The dataset stays."""
    with talking(server, key) as regrow:
        found = regrow.job(job)
        made = found["counts"].get("done", 0)
        sure(f"Delete job {found['name']} ({found['state']}) and its {made} images?", yes)
        regrow.delete_job(job)
        deleted(job, as_json)


def _tell(server: str, key: str | None, what: "Callable[[Client], Job]", as_json: bool) -> None:
    with talking(server, key) as regrow:
        printed(what(regrow), lambda answer: report.job(answer, []), as_json)
