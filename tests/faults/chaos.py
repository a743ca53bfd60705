"""Keeps jobs running and kills, at random, whatever keeps them running: `make chaos`, or `make chaos KILLS=1000`.

After each job the law is checked that the tests check (see `law`). The end is a table of figures, and exit code 1 if
anything was lost or there twice.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

# Run as a script, only this file's own folder is on the path.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import law
import pytest
from fleet import Process, pool_of
from live import free_port
from sqlalchemy import select
from stage import SPEC, Stage, open_stage

from regrow.client import Client
from regrow.errors import ClientError
from shared.models import Job

GPU = ("one", "two")
PAUSE = 0.5, 5.0
"""Seconds between two kills, drawn evenly: from less than a worker needs to start, to a few items."""
OVER = ("succeeded", "completed_with_errors", "failed")


class Chaos:
    """Everything that runs, and one way for each kind to die and be there again."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.random, self.port = stage, random.Random(seed), free_port()
        self.kills: Counter[str] = Counter()
        self.died: Counter[str] = Counter()
        self.starts: dict[str, Callable[[], Process]] = {
            "cpu": stage.cpu,
            "sweep": stage.site.fleet.sweep,
            "api": lambda: stage.site.fleet.api(self.port),
            **{name: lambda name=name: stage.gpu(name) for name in GPU},
        }
        self.running = {name: start() for name, start in self.starts.items()}
        self.ways: dict[str, tuple[int, Callable[[], bool]]] = {
            "worker's child": (8, self.child),
            "worker's parent": (4, lambda: self.parent(self.random.choice([*GPU, "cpu"]))),
            "all workers": (1, self.all_workers),
            "sweep": (3, lambda: self.whole("sweep")),
            "API": (3, lambda: self.whole("api")),
            "Redis, its data lost": (4, self.redis),
            "PostgreSQL, immediate": (3, self.postgres),
        }

    def kill(self) -> None:
        """One kill, of a kind drawn by its weight; what was killed is started again at once."""
        kinds = list(self.ways)
        (kind,) = self.random.choices(kinds, [self.ways[kind][0] for kind in kinds])
        self.kills[kind] += self.ways[kind][1]()

    def child(self) -> bool:
        children = pool_of(self.running[self.random.choice(GPU)])
        for child in children:
            child.kill()
        return bool(children)

    def parent(self, name: str) -> bool:
        self.stage.site.fleet.kill_alone(self.running[name])
        self.running[name] = self.starts[name]()
        return True

    def whole(self, name: str) -> bool:
        self.stage.site.fleet.kill(self.running[name])
        self.running[name] = self.starts[name]()
        return True

    def all_workers(self) -> bool:
        for name in (*GPU, "cpu"):
            self.whole(name)
        return True

    def redis(self) -> bool:
        self.stage.redis.kill()
        self.stage.redis.start()
        return True

    def postgres(self) -> bool:
        self.stage.postgres.stop_at_once()
        self.stage.postgres.start()
        return True

    def mourn(self) -> None:
        """Start again what ended by itself, and count it: nothing may."""
        for name, process in self.running.items():
            if process.poll() is not None:
                self.died[name] += 1
                self.whole(name)


class Jobs:
    """One job after the other, made and watched over HTTP by a client that bears with whatever is away."""

    def __init__(self, stage: Stage, client: Client) -> None:
        self._stage, self._client = stage, client
        self._now: str | None = None

    def go_on(self) -> None:
        """Make the next job if the present one is over."""
        with suppress(ClientError):
            if self._now is None or self._client.job(self._now)["state"] in OVER:
                self._now = self._client.create_job({"dataset_id": self._stage.dataset, **SPEC, "reuse": False})["id"]

    def all(self) -> list[str]:
        """Also those that were made although the client got no answer."""
        with self._stage.site.sessions.read() as session:
            return list(session.scalars(select(Job.id).order_by(Job.created_at)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description="Kill at random, and see whether anything is lost.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the choice of what is killed when")
    options = parser.parse_args()
    home = mkdtemp(prefix="regrow-chaos-")
    with open_stage(Path(home)) as stage:
        print(f"{options.kills} kills, seed {options.seed}; logs are in {home}", flush=True)
        chaos = Chaos(stage, options.seed)
        stage.prepare()
        started = time.monotonic()
        with Client(f"http://127.0.0.1:{chaos.port}", timeout=5.0) as client:
            jobs = Jobs(stage, client)
            while chaos.kills.total() < options.kills:
                jobs.go_on()
                time.sleep(chaos.random.uniform(*PAUSE))
                chaos.mourn()
                chaos.kill()
            made = jobs.all()
        broken = judge(stage, made)
        report(stage, chaos, made, broken, time.monotonic() - started)
    return 1 if broken or chaos.died else 0


def judge(stage: Stage, made: list[str]) -> dict[str, str]:
    """The jobs that do not keep the law, once all are over, and how."""
    broken = {}
    for job in made:
        try:
            stage.check(job)
        except (AssertionError, pytest.fail.Exception) as error:
            broken[job] = str(error)
    return broken


def report(stage: Stage, chaos: Chaos, made: list[str], broken: dict[str, str], seconds: float) -> None:
    items = [item for job in made for item in stage.site.items(job)]
    images = [images_of(stage, job) for job in made]
    wanted = len(made) * len(stage.undisturbed.items)
    rows = {
        **{f"killed: {kind}": chaos.kills[kind] for kind in chaos.ways},
        "kills": chaos.kills.total(),
        **{f"ended by itself: {name}": count for name, count in chaos.died.items()},
        "jobs": len(made),
        "items": len(items),
        "lapsed leases": sum(item.lapses for item in items),
        "most lapses of one item": max(item.lapses for item in items),
        "attempts spent": sum(item.attempts for item in items),
        "minutes": round(seconds / 60, 1),
        "images lost": wanted - sum(len(set(each)) for each in images),
        "images twice": sum(len(each) - len(set(each)) for each in images),
        "jobs that differ from an undisturbed one": len(broken),
    }
    for what, count in rows.items():
        print(f"{what:42} {count}", flush=True)
    for job, how in broken.items():
        print(f"job {job}: {how}", flush=True)


def images_of(stage: Stage, job: str) -> list[law.Key]:
    """The new images in a job's archive; none if there is no such archive."""
    try:
        return law.images(stage.site, job)
    except (AssertionError, pytest.fail.Exception):
        return []


if __name__ == "__main__":
    sys.exit(main())
