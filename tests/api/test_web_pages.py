"""The pages without a browser: what is sent, and to whom."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors import Keyring, app_client, bearer
from PIL import Image as Picture
from service import MISSING, WIDTH, Service
from sqlalchemy import update
from starlette.testclient import TestClient

from shared import items
from shared.db import Sessions
from shared.models import Item
from shared.queue import Task
from shared.storage import Folder

STATIC = Path(__file__).resolve().parents[2] / "api" / "web" / "static"
HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def strict(sessions: Sessions, storage: Folder, hints: list[Task]) -> TestClient:
    """Where everybody needs a key."""
    return app_client(sessions, storage, hints, require_key=True)


@pytest.fixture
def paths(service: Service) -> list[str]:
    """Every page there is, of things that are there."""
    dataset_id = service.ready(3)
    job = service.job(dataset_id)
    service.do(1)
    service.fail(1)
    item = service.get(f"/v1/jobs/{job['id']}/items")["items"][0]["id"]
    rejected, checking = service.rejected(), service.checking()
    jobs, sets = f"/jobs/{job['id']}", f"/datasets/{dataset_id}"
    of_jobs = ["/jobs", jobs, f"{jobs}/items", f"{jobs}/items/{item}", f"{jobs}/items/{item}?view=mask"]
    of_jobs += [f"{jobs}/review", f"{jobs}/filters", f"{jobs}/blind"]
    of_sets = ["/datasets", sets, f"{sets}/expand", f"/datasets/{rejected}", f"/datasets/{checking}"]
    return [*of_jobs, *of_sets, f"/pilots?job={job['id']}", "/priors", "/sign-in", f"/datasets/{MISSING}"]


def pages(service: Service, paths: list[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        answer = service.client.get(path, headers=HTML)
        assert answer.status_code == (404 if MISSING in path else 200), path
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        yield path, answer.text


def test_nothing_on_a_page_needs_more_than_the_policy_allows(service: Service, paths: list[str]) -> None:
    for path, text in pages(service, paths):
        assert re.findall(r"<script(?![^>]* src=)", text) == [], path
        assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", text) == [], path
        linked = re.findall(r'(?:src|href|action|hx-get|hx-post)="([^"]*)"', text)
        assert linked
        assert [link for link in linked if not link.startswith(("/", "?", "#", "data:,"))] == [], path


def test_every_file_that_a_page_names_is_there_and_it_is_small(service: Service, paths: list[str]) -> None:
    for path, text in pages(service, paths):
        first = len(text)
        for file in re.findall(r'(?:src|href)="(/static/[^"]+)"', text):
            with service.client.stream("GET", file, headers={"Accept-Encoding": "gzip"}) as answer:
                assert answer.status_code == 200, file
                assert answer.headers["cache-control"] == "no-cache"
                first += sum(map(len, answer.iter_raw()))
        assert 20_000 < first < 100_000, (path, first)


def test_no_file_of_ours_names_another_machine() -> None:
    ours = [*STATIC.glob("*.js"), *STATIC.glob("*.css"), *STATIC.parent.glob("templates/*.html")]
    assert len(ours) > 10
    assert [path.name for path in ours if re.search(r"https?://", path.read_text())] == []


def test_every_vendored_file_has_its_version_and_licence() -> None:
    vendor = STATIC / "vendor"
    listed = re.findall(
        r"^\| `([\w./]+)` .*\| (\d+\.\d+\.\d+) \| .*`([\w.]+)`", (vendor / "README.md").read_text(), re.M
    )
    files = {name for name, _, _ in listed} | {licence for _, _, licence in listed}
    there = {path.name for path in vendor.iterdir()} - {"README.md"}
    assert {name for name in files if "/" not in name and not name.startswith("axe")} == there


def test_a_browser_without_a_key_is_led_to_sign_in_and_back(strict: TestClient, sessions: Sessions) -> None:
    led = strict.get("/jobs?cursor=x", headers=HTML, follow_redirects=False)
    assert (led.status_code, led.headers["location"]) == (303, "/sign-in?then=%2Fjobs%3Fcursor%3Dx")
    assert strict.get("/v1/jobs").status_code == 401
    assert strict.get("/v1/jobs", headers=HTML | {"Sec-Fetch-Mode": "cors"}).status_code == 401
    assert 'value="/jobs?cursor=x"' in strict.get(led.headers["location"]).text
    wrong = strict.post("/sign-in", data={"key": "rg_nonsense", "then": "/jobs"})
    assert wrong.status_code == 401
    assert 'role="alert"' in wrong.text
    key = Keyring(sessions).make()
    inside = strict.post("/sign-in", data={"key": key, "then": "/jobs"}, follow_redirects=False)
    assert (inside.status_code, inside.headers["location"]) == (303, "/jobs")
    assert "Sign out anna" in strict.get("/jobs", headers=HTML).text
    own = {"Origin": "http://127.0.0.1:8000"}
    assert strict.post("/sign-out", headers=own, follow_redirects=False).headers["location"] == "/sign-in"
    assert strict.get("/jobs", headers=HTML, follow_redirects=False).status_code == 303


@pytest.mark.parametrize("then", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_nobody_is_led_elsewhere(strict: TestClient, sessions: Sessions, then: str) -> None:
    key = Keyring(sessions).make()
    answer = strict.post("/sign-in", data={"key": key, "then": then}, follow_redirects=False)
    assert answer.headers["location"] == "/datasets"


def test_pages_of_another_project_are_not_there(
    service: Service, strict: TestClient, sessions: Sessions, paths: list[str]
) -> None:
    foreign = bearer(Keyring(sessions).make("elbow"))
    assert ">fractures<" in service.client.get("/datasets").text
    of_one = [path for path in paths if re.search("[0-9a-f]{32}", path)]
    assert len(of_one) > 8
    assert {strict.get(path, headers=foreign).status_code for path in of_one} == {404}
    for path in ("/datasets", "/jobs", "/priors"):
        assert ">fractures<" not in strict.get(path, headers=foreign).text
    before = service.get("/v1/jobs"), service.get("/v1/datasets")
    job, dataset = (service.get(path)["items"][0]["id"] for path in ("/v1/jobs", "/v1/datasets"))
    forms = [f"/jobs/{job}/cancel", f"/jobs/{job}/decision/delete", f"/datasets/{dataset}/delete"]
    assert {strict.post(path, headers=foreign).status_code for path in [*forms, f"/datasets/{dataset}/expand"]} == {404}
    assert before == (service.get("/v1/jobs"), service.get("/v1/datasets"))


def test_a_form_that_another_sites_page_sends_is_refused(service: Service) -> None:
    job = service.job(service.ready(1))["id"]
    answer = service.client.post(f"/jobs/{job}/cancel", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert service.get(f"/v1/jobs/{job}")["state"] == "queued"


def test_a_wrong_field_of_the_form_is_led_to_and_named_as_a_request_has_it(service: Service) -> None:
    dataset = service.ready(1)
    sent = {"operator.inpaint.mask.gaussian_distance.sigma": "wide"}
    answer = service.client.post(f"/datasets/{dataset}/expand", data=sent)
    assert answer.status_code == 422
    field = "operator.inpaint.mask.gaussian_distance.sigma"
    assert f'<a href="#f-{field}"><code>operator.mask.sigma</code></a>' in answer.text
    assert f'id="f-{field}"' in answer.text
    assert "<code>operator.mask.sigma</code>" in service.client.post(f"/datasets/{dataset}/estimate", data=sent).text


def test_names_are_text_and_never_markup(service: Service) -> None:
    job = service.job(service.ready(1), name="<img src=x onerror=alert(1)>")["id"]
    text = service.client.get(f"/jobs/{job}").text
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text


def test_what_waits_says_why_and_what_to_do(service: Service) -> None:
    job = service.job(service.ready(1))["id"]
    assert "No worker has been seen for half a minute" in service.client.get(f"/jobs/{job}").text


def test_images_are_judged_one_by_one_and_the_last_word_can_be_taken_back(service: Service) -> None:
    job = service.job(service.ready(3))["id"]
    page = f"/jobs/{job}/review"
    assert "No image is made yet" in service.client.get(page).text
    service.do(6)

    def judge(item: str, verdict: str, **more: str) -> str:
        answer = service.client.post(page, data={"item": item, "verdict": verdict, **more}, follow_redirects=False)
        assert answer.status_code == 303
        return str(answer.headers["location"])

    def shown(path: str = page) -> str:
        found = re.search(r'name="item" value="(\d+)"', service.client.get(path).text)
        assert found
        return found[1]

    first = shown()
    assert judge(first, "reject", reason="blurred") == f"{page}?last={first}"
    second = shown(f"{page}?last={first}")
    assert second != first
    judge(second, "accept")
    assert service.get(f"/v1/jobs/{job}/verdicts") == {"accepted": 1, "rejected": 1, "undecided": 4}
    said = service.get(f"/v1/jobs/{job}/items/{first}")["verdict"]
    assert (said["verdict"], said["reason"]) == ("reject", "blurred")
    assert judge(first, "undo") == f"{page}?item={first}"
    assert shown(f"{page}?item={first}") == first
    assert judge(first, "accept", back="true") == f"/jobs/{job}/items/{first}"
    assert service.get(f"/v1/jobs/{job}/verdicts")["accepted"] == 2


def test_filters_say_what_they_would_leave_out_and_order_the_next_zip(service: Service) -> None:
    job = service.job(service.ready(2), variants=1)["id"]
    service.do(2)
    service.pack(b"zip")
    drawn = {"min.psnr_kept": "", "max.seconds": "1"}
    outlook = service.client.post(f"/jobs/{job}/filters/outlook", data=drawn).text
    assert "of 2 images" in outlook
    wrong = service.client.post(f"/jobs/{job}/filters/outlook", data={"min.seconds": "3", "max.seconds": "1"}).text
    assert "min 3 is above max 1" in wrong
    everything = {"min.psnr_kept": "1"}
    answer = service.client.post(f"/jobs/{job}/filters", data=everything, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job}")
    archive = service.get(f"/v1/jobs/{job}")["archive"]
    assert [each["measure"] for each in archive["filters"]] == ["psnr_kept"]
    assert archive["revision"] == 2


def test_a_blinded_review_tells_nothing_before_the_last_answer(service: Service) -> None:
    job = service.job(service.ready(4), variants=1)["id"]
    service.do(4)
    begun = service.client.post(f"/jobs/{job}/blind", data={"count": "4", "seed": "3"}, follow_redirects=False)
    page = begun.headers["location"]
    for _ in range(4):
        text = service.client.get(page).text
        card = re.search(r'name="card" value="([0-9a-f]{16})"', text)
        assert card
        assert "right</h1>" not in text
        service.client.post(page, data={"card": card[1], "answer": "real"})
    assert "of 4 right</h1>" in service.client.get(page).text
    assert "of 4" in service.client.get(f"/jobs/{job}/blind").text


def test_what_happened_is_told_in_order_with_its_times(service: Service) -> None:
    job = service.job(service.ready(1), variants=2)["id"]
    for what in ("pause", "resume"):
        service.client.post(f"/jobs/{job}/{what}")
    lost = service.claim(1)[0]
    with service.sessions.write() as session:
        session.execute(update(Item).where(Item.id == lost.item_id).values(lease_until=0.0))
        assert items.sweep(session) == 1
    told = history(service, job)
    assert told[:2] == ["asked for.", "paused."]
    assert set(told[2:4]) == {"resumed.", "the first image was begun."}
    assert told[4:] == [
        "a worker vanished, and 1 image was interrupted.",
        "1 image was interrupted (1 still to be begun again). None is lost.",
    ]
    for _ in range(2):
        service.do(1)
    told = history(service, job)
    assert told[3:] == [
        "a worker vanished, and 1 image was interrupted.",
        "000.png, variant 1, was begun again.",
        "over.",
        "1 image was interrupted. None is lost.",
    ]


def history(service: Service, job: str) -> list[str]:
    """What a job's page says happened, without the times."""
    section = service.client.get(f"/jobs/{job}").text.partition('id="happened"')[2].partition("</ul>")[0]
    lines = re.findall(r"<li>(.*?)</li>", section, re.S)
    assert [line.startswith("<time") for line in lines].count(False) == ("None is lost" in section)
    return [re.sub(r"<time.*?</time>: |<[^>]*>", "", line) for line in lines]


