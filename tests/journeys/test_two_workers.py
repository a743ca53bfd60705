"""Several workers on one job, on PostgreSQL and Redis, and what is left of a job whose workers all die at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Site
from live import until
from sqlalchemy import func, select

from samples.phantoms import write_dataset
from shared.models import Job
from shared.states import ItemState
from worker.priors.diffusers import BUILTIN

pytestmark = pytest.mark.slow


QUICK = {"variants": 3, "sampler": {"steps": 12, "finish": 1}, "canvas": {"long_side": 64}}


@pytest.fixture
def site(tmp_path: Path, postgres_url: str, redis_url: str) -> Iterator[Site]:
    made = Site(tmp_path, postgres_url, redis_url)
    made.register("builtin", BUILTIN)
    yield made
    made.end()


@pytest.fixture
def dataset(site: Site, tmp_path: Path) -> str:
    write_dataset(tmp_path / "phantoms.zip", images=8, seed=2, size=(90, 110))
    site.fleet.worker("cpu", "cpu")
    return site.upload(tmp_path / "phantoms.zip")


def test_two_workers_share_a_job_and_a_massacre_loses_nothing(site: Site, dataset: str) -> None:
    fleet = [site.fleet.worker("gpu", name) for name in ("one", "two")]
    site.fleet.sweep()
    until(lambda: site.gpu_workers() == 2, 180, "both workers are up")
    shared_job = site.start(dataset, **QUICK)
    until(lambda: site.done(shared_job) == 18, 300, "every item is done")
    made = site.items(shared_job)
    assert len({item.worker for item in made}) == 2
    assert all((item.attempts, item.lapses) == (0, 0) for item in made)

    # The same request again, so that what comes out can be compared; now everybody dies in the middle.
    killed_job = site.start(dataset, **QUICK)
    until(lambda: site.done(killed_job) >= 3, 180, "some items are done")
    for worker in fleet:
        site.fleet.kill(worker)
    before = site.items(killed_job)
    assert {item.state for item in before} >= {ItemState.DONE, ItemState.PENDING}
    # The dead hold what they had until their leases lapse; only the living can be told to end.
    dead = {item.worker for item in made}
    third, _ = site.fleet.worker("gpu", "three"), site.fleet.worker("gpu", "four")
    until(lambda: len(site.at_work(killed_job) - dead) == 2, 180, "two new workers are at it")
    site.fleet.ask_to_end(third)
    assert len(site.at_work(killed_job) - dead) <= 1, "what a worker held that was told to end is still held"
    until(lambda: site.done(killed_job) == 18, 300, "every item is done after all")
    after = {item.id: item for item in site.items(killed_job)}
    for item in before:
        if item.state == ItemState.DONE:
            assert after[item.id].result_key == item.result_key, "a finished item was made again"
    assert all(item.attempts == 0 for item in after.values())

    assert site.hashes(killed_job) == site.hashes(shared_job)
    with site.archive(shared_job) as undisturbed, site.archive(killed_job) as killed:
        names = undisturbed.namelist()
        assert killed.namelist() == names
        assert len(names) == len(set(names))
        for name in names:
            if name not in ("manifest.jsonl", "report.html", "methods.md"):
                assert killed.read(name) == undisturbed.read(name), name
        assert sum(name.startswith("images/") for name in names) == 8 + 18
        assert len(killed.read("manifest.jsonl").splitlines()) == 18
    with site.sessions.read() as session:
        assert session.scalar(select(func.count()).select_from(Job).where(Job.finished_at.is_(None))) == 0
