"""The Celery application: `celery -A worker.main worker -Q gpu` (or `-Q cpu`). The workers' composition root.

The parent of a pool imports no torch. Its child, started afresh ("spawn", since CUDA does not survive a fork), makes
what the tasks need when it first needs it.
"""

import gc
import logging
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from billiard import active_children
from celery import Celery
from celery.signals import celeryd_after_setup, celeryd_init, setup_logging, worker_process_init, worker_shutting_down
from sqlalchemy.exc import OperationalError, SQLAlchemyError

import migrations
from shared import logs, priors, workers
from shared.bucket import make_storage
from shared.db import Sessions, make_sessions
from shared.errors import NotConfigured
from shared.figures import Meter
from shared.queue import Enqueue, Queue, make_app, make_enqueue
from shared.settings import Settings
from shared.states import Wait
from shared.storage import Storage

if TYPE_CHECKING:
    from worker.memory import Memory
    from worker.priors.arithmetic import Arithmetic
    from worker.priors.cache import PriorCache
    from worker.studio import Studio

log = logging.getLogger(__name__)

_QUEUES = "REGROW_WORKER_QUEUES"
_DEVICE_EVERY = 20.0


@dataclass(frozen=True)
class Bench:
    """What every worker process has at hand."""

    settings: Settings
    sessions: Sessions
    storage: Storage
    enqueue: Enqueue
    name: str

    def trouble(self) -> Wait | None:
        """What keeps this worker from taking work."""
        return self.storage.trouble(self.settings.min_free_bytes)


def create_worker(settings: Settings) -> Celery:
    """The application. Tasks carry nothing and give nothing back; a hint that is lost is sent again by the sweep."""
    return make_app(
        settings.broker_url.get_secret_value(),
        include=["worker.main", "worker.tasks"],
        worker_pool_start_method="spawn",
        # A busy worker must not sit on the next hint, which another could act on.
        worker_disable_prefetch=True,
        # A gpu child loads torch before it reports for work.
        worker_proc_alive_timeout=120.0,
    )


def __getattr__(name: str) -> Any:
    # `celery -A worker.main` asks for `app`; made here, so that importing this module does nothing.
    if name == "app":
        return create_worker(Settings())
    raise AttributeError(name)


@lru_cache
def bench() -> Bench:
    """This process's, from its environment."""
    settings = Settings()
    return Bench(
        settings=settings,
        sessions=make_sessions(settings.database),
        storage=make_storage(settings, may_make=False),
        enqueue=make_enqueue(make_app(settings.broker_url.get_secret_value())),
        name=f"{socket.gethostname()}:{os.getpid()}",
    )


@lru_cache
def meter() -> Meter:
    """This process's."""
    return Meter()


@lru_cache
def studio() -> "Studio":
    """A gpu worker's: loads torch, chooses the device (see worker.device for what it raises), registers the priors."""
    import torch

    from shared.spec import ENGINE_VERSION
    from worker import device
    from worker import memory as memories
    from worker.priors.diffusers import BUILTIN
    from worker.studio import Batches, Studio

    at = bench()
    chosen = device.choose(at.settings.device)
    torch.set_num_threads(at.settings.threads)
    arithmetic = device.arithmetic(chosen, at.settings)
    memory, reserve = memories.of(chosen), at.settings.gpu_reserve_bytes
    on_gpu = chosen.type != "cpu"
    parent = os.getppid()
    made = Studio(
        settings=at.settings,
        sessions=at.sessions,
        storage=at.storage,
        name=at.name,
        device=chosen,
        memory=memory,
        batches=Batches(at.settings.batch or 256, memory, reserve) if on_gpu else Batches(1),
        priors=_cache(arithmetic, memory, reserve),
        prior_folders=_register({**priors.installed(at.settings.priors), "builtin": BUILTIN}),
        made_by={
            "engine": ENGINE_VERSION,
            "regrow": version("regrow"),
            "torch": torch.__version__,
            "diffusers": version("diffusers"),
            "python": platform.python_version(),
            "device": device.describe(chosen),
            "threads": at.settings.threads,
            **arithmetic.described(),
        },
        # A spawned child outlives a parent that was killed, and would keep the GPU.
        stop=lambda: os.getppid() != parent,
        meter=meter(),
    )
    made.look_over_priors()
    # What torch and diffusers brought stays for good: to look through it for garbage took up to half a second a time.
    gc.freeze()
    return made


def _cache(arithmetic: "Arithmetic", memory: "Memory", reserve: int) -> "PriorCache":
    from worker.priors.cache import PriorCache
    from worker.priors.check import load_autoencoder
    from worker.priors.diffusers import load
    from worker.priors.files import size_in_memory

    return PriorCache(
        partial(load, arithmetic=arithmetic),
        partial(load_autoencoder, arithmetic=arithmetic),
        size=partial(size_in_memory, each=arithmetic.dtype.itemsize),
        memory=memory,
        reserve=reserve,
    )