def test_a_set_with_nothing_to_train_on_is_expanded_whole_unless_something_else_is_chosen(service: Service) -> None:
    page = f"/datasets/{service.ready(0, valid=2)}/expand"
    text = service.client.get(page).text
    assert 'name="splits" value="valid" checked' in text
    assert "It has no split <code>train</code>" in text
    both = service.client.get(f"/datasets/{service.ready(2, valid=2)}/expand").text
    assert 'name="splits" value="train" checked' in both
    assert 'name="splits" value="valid">' in both
    assert "It has no split" not in both
    answer = service.client.post(page, data={"splits": "test"})
    assert answer.status_code == 422
    assert 'id="f-splits-wrong"' in answer.text


def test_a_form_leaves_the_canvas_to_the_images_and_says_what_it_comes_to(service: Service) -> None:
    dataset = service.ready(1)
    page = f"/datasets/{dataset}/expand"
    (field,) = re.findall(r'<input[^>]*id="f-canvas\.long_side"[^>]*>', service.client.get(page).text)
    assert 'value=""' in field
    assert 'placeholder="as the images"' in field
    for asked, side in (("", WIDTH), ("64", 64)):
        estimate = service.client.post(f"/datasets/{dataset}/estimate", data={"canvas.long_side": asked}).text
        assert f"<dt>Canvas</dt><dd>{side} px</dd>" in estimate


