"""What a play of faults needs: servers that can be killed, an installation on them, a tiny prior, a small dataset."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import law
import psutil
import pytest
from faulty import Orders
from fleet import Process
from installation import Site
from live import until
from servers import Postgres, Redis
from sqlalchemy import select
from tiny_prior import write_tiny_prior

from migrations import upgrade
from samples.phantoms import write_dataset
from shared.models import Dataset, Item, Prior
from shared.states import ItemState

HERE = Path(__file__).parent
TESTS = HERE.parent
SPEC = {"prior": "tiny", "variants": 2, "sampler": {"steps": 5, "enter": 1, "finish": 1}, "canvas": {"long_side": 32}}
SLOW = 0.25
"""Seconds a step, so that what dies dies in the middle of an item."""


@dataclass
class Stage:
    """All of it; the actors are started by `site.fleet`. `seeds` and `keys` are those of the items of every job."""

    home: Path
    postgres: Postgres
    redis: Redis
    site: Site
    orders: Orders

    def prepare(self) -> None:
        """Upload the dataset (a cpu worker must be there) and make the job that all others are compared with."""
        write_dataset(self.home / "phantoms.zip", images=4, seed=2, size=(64, 76))
        self.dataset = self.site.upload(self.home / "phantoms.zip")
        until(lambda: "tiny" in self.priors(), 180, "a gpu worker has registered the tiny prior")
        job = self.job()
        self.undisturbed = law.undisturbed(self.site, job)
        items = self.site.items(job)
        self.seeds = [item.seed for item in items]
        self.keys = [(item.image.path, item.variant) for item in items]

    def datasets(self) -> set[str]:
        with self.site.sessions.read() as session:
            return set(session.scalars(select(Dataset.id)))

    def priors(self) -> list[str]:
        with self.site.sessions.read() as session:
            return list(session.scalars(select(Prior.name)))

    def job(self) -> str:
        return self.site.start(self.dataset, **SPEC)

    def cpu(self) -> Process:
        return self.site.fleet.worker("cpu", "cpu", "faulty")

    def gpu(self, name: str, **env: str) -> Process:
        """A gpu worker that does what `orders` say."""
        return self.site.fleet.worker("gpu", name, "faulty", **env)

    def in_the_middle(self) -> tuple[str, Item]:
        """A new job, and an item of it that a worker is at, when some of the job is done."""
        for _ in range(10):  # on a busy machine one may be over before we have looked
            job, found = self.job(), []

            def there(job: str = job, found: list[Item] = found) -> bool:
                items = self.site.items(job)
                found[:] = [item for item in items if item.state == ItemState.RUNNING and item.step]
                done = sum(item.state == ItemState.DONE for item in items)
                return done == len(items) or (done > 0 and bool(found))

            until(there, 240, "a worker is in the middle of the job")
            if found:
                return job, found[0]
        pytest.fail("no job was seen in its middle")

    def frozen_in_the_middle(self) -> tuple[str, Item]:
        """The same, the worker's child stopped (SIGSTOP), so that it cannot be done before it is killed."""
        for _ in range(10):
            job, item = self.in_the_middle()
            with suppress(ProcessLookupError):
                os.kill(process_of(item), signal.SIGSTOP)
            if any((each.id, each.token) == (item.id, item.token) for each in self.site.items(job)):
                return job, item
            with suppress(ProcessLookupError):
                os.kill(process_of(item), signal.SIGCONT)
        pytest.fail("no worker could be stopped in the middle of an item")

    def check(self, job_id: str, failed: dict[law.Key, str] | None = None) -> None:
        law.check(self.site, job_id, self.undisturbed, failed)


def gone(process: int) -> bool:
    """Whether a process is dead, buried or not."""
    with suppress(psutil.Error):
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    return True


def process_of(item: Item) -> int:
    """Number of the pool's child that has an item."""
    return int((item.worker or "").rpartition(":")[2])


@contextmanager
def open_stage(home: Path, *, durable: bool = False) -> Iterator[Stage]:
    """Everything but our own processes runs. What `home` holds in the end, logs among it, stays."""
    data = home / "data"
    data.mkdir()
    # PostgreSQL may not enter pytest's own folders.
    with TemporaryDirectory(prefix="regrow-faults-") as server:
        postgres, redis = Postgres(Path(server), durable=durable), Redis(home)
        postgres.start()
        redis.start()
        write_tiny_prior(home / "priors" / "tiny", native_size=32)
        (home / "priors" / "broken").mkdir()  # which is to keep nobody from the other
        orders = Orders(home / "orders.json")
        orders.give(step=SLOW)
        site = Site(
            data,
            postgres.url,
            redis.url,
            REGROW_PRIORS=str(home / "priors"),
            REGROW_LEASE_SECONDS="4",
            REGROW_RENEW_SECONDS="0.5",
            REGROW_SWEEP_SECONDS="0.5",
            REGROW_MIN_FREE_GB="0",
            FAULTY_ORDERS=str(home / "orders.json"),
            PYTHONPATH=os.pathsep.join([str(TESTS.parent), str(HERE)]),
        )
        upgrade(site.sessions.engine)
        try:
            yield Stage(home, postgres, redis, site, orders)
        finally:
            site.end()
            redis.end()
            postgres.kill()
