"""How far things are: bars on a terminal, now and then a line where there is none. On standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from regrow.answers import Job, Wait

_LINE_EVERY = 0.1
_WAITS: dict[Wait, str] = {
    "engine_changed": "it was made for another engine: regrow resume {id} --finish-with-new, or --restart",
    "prior_changed": "it was made for another prior: regrow resume {id} --finish-with-new, or --restart",
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
    """Shows bytes: call it with those done and those there are."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


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
        yield _Lines(shown)
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), console=shown
    ) as bar:
        task = bar.add_task("regrowing", total=1.0, said="")
        yield lambda job: bar.update(task, completed=job["progress"], said=said(job), description=_doing(job))


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


class _Lines:
    """Prints a job's numbers each time another tenth of it is done."""

    def __init__(self, shown: Console) -> None:
        self._shown, self._next = shown, 0.0

    def __call__(self, job: Job) -> None:
        if job["progress"] >= self._next:
            self._shown.print(f"{_doing(job)}: {job['progress']:.0%}, {said(job)}")
            self._next = job["progress"] + _LINE_EVERY


def _doing(job: Job) -> str:
    if job["archive"] and job["archive"]["state"] == "building":
        return "packing"
    return "waiting" if job["state"] == "queued" else "regrowing"
