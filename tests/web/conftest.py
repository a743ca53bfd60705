"""A browser, and small phantoms in the real service that it looks at."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from regrow import Client
from samples.phantoms import write_dataset

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium, or any Chrome on the path. Without one these tests are skipped, or fail where
    REGROW_TEST_BROWSER is set.

    Started for each module: while Playwright is there, nothing else in the process can use asyncio."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        if os.environ.get("REGROW_TEST_BROWSER"):
            pytest.fail("no chromium: the tests of the pages need one (Debian: apt-get install chromium)")
        pytest.skip("no chromium or Chrome on the path")
    expect.set_options(timeout=120_000)
    with sync_playwright() as play:
        # Chromium's own sandbox does not start for root, nor in most containers.
        launched = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def regrow(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page of a browser that has been nowhere. That a script failed, or was not let run, is an error."""
    context = browser.new_context(base_url=address, accept_downloads=True, reduced_motion="reduce")
    opened = context.new_page()
    opened.set_default_timeout(120_000)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
    yield opened
    context.close()
    assert not complaints


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO dataset of four phantoms: three to train, one to validate."""
    path = tmp_path_factory.mktemp("phantoms") / "fractures.zip"
    write_dataset(path, 4, 7, (96, 120))
    return path


@pytest.fixture(scope="session")
def wrong(phantoms: Path) -> Path:
    """The same with a class that there is not, in one label file."""
    path = phantoms.parent / "wrong.zip"
    with zipfile.ZipFile(phantoms) as right, zipfile.ZipFile(path, "w") as spoilt:
        for name in right.namelist():
            label = name == "labels/train/phantom_0001.txt"
            spoilt.writestr(name, b"7 0.5 0.5 0.1 0.1\n" if label else right.read(name))
    return path


@pytest.fixture(scope="session")
def dataset_id(address: str, phantoms: Path) -> str:
    """A dataset that is ready."""
    with Client(address) as client:
        return client.wait_dataset(client.upload(phantoms)["id"])["id"]


@pytest.fixture(scope="session")
def tiny(address: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A request for a training that takes a few steps, without a name."""
    path = tmp_path_factory.mktemp("lessons") / "lessons.zip"
    write_dataset(path, images=28, seed=3, size=(64, 72))
    sides = {"crop": 16, "image_side": 32, "denoiser_side": 16, "samples": 4}
    steps = {"autoencoder_steps": 6, "denoiser_steps": 6, "checkpoint_every": 2, "sample_every": 2}
    with Client(address) as client:
        dataset = client.wait_dataset(client.upload(path)["id"])["id"]
    return {"dataset_id": dataset, "autoencoder_batch": 2, "denoiser_batch": 2, **sides, **steps}
