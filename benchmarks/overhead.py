"""How much of a worker's time passes outside the sampler."""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import func, select

import migrations
from benchmarks import ground
from benchmarks.sleeper import STEPS, SleepingPrior
from benchmarks.tables import table
from samples.phantoms import write_dataset
from shared import jobs, priors
from shared.db import Sessions
from shared.models import Dataset, Item
from shared.queue import Task, make_app, make_enqueue
from shared.settings import Settings
from shared.spec import ExpansionSpec
from shared.states import ItemState
from shared.storage import Folder, upload_key
from worker.ingest import check_next
from worker.priors.diffusers import BUILTIN

_SIZE = 373, 454
_SOURCES = 20


def measure(items: int, seconds: float, on_postgres: bool, server: str | None) -> None:
    """One real gpu worker makes `items` images of `seconds` each; the sampler sleeps, all else is real."""
    with TemporaryDirectory(prefix="regrow-bench-") as home:
        if on_postgres or server:
            with ground.postgres(server) as url:
                _run(url, Path(home), items, seconds)
        else:
            _run(f"sqlite:///{home}/regrow.db", Path(home), items, seconds)


def _run(url: str, folder: Path, items: int, seconds: float) -> None:
    with ground.broker(folder) as broker, ground.sessions(url) as sessions:
        migrations.upgrade(sessions.engine)
        _make_job(sessions, folder, items)
        env = ground.settings(folder, url, broker) | {"REGROW_BENCH_SECONDS": str(seconds), "REGROW_THREADS": "1"}
        argv = [sys.executable, "-m", "celery", "-A", "benchmarks.sleeper", "worker", "-Q", "gpu"]
        argv += ["--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        with ground.process("gpu", argv, env, folder):
            make_enqueue(make_app(broker))(Task.EXPAND)
            while _left(sessions):
                time.sleep(1)
        with sessions.read() as session:
            wall = session.execute(select(func.max(Item.settled_at) - func.min(Item.started_at))).scalar_one() or 0.0
            sampled = session.execute(select(func.sum(Item.seconds))).scalar_one() or 0.0
    # What an item sampled is noted to the millisecond, from before its first step to after its last.
    around, outside = f"{(wall - sampled) / items * 1e3:.1f}", f"{1 - sampled / wall:.2%}"
    table(
        ("items", "s each", "wall s", "in the sampler s", "ms around an item", "share outside"),
        [(items, seconds, f"{wall:.1f}", f"{sampled:.1f}", around, outside)],
    )


def _make_job(sessions: Sessions, folder: Path, items: int) -> None:
    settings, storage = Settings(data=folder, _env_file=None), Folder(folder / "storage")
    images = min(_SOURCES, items)
    archive = folder / "phantoms.zip"
    write_dataset(archive, images * 2, 1, _SIZE)
    with sessions.write() as session:
        builtin = priors.register(session, "builtin", BUILTIN)
        dataset = Dataset(owner="local", name="bench")
        session.add(dataset)
        session.flush()
        storage.write(upload_key(dataset.id), archive.read_bytes())
    check_next(settings, sessions, storage)
    wanted = {
        "dataset_id": dataset.id,
        "variants": -(-items // images),
        "max_images": images,
        "sampler": {"steps": STEPS},
        "canvas": {"long_side": SleepingPrior.native_size},
        "reuse": False,
    }
    with sessions.write() as session:
        jobs.create(session, "local", ExpansionSpec.model_validate(wanted), builtin, 10 * items)


def _left(sessions: Sessions) -> int:
    live = select(func.count()).where(Item.state.in_([ItemState.PENDING, ItemState.RUNNING]))
    with sessions.read() as session:
        return session.scalar(live) or 0
