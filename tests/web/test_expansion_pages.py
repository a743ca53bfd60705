"""A new expansion in a browser: the form, the live mask, the estimate, a pilot."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from regrow import Client

pytestmark = pytest.mark.slow


def open_form(page: Page, dataset_id: str) -> None:
    page.goto(f"/datasets/{dataset_id}/expand")
    drawn(page, 1)


def drawn(page: Page, times: int) -> Any:
    """Wait until the mask was drawn so often; gives what is on show."""
    page.wait_for_function(f"() => Number(document.getElementById('mask').dataset.drawn ?? 0) >= {times}")
    return page.locator("#mask").get_attribute("src")


def quick(page: Page) -> None:
    """As fast as it goes."""
    page.get_by_text("All other numbers").click()
    page.locator("[id='f-canvas.long_side']").fill("32")
    page.locator("[id='f-sampler.steps']").fill("4")
    page.locator("[id='f-sampler.finish']").fill("0")


def test_moving_a_slider_draws_the_mask_anew(page: Page, dataset_id: str) -> None:
    open_form(page, dataset_id)
    before = drawn(page, 1)
    slider = page.get_by_role("slider", name="Spread (sigma), as a slider")
    slider.focus()
    page.keyboard.press("End")
    assert drawn(page, 2) != before
    expect(page.locator("[id='f-operator.inpaint.mask.gaussian_distance.sigma']")).to_have_value("1.32")
    page.locator("[id='f-operator.inpaint.mask.kind']").select_option("box")
    expect(page.locator("[id='f-operator.inpaint.mask.box.smallest']")).to_be_visible()
    expect(page.locator("[id='f-operator.inpaint.mask.gaussian_distance.sigma']")).to_be_hidden()
    # Of a mask that cannot be, it is said why.
    page.locator("[id='f-operator.inpaint.mask.box.smallest']").fill("0.9")
    expect(page.locator("#mask-said")).to_contain_text("smallest: it is above largest")


def test_the_estimate_follows_the_form_and_json_and_curl_are_what_would_be_sent(page: Page, dataset_id: str) -> None:
    open_form(page, dataset_id)
    expect(page.locator("#estimate")).to_contain_text("6, from 3 source images")
    expect(page.locator("#estimate")).to_contain_text("128 px")
    page.get_by_label("New images for each source image").fill("5")
    page.keyboard.press("Tab")
    expect(page.locator("#estimate")).to_contain_text("15, from 3 source images")
    page.get_by_text("As JSON").click()
    body = json.loads(page.locator("#estimate pre").first.inner_text())
    assert body == {"dataset_id": dataset_id, "variants": 5}
    page.get_by_text("As curl").click()
    expect(page.locator("#estimate pre").last).to_contain_text(f"{page.url.partition('/datasets')[0]}/v1/jobs")


def test_the_form_makes_the_job_it_says(page: Page, regrow: Client, dataset_id: str) -> None:
    open_form(page, dataset_id)
    page.get_by_label("Name").fill("From the form")
    page.get_by_label("Preset", exact=True).select_option("fast")
    page.get_by_label("New images for each source image").fill("1")
    quick(page)
    page.get_by_role("button", name="Expand", exact=True).click()
    expect(page.get_by_role("heading", name="From the form")).to_be_visible()
    job = regrow.job(page.url.rpartition("/")[2])
    assert job["spec"]["sampler"] == {**job["spec"]["sampler"], "preset": "fast", "steps": 4, "finish": 0}
    assert (job["spec"]["variants"], job["resolved"]["long_side"], job["total"]) == (1, 32, 3)


def test_what_cannot_be_is_said_beside_its_field_and_nothing_is_lost(page: Page, dataset_id: str) -> None:
    open_form(page, dataset_id)
    page.get_by_label("Name").fill("Kept")
    page.get_by_label("Preset", exact=True).select_option("reference")
    page.get_by_text("All other numbers").click()
    page.locator("[id='f-sampler.enter']").fill("0.5")
    page.get_by_role("button", name="Expand", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("the preset reference begins with noise")
    expect(page.get_by_label("Name")).to_have_value("Kept")
    expect(page.locator("[id='f-sampler.enter']")).to_have_value("0.5")


def test_a_pilot_is_a_contact_sheet_whose_columns_can_be_chosen(page: Page, regrow: Client, dataset_id: str) -> None:
    open_form(page, dataset_id)
    page.get_by_label("Preset", exact=True).select_option("fast")
    quick(page)
    page.get_by_text("Try it on a few images first").click()
    page.get_by_label("balanced", exact=True).uncheck()
    page.get_by_label("Source images").last.fill("2")
    page.get_by_label("Spreads of the mask").fill("0.2 0.5")
    page.get_by_role("button", name="Start the pilot").click()
    expect(page.get_by_role("columnheader", name=re.compile("fast, sigma 0.5"))).to_be_visible()
    expect(page.locator("td img")).to_have_count(4)
    page.get_by_role("button", name=re.compile("Expand all so: .*0.5")).click()
    expect(page.locator("[id='f-operator.inpaint.mask.gaussian_distance.sigma']")).to_have_value("0.5")
    expect(page.get_by_label("New images for each source image")).to_have_value("2")
    expect(page.locator("#estimate")).to_contain_text("2 were made before")
