"""A worker whose GPU is not there, as it runs in earnest."""

from pathlib import Path

import pytest
from fleet import Fleet
from live import until

from shared import workers
from shared.db import Sessions
from shared.queue import Queue, Task, hinted, make_app, make_enqueue
from shared.states import Wait

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_worker_without_the_gpu_it_was_told_to_use_takes_no_hint_and_says_so(
    sessions: Sessions, tmp_path: Path, database_url: str, redis_url: str
) -> None:
    app = make_app(redis_url)
    make_enqueue(app)(Task.EXPAND)
    fleet = Fleet(tmp_path, database_url, redis_url)
    fleet.env["REGROW_DEVICE"] = "cuda:63"
    try:
        worker = fleet.worker("gpu", "blind")

        def says_so() -> bool:
            with sessions.read() as session:
                return workers.missing(session).get(Queue.GPU) == Wait.NO_GPU

        until(says_so, 120, "the worker says that it has no GPU")
        assert worker.poll() is None, "it stays, and looks again"
        assert hinted(app, Task.EXPAND), "the hint is left for a worker that can act on it"
        assert "cuda:63" in (tmp_path / "blind.log").read_text()
        fleet.ask_to_end(worker)
    finally:
        fleet.end()
