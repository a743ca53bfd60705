"""A job in a browser: watched, looked at, downloaded, told what to do."""

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from live import until
from playwright.sync_api import Page, Route, expect

from regrow import Client

pytestmark = pytest.mark.slow

QUICK: dict[str, Any] = {"canvas": {"long_side": 32}, "sampler": {"preset": "fast", "steps": 4, "finish": 0}}
LONG: dict[str, Any] = {"canvas": {"long_side": 32}, "sampler": {"preset": "exact"}, "variants": 4}


def start(regrow: Client, dataset_id: str, **spec: Any) -> str:
    return regrow.create_job({"dataset_id": dataset_id, "reuse": False, **spec})["id"]


def shares_shown(page: Page) -> None:
    """Let the page keep each value its bar of progress had."""
    page.evaluate(
        """() => {
            const bar = document.getElementById("progress");
            window.shares = [bar.value];
            new MutationObserver(() => window.shares.push(bar.value)).observe(bar, { attributes: true });
        }"""
    )


@pytest.fixture(scope="module")
def finished(address: str, dataset_id: str) -> str:
    """A job that is over."""
    with Client(address) as client:
        return client.wait_job(start(client, dataset_id, **QUICK))["id"]


def test_progress_moves_by_itself_until_the_zip_can_be_downloaded(
    page: Page, regrow: Client, dataset_id: str, tmp_path: Path
) -> None:
    job_id = start(regrow, dataset_id, **QUICK, variants=4)
    page.goto(f"/jobs/{job_id}")
    shares_shown(page)
    with page.expect_download() as begun:
        page.get_by_role("button", name="Download the zip").click()
    shares = page.evaluate("() => window.shares")
    assert shares[-1] == 1
    assert len(set(shares)) > 2
    assert shares == sorted(shares)
    begun.value.save_as(tmp_path / "expanded.zip")
    with zipfile.ZipFile(tmp_path / "expanded.zip") as archive:
        assert archive.testzip() is None
    digest = hashlib.sha256((tmp_path / "expanded.zip").read_bytes()).hexdigest()
    expect(page.get_by_text(digest)).to_be_visible()
    assert page.locator(".pairs img").count() == 12


@pytest.mark.parametrize("line", ["refused", "silent"])
def test_without_a_stream_of_events_it_is_asked_instead(page: Page, regrow: Client, dataset_id: str, line: str) -> None:
    # What is never answered tells of no error either.
    page.route("**/events", lambda route: route.abort() if line == "refused" else None)
    job_id = start(regrow, dataset_id, **QUICK)
    # So that it is not over before it is seen.
    regrow.pause(job_id)
    page.goto(f"/jobs/{job_id}", wait_until="domcontentloaded")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    regrow.resume(job_id)
    expect(page.get_by_role("button", name="Download the zip")).to_be_visible()


def test_a_stream_that_breaks_in_the_middle_is_opened_again(page: Page, regrow: Client, dataset_id: str) -> None:
    opened: list[str] = []

    def breaking(route: Route) -> None:
        opened.append(route.request.url)
        if len(opened) == 1:
            route.fulfill(content_type="text/event-stream", body="retry: 50\n\nevent: progress\ndata: {}\n\n")
        else:
            route.continue_()

    def again() -> bool:
        page.wait_for_timeout(50)
        return len(opened) > 1

    page.route("**/events", breaking)
    page.goto(f"/jobs/{start(regrow, dataset_id, **LONG)}")
    expect(page.locator("#state")).to_have_text("running")
    until(again, 60, "the stream is opened again")
    page.context.set_offline(True)
    page.wait_for_timeout(1500)
    page.context.set_offline(False)
    regrow.cancel(page.url.rpartition("/")[2])
    expect(page.locator("#state")).to_have_text("cancelled")


def test_a_job_cancelled_in_another_tab_is_seen_in_this_one(page: Page, regrow: Client, dataset_id: str) -> None:
    job_id = start(regrow, dataset_id, **LONG)
    page.goto(f"/jobs/{job_id}")
    expect(page.locator("#state")).to_have_text("running")
    other = page.context.new_page()
    other.goto(f"/jobs/{job_id}")
    other.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    page.get_by_role("button", name="Try the rest again").click()
    expect(page.locator("#state")).to_have_text(re.compile("running|waiting"))
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_have_text("paused")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text(re.compile("cancelled"))


def test_a_pair_is_compared_by_a_curtain_and_its_mask_and_difference_are_shown(page: Page, finished: str) -> None:
    page.goto(f"/jobs/{finished}")
    page.locator(".pairs a").first.click()
    curtain, after = page.get_by_role("slider"), page.locator("#after")
    expect(after).to_have_attribute("style", re.compile("50%"))
    curtain.focus()
    page.keyboard.press("End")
    expect(after).to_have_attribute("style", re.compile("100%"))
    for view, what in (("Mask", "The mask"), ("Difference", "The difference")):
        page.get_by_role("link", name=view, exact=True).click()
        shown = page.get_by_role("img", name=what)
        assert shown.evaluate("async (it) => { await it.decode(); return it.naturalWidth }") == 96
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("link", name="Hide the boxes").click()
    assert "boxes=false" in str(page.locator("#after").get_attribute("src"))


def test_the_arrow_keys_go_from_image_to_image(page: Page, finished: str) -> None:
    page.goto(f"/jobs/{finished}/items")
    page.locator(".pairs a").first.click()
    page.wait_for_url(re.compile(r"/items/\d+"))
    first = page.url
    page.keyboard.press("ArrowRight")
    page.wait_for_url(lambda url: url != first)
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(re.compile(re.escape(first)))


def test_a_job_is_deleted_after_a_second_word(page: Page, regrow: Client, dataset_id: str) -> None:
    job_id = start(regrow, dataset_id, **QUICK, name="To be deleted")
    regrow.cancel(job_id)
    page.goto(f"/jobs/{job_id}")
    page.get_by_text("Delete …").click()
    page.get_by_role("button", name="Delete this job").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    expect(page.get_by_role("link", name="To be deleted")).to_have_count(0)