@pytest.mark.parametrize("preset", ["balanced", "reference"])
def test_the_mask_of_a_form_is_that_of_its_job(service: Service, preset: str) -> None:
    dataset = service.ready(1)
    job = service.job(dataset, variants=1, sampler={"preset": preset})
    (item,) = service.get(f"/v1/jobs/{job['id']}/items")["items"]
    asked: dict[str, Any] = {"image": item["image_id"], "sampler.preset": preset}
    paths = f"/datasets/{dataset}/mask", f"/v1/jobs/{job['id']}/items/{item['id']}/mask"
    shown, used = (np.asarray(Picture.open(BytesIO(service.client.get(path, params=asked).content))) for path in paths)
    np.testing.assert_array_equal(shown.max(axis=2) != shown.min(axis=2), used == 0)


def test_a_form_asks_whom_to_tell_where_the_installation_can_tell(
    service: Service, sessions: Sessions, storage: Folder, hints: list[Task]
) -> None:
    dataset = service.ready(1)
    page = f"/datasets/{dataset}/expand"
    assert "webhook" not in service.client.get(page).text
    able = app_client(sessions, storage, hints, webhook_secret="whsec_" + "A" * 32)
    assert 'name="webhook"' in able.get(page).text
    url = "https://lab.example/hook"
    assert able.post(page, data={"webhook": url}, follow_redirects=False).status_code == 303
    assert service.get("/v1/jobs")["items"][0]["webhook"]["url"] == url
    refused = able.post(page, data={"webhook": "http://192.168.0.1/"})
    assert refused.status_code == 422
    assert 'id="f-webhook-wrong"' in refused.text
