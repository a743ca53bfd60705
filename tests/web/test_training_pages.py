"""A training in a browser: watched, its curves and samples looked at, its prior installed; and cancelled."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from regrow import Client

pytestmark = pytest.mark.slow


def test_a_training_is_watched_to_its_end_and_shows_its_curves_and_samples(
    page: Page, regrow: Client, tiny: dict[str, Any]
) -> None:
    training = regrow.train_prior({**tiny, "name": "wrists"})["id"]
    page.goto("/priors")
    page.get_by_role("link", name="wrists").click()
    expect(page.get_by_role("heading", name="Training of wrists")).to_be_visible()
    # The page goes on by itself, from waiting to the end.
    expect(page.locator("#state")).to_have_text("done")
    assert page.url.endswith(training)
    curves = page.get_by_role("img", name="steps")
    expect(curves).to_have_count(2)
    for points in page.locator("polyline").evaluate_all("them => them.map((it) => it.getAttribute('points'))"):
        places = [tuple(map(float, place.split(","))) for place in points.split()]
        assert len(places) == 3
        assert {y for _, y in places} >= {0.0, 120.0}, "a curve fills its frame"
    samples = page.locator("img.samples")
    assert samples.evaluate("async (it) => { await it.decode(); return it.naturalWidth }") >= 32
    page.get_by_role("button", name="The prior is installed").click()
    prior = page.get_by_role("article", name="wrists")
    expect(prior.get_by_text("trained here")).to_be_visible()
    prior.get_by_text("Its card").click()
    expect(prior.get_by_label("Card of wrists")).to_contain_text("dB PSNR")
    drawn = prior.get_by_role("img", name="What wrists drew")
    assert drawn.evaluate("async (it) => { await it.decode(); return it.naturalWidth }") >= 32
    page.goto("/priors")
    page.locator("#f-name").fill("adapted")
    page.get_by_label("Recipe").select_option("lora")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("lora needs a Stable Diffusion prior to start from")


def test_a_training_can_be_cancelled_and_gone_on_with(page: Page, regrow: Client, tiny: dict[str, Any]) -> None:
    training = regrow.train_prior({**tiny, "name": "long", "denoiser_steps": 100_000})["id"]
    page.goto(f"/trainings/{training}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    page.get_by_role("button", name="Go on from the last checkpoint").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    page.get_by_text("Delete …").click()
    page.get_by_role("button", name="Delete this training").click()
    expect(page.get_by_role("heading", name="Priors")).to_be_visible()
    expect(page.get_by_role("link", name="long")).to_have_count(0)
