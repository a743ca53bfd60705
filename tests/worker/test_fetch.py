"""What a cpu worker does of a fetch, with the processes it starts, from a hub on this machine."""

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub import COMMIT, REPO, Hub, serving_hub
from live import until
from safetensors.torch import load_file, save_file
from sqlalchemy import select, update
from tiny_stable_diffusion import write_tiny_stable_diffusion

from shared import datasets, fetches, priors
from shared.bucket import Bucket
from shared.db import Sessions, now
from shared.fetches import FetchSpec
from shared.models import Fetch, Prior
from shared.settings import Settings
from shared.states import FetchState
from shared.storage import Folder, fetch_key, prior_key
from worker import fetch
from worker.fetch import fetch_next
from worker.priors.diffusers import BUILTIN

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving_hub() as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path, hub: Hub) -> Settings:
    quick = {"lease_seconds": 20, "renew_seconds": 0.2, "min_free_gb": 0}
    return Settings(data=tmp_path, hub_allow="lab/*", hub_endpoint=hub.url, **quick, _env_file=None)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    write_tiny_stable_diffusion(folder)
    return folder


@pytest.fixture
def work(settings: Settings, local: Sessions, storage: Folder) -> Callable[[], bool]:
    """What the worker does with the fetch that waits."""
    storage.write("probes/x", b"")
    return lambda: fetch_next(settings, local, storage, "test", lambda: None)


def ask(settings: Settings, sessions: Sessions, **more: str) -> str:
    spec = FetchSpec.model_validate({"repo": REPO, "revision": COMMIT, **more})
    with sessions.write() as session:
        return fetches.create(session, "local", "sd15", spec, settings)[0].id


def row(sessions: Sessions, fetch_id: str) -> Fetch:
    with sessions.read() as session:
        return session.get_one(Fetch, fetch_id)


@pytest.mark.parametrize("where", ["storage", "bucket"])
def test_who_was_killed_when_all_was_checked_asks_no_hub_again(
    where: str, settings: Settings, local: Sessions, hub: Hub, request: pytest.FixtureRequest
) -> None:
    storage: Folder | Bucket = request.getfixturevalue(where)
    fetch_id = ask(settings, local)
    shutil.copytree(BUILTIN, storage.folder(prior_key(fetch_id)))
    assert fetch_next(settings, local, storage, "test", lambda: None)
    assert (row(local, fetch_id).state, hub.asked) == (FetchState.DONE, [])
    assert storage.exists(prior_key(fetch_id) + "unet/config.json")
    with local.read() as session:
        ((folder, sha256),) = priors.made_here(session, storage).values()
    assert priors.describe("sd15", folder).sha256 == sha256


def test_what_is_not_finite_is_found_before_a_job_can_name_it(
    settings: Settings, local: Sessions, hub: Hub, tiny: Path, work: Callable[[], bool]
) -> None:
    weights = load_file(tiny / UNET)
    weights["conv_in.weight"][0] = float("nan")
    save_file(weights, tiny / UNET, metadata={"format": "pt"})
    hub.add(tiny)
    fetch_id = ask(settings, local)
    assert work()
    failed = row(local, fetch_id)
    assert (failed.state, failed.error) == (
        FetchState.FAILED,
        {"type": "bad_prior", "detail": f"{UNET}: of unet, the weights conv_in.weight are not finite"},
    )
    with local.read() as session:
        assert session.scalars(select(Prior)).all() == []


def test_a_hub_that_is_away_is_asked_again_later_and_given_up_in_the_end(
    settings: Settings, local: Sessions, hub: Hub, work: Callable[[], bool]
) -> None:
    hub.status = 418
    fetch_id = ask(settings, local)
    for attempt in (1, 2, 3):
        assert work()
        seen = row(local, fetch_id)
        assert (seen.attempts, (seen.error or {})["type"]) == (attempt, "hub_away")
        assert not work(), "it did not wait"
        with local.write() as session:
            session.execute(update(Fetch).values(next_at=now()))
    assert seen.state == FetchState.FAILED


def test_what_the_worker_may_not_fetch_or_has_no_room_for_fails_at_once(
    settings: Settings, local: Sessions, storage: Folder, hub: Hub, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(tiny)
    fetch_id = ask(settings, local)
    offline = settings.model_copy(update={"offline": True})
    assert fetch_next(offline, local, storage, "test", lambda: None)
    assert "REGROW_OFFLINE" in (row(local, fetch_id).error or {})["detail"]
    assert hub.asked == []
    ask(settings, local)
    monkeypatch.setattr(storage, "free", lambda: 1000)
    assert fetch_next(settings, local, storage, "test", lambda: None)
    failed = row(local, fetch_id)
    assert (failed.state, (failed.error or {})["type"]) == (FetchState.FAILED, "insufficient-storage")

    def full(_key: str) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    ask(settings, local)
    monkeypatch.setattr(storage, "folder", full)
    assert fetch_next(settings, local, storage, "test", lambda: None)
    failed = row(local, fetch_id)
    assert (failed.state, (failed.error or {})["detail"]) == (FetchState.PENDING, "No space left on device: x")


def test_it_stops_when_it_is_cancelled_and_makes_way_for_a_dataset_and_goes_on_where_it_was(
    settings: Settings, local: Sessions, storage: Folder, hub: Hub, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = load_file(tiny / UNET)
    weights["unused"] = weights["conv_in.weight"].new_ones(2**20)
    save_file(weights, tiny / UNET, metadata={"format": "pt"})
    hub.add(tiny)
    hub.stall = UNET
    monkeypatch.setattr(fetch, "AT_LEAST", 0.0)
    fetch_id = ask(settings, local)
    made_way: list[bool] = []

    def haul() -> threading.Thread:
        work = threading.Thread(
            target=lambda: fetch_next(settings, local, storage, "test", lambda: made_way.append(True))
        )
        work.start()
        return work

    first = haul()
    until(lambda: row(local, fetch_id).received > 2**19, 120, "the half is here")
    with local.write() as session:
        fetches.cancel(session, fetches.get(session, "local", fetch_id))
    first.join()
    assert row(local, fetch_id).state == FetchState.CANCELLED
    assert ask(settings, local) == fetch_id
    before = len(hub.ranges(UNET))
    second = haul()
    until(lambda: len(hub.ranges(UNET)) > before, 120, "it goes on")
    with local.write() as session:
        datasets.create(session, "local", "d" * 32, "fractures", 1)
    second.join()
    assert made_way == [True]
    assert hub.ranges(UNET)[before] is not None
    handed = row(local, fetch_id)
    assert (handed.state, handed.token, handed.attempts, handed.lapses) == (FetchState.PENDING, None, 0, 0)
    monkeypatch.setattr(fetch, "AT_LEAST", 3600.0)
    before = len(hub.ranges(UNET))
    third = haul()
    until(lambda: len(hub.ranges(UNET)) > before, 120, "it goes on")
    with local.write() as session:
        fetches.delete(session, session.get_one(Fetch, fetch_id))
    third.join()
    assert not storage.path(fetch_key(fetch_id)).exists()
