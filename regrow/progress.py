"""How far things are: bars on a terminal, now and then a line where there is none. On standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from regrow.answers import Fetch, Job, Training, Wait

T = TypeVar("T", Fetch, Job, Training)

_LINE_EVERY = 0.1
_WAITS: dict[Wait, str] = {
    "engine_changed": "it was made for another engine: regrow resume {id} --finish-with-new, or --restart",
    "prior_changed": "it was made for another prior: regrow resume {id} --finish-with-new, or --restart",
    "prior_gone": "its prior was deleted",
    "no_worker": "no worker is there",
    "no_gpu": "the worker waits for its GPU",
    "storage_low": "the server waits for free space",
    "storage_away": "the server waits for its storage",
}
"""What a job waits for, in words."""


def console() -> Console:
    """Standard error; user's names are shown as they are."""
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def transfer(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows bytes: call it with those done and those there are, 0 if that is not known."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@contextmanager
def checking() -> Iterator[None]:
    """Shows that a dataset is being checked."""
    with console().status("checking the dataset"):
        yield


@contextmanager
def expansion() -> Iterator[Callable[[Job], None]]:
    """Shows a job: call it with each answer."""
    shown = console()
    if not shown.is_terminal:

        def told(job: Job) -> None:
            shown.print(f"{_doing(job)}: {job['progress']:.0%}, {said(job)}")

        yield _tenths(told)
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), console=shown
    ) as bar:
        task = bar.add_task("regrowing", total=1.0, said="")
        yield lambda job: bar.update(task, completed=job["progress"], said=said(job), description=_doing(job))


@contextmanager
def training() -> Iterator[Callable[[Training], None]]:
    """Shows a training: call it with each answer."""
    shown = console()
    if not shown.is_terminal:

        def told(answer: Training) -> None:
            shown.print(f"training: {answer['progress']:.0%}, {learned(answer)}")

        yield _tenths(told)
        return
    with Progress(TextColumn("training"), BarColumn(), TextColumn("{task.fields[said]}"), console=shown) as bar:
        task = bar.add_task("", total=1.0, said="")
        yield lambda answer: bar.update(task, completed=answer["progress"], said=learned(answer))


@contextmanager
def fetching() -> Iterator[Callable[[Fetch], None]]:
    """Shows a fetch: call it with each answer."""
    shown = console()
    if not shown.is_terminal:
        yield _tenths(lambda answer: shown.print(f"fetching: {answer['progress']:.0%}, {brought(answer)}"))
        return
    columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=shown) as bar:
        task = bar.add_task("", total=None, said="")
        yield lambda answer: bar.update(
            task, completed=answer["received"], total=answer["bytes"] or None, said=brought(answer)
        )


def brought(fetch: Fetch) -> str:
    """How far a fetch is, on one line: `812 MB of 4.3 GB`."""
    parts = [f"{size(fetch['received'])} of {size(fetch['bytes'])}"] if fetch["bytes"] else ["waiting"]
    if fetch["state"] == "running" and fetch["stage"] == "check":
        parts.append("it is read once")
    if fetch["state"] == "pending" and fetch["error"] is not None:
        parts.append(f"tried again soon: {fetch['error']['detail']}")
    if fetch["waits_for"] is not None:
        parts.append(_WAITS[fetch["waits_for"]].format(id=fetch["id"]))
    return ", ".join(parts)


def learned(training: Training) -> str:
    """A training's numbers on one line: `denoiser, step 1200 of 16000, loss 0.113, 3 h 20 min left`."""
    parts = [training["stage"], f"step {training['step']} of {training['steps']}"] if training["steps"] else ["waiting"]
    if training["loss"] is not None:
        parts.append(f"loss {training['loss']:.3g}")
    if training["eta_seconds"] is not None:
        parts.append(f"{duration(training['eta_seconds'])} left")
    if training["waits_for"] is not None:
        parts.append(_WAITS[training["waits_for"]].format(id=training["id"]))
    return ", ".join(parts)


def said(job: Job) -> str:
    """A job's numbers on one line: `12 of 40 images, 1 failed, 0.52 images/s, 1 min left`."""
    counts = job["counts"]
    parts = [f"{counts.get('done', 0)} of {job['total']} images"]
    if job["reused"]:
        parts[0] += f" ({job['reused']} reused)"
    if counts.get("failed"):
        parts.append(f"{counts['failed']} failed")
    if job["items_per_second"]:
        parts.append(f"{job['items_per_second']:.2g} images/s")
    if job["eta_seconds"] is not None:
        parts.append(f"{duration(job['eta_seconds'])} left")
    if job["waits_for"] is not None:
        parts.append(_WAITS[job["waits_for"]].format(id=job["id"]))
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes as `812 B`, `3.4 MB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _tenths(show: Callable[[T], None]) -> Callable[[T], None]:
    """Shows an answer each time another tenth of it is done."""
    due = 0.0

    def shown(answer: T) -> None:
        nonlocal due
        if answer["progress"] >= due:
            show(answer)
            due = answer["progress"] + _LINE_EVERY

    return shown


def _doing(job: Job) -> str:
    if job["archive"] and job["archive"]["state"] == "building":
        return "packing"
    return "waiting" if job["state"] == "queued" else "regrowing"