def _register(folders: dict[str, Path]) -> dict[str, tuple[Path, str]]:
    """Make the priors in some folders known; folder and hash of each, by name. One that is broken stops no other."""
    known = {}
    for name, folder in folders.items():
        try:
            with bench().sessions.write() as session:
                known[name] = folder, priors.register(session, name, folder).sha256
        except NotConfigured as error:
            log.error("the prior %s is left out: %s", name, error.detail)  # noqa: TRY400  (a traceback says no more)
    return known


@setup_logging.connect
def _log_as_we_do(**_: Any) -> None:
    settings = Settings()
    logs.configure(f"worker {os.environ.get(_QUEUES, '')}".strip(), settings.log_format, settings.log_level)


@celeryd_after_setup.connect
def _children_too(**_: Any) -> None:
    # Else billiard writes of each child in a form of its own, before that can have ours.
    os.environ.pop("_MP_FORK_LOGLEVEL_", None)


@celeryd_init.connect
def _parent_starts(instance: Any, options: dict[str, Any], **_: Any) -> None:
    # Its banner is no line of a log.
    instance.quiet = True
    # Its children are told by their environment what they are for.
    os.environ[_QUEUES] = ",".join(options.get("queues") or list(Queue))
    _log_as_we_do()
    _check_form()
    if Queue.GPU in os.environ[_QUEUES].split(","):
        _await_device()


def _check_form() -> None:
    """End this process if the database is of another version; one that is away is asked again by each task."""
    try:
        migrations.check(bench().sessions.engine)
    except NotConfigured as error:
        log.critical("this worker cannot work: %s", error.detail)
        sys.exit(error.detail)
    except OperationalError as error:
        log.warning("the database is away, the first task will ask it again: %s", error)


def _await_device() -> None:
    """Wait for a GPU that was asked for and is not there. Nothing is taken from the queue meanwhile, and jobs say why.

    It is looked for in a process of its own: a parent with torch in it could not start children.
    """
    at = bench()
    if at.settings.device in ("auto", "cpu"):
        return
    while True:
        asked = subprocess.run([sys.executable, "-m", "worker.device"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return
        log.critical("this worker waits for its device: %s", asked.stderr.strip())
        try:
            with at.sessions.write() as session:
                workers.seen(session, at.name, os.environ[_QUEUES], at.settings.device, Wait.NO_GPU)
        except SQLAlchemyError as error:
            log.warning("no sign of life could be left: %s", error)
        time.sleep(_DEVICE_EVERY)


@worker_process_init.connect
def _child_starts(**_: Any) -> None:
    queues, described = os.environ[_QUEUES], "cpu"
    memory: Callable[[], tuple[int, int] | None] = _no_device
    if Queue.GPU in queues.split(","):
        from worker import device

        try:
            chosen = device.choose(bench().settings.device)
            described, memory = device.describe(chosen), partial(device.memory, chosen)
            # Here and not in a thread: torch's thread count belongs to the thread that sets it.
            studio()
        except NotConfigured as error:
            # A worker that stayed would take hints and do nothing with them.
            log.critical("this worker cannot work: %s", error.detail)
            os.kill(os.getppid(), signal.SIGTERM)
            return
        except SQLAlchemyError as error:
            log.warning("the database is away, its first task will ask it again: %s", error)
    threading.Thread(target=_show_life, args=(queues, described, memory), name="life", daemon=True).start()


@worker_shutting_down.connect
def _parent_stops(**_: Any) -> None:
    # Else it would wait for what they are at. In a child it raises SystemExit, and `expand` hands its items back.
    for child in active_children():
        os.kill(child.pid, signal.SIGTERM)


def _no_device() -> None:
    """A worker without one uses none of its memory."""


def _show_life(queues: str, device: str, memory: Callable[[], tuple[int, int] | None]) -> None:
    """Note every few seconds that this worker is there, and what it has counted, until the process ends."""
    at = bench()
    while True:
        try:
            with at.sessions.write() as session:
                workers.seen(session, at.name, queues, device, at.trouble(), meter().read(memory()))
        except SQLAlchemyError as error:
            log.warning("no sign of life could be left: %s", error)
        _clear_up()
        time.sleep(workers.SEEN_EVERY)


def _clear_up() -> None:
    # Made by the thread that works, or not at all.
    if not studio.cache_info().currsize:
        return
    try:
        studio().clear_up()
    except RuntimeError as error:
        # The device, which who works next will find out too. This thread has more to do.
        log.warning("what is loaded could not be let go: %s", error)
