"""What every answer tells a browser, and that the documentation works under it, offline."""

import shutil
from typing import Any

import anyio
import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from service import MISSING, Service

from api.headers import HEADERS, SecurityHeaders


def test_every_answer_has_them(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = service.ready()
    asked = [
        ("GET", "/docs", 200),
        ("GET", "/docs/swagger-ui.css", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/v1/jobs", 200),
        ("GET", f"/v1/datasets/{dataset}/images/1/file", 200),
        ("GET", "/", 307),
        ("GET", "/nothing", 404),
        ("PUT", "/v1/jobs", 405),
        ("OPTIONS", "/v1/uploads", 204),
        ("POST", "/v1/jobs", 422),
    ]
    answers = [(service.client.request(method, path, follow_redirects=False), status) for method, path, status in asked]
    answers.append((service.client.get("/", headers={"Host": "evil.example"}), 403))
    monkeypatch.setattr("shared.jobs.get", _fails)
    answers.append((service.client.get(f"/v1/jobs/{MISSING}/items"), 500))
    for answer, status in answers:
        assert answer.status_code == status
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert "Strict-Transport-Security" not in answer.headers


def test_a_stream_is_told_of_them_before_it_ends(live: Service) -> None:
    job = live.job(live.ready())["id"]
    with live.client.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
        assert next(answer.iter_lines()) == "id: 0.000000"


@pytest.mark.parametrize(
    ("scheme", "hsts", "told"),
    [("https", 60, [(b"strict-transport-security", b"max-age=60")]), ("https", 0, []), ("http", 60, [])],
)
def test_over_tls_a_browser_is_told_to_stay_with_it(scheme: str, hsts: int, told: list[Any]) -> None:
    sent: list[dict[str, Any]] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    anyio.run(SecurityHeaders(app, hsts), {"type": "http", "scheme": scheme}, None, send)
    assert [header for header in sent[0]["headers"] if header[0].startswith(b"strict")] == told


@pytest.fixture
def page(live: Service) -> Any:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(base_url=str(live.client.base_url))
        yield page
        browser.close()


def test_the_documentation_can_be_used_and_needs_nobody_else(page: Page, live: Service) -> None:
    asked, complaints = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/docs")
    expect(page.get_by_text("Expand a dataset", exact=True)).to_be_visible()
    page.get_by_text("Is the API there?").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.get_by_text('"status": "ok"').first).to_be_visible()
    assert complaints == []
    assert {httpx.URL(url).host for url in asked if not url.startswith("data:")} == {"127.0.0.1"}


def test_a_script_in_a_page_does_not_run(page: Page) -> None:
    page.goto("/docs")
    complaint = page.evaluate(
        """() => new Promise(resolve => {
            document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "document.title = 'taken over'";
            document.body.append(script);
            setTimeout(() => resolve("none"), 5000);
        })"""
    )
    assert complaint == "script-src-elem"
    assert page.title() == "Regrow: the REST API"


def _fails(*_: Any) -> None:
    raise RuntimeError("a defect")
