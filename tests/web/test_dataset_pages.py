"""Datasets in a browser: sent, checked, looked at, deleted."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from regrow import Client

pytestmark = pytest.mark.slow


def choose(page: Page, path: Path, name: str = "") -> None:
    page.goto("/datasets")
    page.set_input_files("input[type=file]", path)
    if name:
        page.get_by_text("More choices").click()
        page.get_by_label("Name").fill(name)


def upload(page: Page) -> None:
    page.get_by_role("button", name="Upload").click()


def test_a_zip_is_sent_and_checked_and_its_report_is_shown(page: Page, phantoms: Path) -> None:
    choose(page, phantoms, "Wrists of May")
    upload(page)
    expect(page.get_by_role("heading", name="Wrists of May")).to_be_visible()
    # The page goes on by itself, from checking to the report.
    expect(page.get_by_text("4 images in 2 splits, read as yolo")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("Boxes of fractured"))).to_be_visible()
    pictures = page.locator(".pictures img")
    assert pictures.count() == 4
    pictures.first.scroll_into_view_if_needed()
    assert pictures.first.evaluate("async (it) => { await it.decode(); return it.naturalWidth }") == 96


def test_a_zip_that_cannot_be_used_lists_each_fault_with_its_file(page: Page, wrong: Path) -> None:
    choose(page, wrong)
    upload(page)
    expect(page.get_by_text("This upload cannot be used.")).to_be_visible()
    row = page.get_by_role("row", name="labels/train/phantom_0001.txt")
    expect(row).to_contain_text("class index 7 is too large")


def test_what_is_no_zip_at_all_is_told_as_well(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "holiday.zip"
    path.write_bytes(b"not a zip" * 100)
    choose(page, path)
    upload(page)
    expect(page.get_by_text("This upload cannot be used.")).to_be_visible()


def test_an_upload_goes_on_where_it_stopped(page: Page, phantoms: Path) -> None:
    """The line breaks after the first piece, and for good; the page is opened anew, and the same file chosen."""
    sent: list[int] = []

    def broken(route: Route) -> None:
        if route.request.method == "PATCH":
            sent.append(int(route.request.headers["upload-offset"]))
            if len(sent) > 1:
                route.abort()
                return
        route.continue_()

    page.route("**/v1/uploads/**", broken)
    choose(page, phantoms)
    page.locator("#upload").evaluate("(form) => { form.dataset.piece = 2000 }")
    with page.expect_request(lambda request: request.headers.get("upload-offset", "0") != "0"):
        upload(page)
    expect(page.locator("#sending-said")).to_contain_text("MB of")
    page.goto("/datasets")
    expect(page.get_by_text("Choose the same file again")).to_be_visible()
    page.unroute("**/v1/uploads/**")
    again: list[str] = []
    page.on("request", lambda request: again.append(request.headers.get("upload-offset", request.method)))
    choose(page, phantoms)
    upload(page)
    expect(page.get_by_text("4 images in 2 splits")).to_be_visible()
    assert "2000" in again
    assert "0" not in again


def test_a_dataset_is_deleted_after_a_second_word(page: Page, regrow: Client, phantoms: Path) -> None:
    made = regrow.wait_dataset(regrow.upload(phantoms, "To be deleted")["id"])
    page.goto(f"/datasets/{made['id']}")
    page.get_by_text("Delete …").click()
    page.get_by_role("button", name="Delete this dataset").click()
    expect(page.get_by_role("heading", name="Datasets")).to_be_visible()
    expect(page.get_by_role("link", name="To be deleted")).to_have_count(0)


def test_without_scripts_a_zip_is_sent_all_the_same(browser: Browser, address: str, phantoms: Path) -> None:
    page = browser.new_context(base_url=address, java_script_enabled=False).new_page()
    page.goto("/datasets")
    page.set_input_files("input[type=file]", phantoms)
    upload(page)
    expect(page.get_by_text("4 images in 2 splits")).to_be_visible()


def test_a_page_that_is_not_there_says_so_as_a_page(page: Page) -> None:
    answer = page.goto(f"/datasets/{'0' * 32}")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("alert")).to_contain_text("There is no dataset")
