"""axe-core finds no serious fault on any page, and nothing moves while a page loads."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from regrow import Client

pytestmark = pytest.mark.slow

AXE = Path(__file__).parent / "assets" / "axe.min.js"
QUICK: dict[str, Any] = {"canvas": {"long_side": 32}, "sampler": {"preset": "fast", "steps": 4, "finish": 0}}


@pytest.fixture(scope="module")
def paths(address: str, dataset_id: str, wrong: Path, tiny: dict[str, Any]) -> list[str]:
    """Every page."""
    with Client(address) as client:
        job = client.wait_job(client.create_job({"dataset_id": dataset_id, "variants": 1, **QUICK})["id"])["id"]
        item = next(client.items(job))["id"]
        rejected = client.wait_dataset(client.upload(wrong)["id"])["id"]
        training = client.wait_training(client.train_prior({**tiny, "name": "seen"})["id"])["id"]
    with httpx.Client(base_url=f"{address}/v1/jobs/{job}", trust_env=False) as api:
        card = api.post("/reviews", json={"count": 2}).raise_for_status().json()["id"]
    sets, jobs = f"/datasets/{dataset_id}", f"/jobs/{job}"
    of_sets = ["/datasets", sets, f"{sets}/expand", f"/datasets/{rejected}", f"/datasets/{'0' * 32}"]
    of_items = [
        f"{jobs}/review",
        f"{jobs}/filters",
        f"{jobs}/blind",
        f"{jobs}/blind/{card}",
        f"{jobs}/items",
        f"{jobs}/items/{item}",
        f"{jobs}/items/{item}?view=difference",
    ]
    return [*of_sets, "/jobs", jobs, *of_items, f"/pilots?job={job}", "/priors", f"/trainings/{training}", "/sign-in"]


def serious(page: Page) -> list[tuple[str, str]]:
    """Rule and place of what axe finds serious or worse."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        (each["id"], node["html"])
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found_on_any_page(browser: Browser, address: str, paths: list[str], scheme: str) -> None:
    # axe is put into the page by the browser, which the page's own policy would not let it.
    context = browser.new_context(base_url=address, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True)
    page = context.new_page()
    found = {}
    for path in paths:
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        found[path] = serious(page)
    context.close()
    assert {path: faults for path, faults in found.items() if faults} == {}


def test_a_page_is_small_and_no_wider_than_a_phone_and_nothing_moves(
    browser: Browser, address: str, paths: list[str]
) -> None:
    context = browser.new_context(base_url=address, viewport={"width": 390, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.add_init_script(
        """window.shifts = 0;
        new PerformanceObserver((list) => list.getEntries().forEach((each) => (window.shifts += each.value)))
            .observe({ type: "layout-shift", buffered: true });"""
    )
    # As who comes for the first time: nothing is there from the page before.
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    network.send("Network.setCacheDisabled", {"cacheDisabled": True})
    found = {}
    for path in paths:
        page.goto(path, wait_until="networkidle")
        width = page.evaluate("document.documentElement.scrollWidth")
        shifted = page.evaluate("window.shifts")
        came = page.evaluate(
            """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
                .filter((each) => ["navigation", "link", "script", "css"].includes(each.initiatorType))
                .reduce((all, each) => all + each.transferSize, 0)"""
        )
        if width > 390 or shifted > 0.05 or not 20_000 < came < 100_000:
            found[path] = (width, shifted, came)
    context.close()
    assert found == {}


def test_a_keyboard_is_enough(page: Page, dataset_id: str) -> None:
    page.goto(f"/datasets/{dataset_id}")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Expand this dataset")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Expand")).to_be_visible()
