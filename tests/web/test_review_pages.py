"""Reviewing and filtering in a browser, with keys and sliders."""

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from regrow import Client

pytestmark = pytest.mark.slow

QUICK: dict[str, Any] = {"canvas": {"long_side": 32}, "sampler": {"preset": "fast", "steps": 4, "finish": 0}}


def test_one_is_rejected_by_a_key_and_is_not_in_the_next_zip(
    page: Page, regrow: Client, dataset_id: str, tmp_path: Path
) -> None:
    job = regrow.wait_job(regrow.create_job({"dataset_id": dataset_id, "variants": 1, **QUICK})["id"])["id"]
    page.goto(f"/jobs/{job}")
    page.get_by_role("link", name="Review them one by one").click()
    page.get_by_label("Why, if it is rejected").select_option("blurred")
    page.locator("h1").click()
    page.keyboard.press("r")
    expect(page.get_by_text("1 of 3 seen: 0 accepted, 1 rejected")).to_be_visible()
    page.keyboard.press("u")
    expect(page.get_by_text("0 of 3 seen")).to_be_visible()
    page.keyboard.press("r")
    expect(page.get_by_text("1 of 3 seen")).to_be_visible()
    page.keyboard.press("a")
    expect(page.get_by_text("2 of 3 seen: 1 accepted, 1 rejected")).to_be_visible()
    page.goto(f"/jobs/{job}/filters")
    expect(page.locator("#outlook")).to_contain_text("2 of 3 images")
    slider = page.get_by_role("slider", name=re.compile("Most of Seconds"))
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator("#outlook")).to_contain_text(re.compile("would drop [12]"))
    page.keyboard.press("End")
    expect(page.locator("#outlook")).to_contain_text("would drop 0")
    page.get_by_role("button", name="Build the zip so").click()
    expect(page.get_by_text("revision 2")).to_be_visible()
    with page.expect_download() as begun:
        page.get_by_role("button", name="Download the zip").click()
    begun.value.save_as(tmp_path / "filtered.zip")
    with zipfile.ZipFile(tmp_path / "filtered.zip") as archive:
        assert len(archive.read("manifest.jsonl").splitlines()) == 2


def test_a_blinded_review_is_answered_by_keys_and_then_tells_the_truth(
    page: Page, regrow: Client, dataset_id: str
) -> None:
    job = regrow.wait_job(regrow.create_job({"dataset_id": dataset_id, "variants": 1, **QUICK})["id"])["id"]
    page.goto(f"/jobs/{job}")
    page.get_by_role("link", name="Blinded review").click()
    page.get_by_label("Images").fill("2")
    page.get_by_role("button", name=re.compile("Begin")).click()
    expect(page.get_by_text("0 of 2 answered")).to_be_visible()
    shown = page.get_by_role("img", name="An image, real or regrown")
    assert shown.evaluate("async (it) => { await it.decode(); return it.naturalWidth }") > 0
    page.keyboard.press("e")
    expect(page.get_by_text("1 of 2 answered")).to_be_visible()
    page.keyboard.press("e")
    # One of two is real: who says so of both is right once.
    expect(page.get_by_role("heading", name="1 of 2 right")).to_be_visible()
    expect(page.get_by_role("img", name="called real")).to_have_count(2)
    expect(page.get_by_text("Known as what they are: 1 of 1 real image, 0 of 1 regrown image.")).to_be_visible()
    page.get_by_role("link", name="Blinded reviews").click()
    expect(page.get_by_role("row", name=re.compile("1 of 2"))).to_be_visible()
