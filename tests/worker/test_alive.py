"""A container's health check."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared import workers
from shared.db import Sessions, make_sessions
from shared.states import Wait
from worker import alive


@pytest.fixture
def here(tmp_path: Path, new_sqlite: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch) -> Sessions:
    """The database that the environment names, on a host named `two`."""
    url = new_sqlite(tmp_path / "regrow.db")
    monkeypatch.setenv("REGROW_DATABASE_URL", url)
    monkeypatch.setattr("socket.gethostname", lambda: "two")
    return make_sessions(url)


def test_only_a_worker_of_this_machine_that_was_seen_lately_is_well(
    here: Sessions, capsys: pytest.CaptureFixture[str]
) -> None:
    with here.write() as session:
        workers.seen(session, "one:7", "gpu", "cpu")
        workers.seen(session, "twofold:7", "gpu", "cpu")
    assert alive.main() == 1
    with here.write() as session:
        workers.seen(session, "two:8", "gpu", "cuda", Wait.NO_GPU)
        workers.seen(session, "two:9", "gpu", "cuda")
    assert alive.main() == 0
    assert capsys.readouterr().out == "two:8: no_gpu\ntwo:9: works\n"
    here.dispose()
