"""What Prometheus is told."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from service import MISSING, Service

from api.metrics import Metrics
from shared import workers
from shared.db import Sessions, make_sessions
from shared.figures import Meter

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "regrow.json"
GPU, SWEEP = "machine:7", "sweep@machine:8"


def told(service: Service) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Each figure, by its name and labels."""
    answer = service.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def figure(service: Service, name: str, **labels: str) -> float:
    return told(service)[name, frozenset(labels.items())]


def work(sessions: Sessions) -> None:
    """A gpu worker and a sweep leave their figures."""
    meter, lost = Meter(), Meter()
    for seconds in (2.0, 20.0):
        meter.made(seconds)
    meter.step(80)
    meter.failed()
    lost.lapsed("items", 4)
    with sessions.write() as session:
        workers.seen(session, GPU, "gpu", "cuda:0, NVIDIA H100", figures=meter.read((3, 80)))
        workers.seen(session, SWEEP, "", "", figures=lost.read())


def test_items_the_queue_and_what_workers_counted_are_told(service: Service) -> None:
    service.job(service.ready(2), variants=2)
    service.do(1)
    service.claim(1)
    work(service.sessions)
    found = told(service)

    def of(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    assert [of("regrow_items", state=state) for state in ("pending", "running", "done")] == [2, 1, 1]
    assert of("regrow_queue_depth", kind="items") == 2
    assert of("regrow_open_jobs") == of("regrow_database_up") == 1
    assert 0 <= of("regrow_oldest_waiting_job_seconds") < 600
    assert of("regrow_item_seconds_count", worker=GPU) == of("regrow_item_seconds_bucket", worker=GPU, le="+Inf") == 2
    assert of("regrow_item_seconds_bucket", worker=GPU, le="3.0") == 1
    assert of("regrow_item_seconds_sum", worker=GPU) == 22
    assert of("regrow_sampler_steps_total", worker=GPU) == 80
    assert of("regrow_item_failures_total", worker=GPU) == 1
    assert of("regrow_device_memory_used_bytes", worker=GPU) == 3
    assert of("regrow_device_memory_bytes", worker=GPU) == 80
    assert of("regrow_lapses_total", worker=SWEEP, kind="items") == 4
    assert of("regrow_worker_up", worker=GPU, queues="gpu", device="cuda:0, NVIDIA H100", trouble="") == 1
    assert of("regrow_worker_up", worker=SWEEP, queues="sweep", device="", trouble="") == 1


def test_requests_are_counted_by_route_and_status_and_no_name_is_a_label(service: Service) -> None:
    for name in ("Anna", "Berta"):
        service.client.get(f"/v1/priors/{name}")
        service.client.get(f"/nowhere/{name}")
        service.client.request("BREW", f"/{name}")
    service.client.get(f"/v1/jobs/{MISSING}", headers={"Host": "evil.example"})
    requests = {
        labels: value for (name, labels), value in told(service).items() if name == "regrow_http_requests_total"
    }
    assert {tuple(sorted(dict(labels).values())): value for labels, value in requests.items()} == {
        ("/v1/priors/{name}", "404", "GET"): 2,
        ("(no route)", "404", "GET"): 2,
        ("(no route)", "404", "OTHER"): 2,
        ("(no route)", "403", "GET"): 1,
    } or pytest.fail(str(requests))
    assert figure(service, "regrow_http_request_seconds_count", method="GET", route="/v1/priors/{name}") == 2


def test_a_defect_counts_too(service: Service) -> None:
    def broken() -> None:
        raise RuntimeError("no")

    service.client.app.add_api_route("/broken", broken)  # type: ignore[union-attr]
    service.client.get("/broken")
    assert figure(service, "regrow_http_requests_total", method="GET", route="/broken", status="500") == 1


def test_the_database_is_asked_once_however_many_ask(service: Service) -> None:
    service.client.get("/metrics")
    with service.queries() as asked:
        for _ in range(3):
            service.client.get("/metrics")
    assert asked == []


def test_openmetrics_is_spoken_to_who_asks_for_it(service: Service) -> None:
    answer = service.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_a_database_that_is_away_is_told_and_the_rest_too(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    away = make_sessions(f"sqlite:///{tmp_path / 'db'}")
    metrics = Metrics(away)
    metrics.answered("GET", "/healthz", 200, 0.1)
    found = {s.name: s.value for family in metrics.registry.collect() for s in family.samples}
    assert found["regrow_database_up"] == 0
    assert found["regrow_http_requests_total"] == 1
    assert "regrow_items" not in found
    away.dispose()


def test_the_dashboard_asks_for_what_there_is(service: Service) -> None:
    service.job(service.ready(1))
    work(service.sessions)
    service.client.get("/healthz")
    there: dict[str, set[str]] = {}
    for name, labels in told(service):
        there.setdefault(name, set()).update(dict(labels))
    board = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(asked) > 10
    for expression in asked:
        names = set(re.findall(r"\b((?:regrow|process)_\w+)", expression))
        assert names, expression
        assert names <= set(there), expression
        grouped = re.findall(r"(?:by|without) ?\(([^)]*)\)", expression)
        selected = re.findall(r"(\w+) ?(?:=~|!~|!=|=) ?\"", expression)
        labels = {label.strip() for group in grouped for label in group.split(",")} | set(selected)
        known = set().union(*(there[name] for name in names)) | {"instance", "job", "le"}
        assert labels <= known, expression
    # And nothing is left out of it but what a panel has no use for.
    shown = set(re.findall(r"\b(regrow_\w+)", json.dumps(asked)))
    families = {re.sub(r"_(total|bucket|count|sum|created)$", "", name) for name in there if name.startswith("regrow_")}
    assert families - {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in shown} <= {"regrow_census_seconds"}


def test_the_page_for_operators_names_every_figure(service: Service) -> None:
    work(service.sessions)
    service.client.get("/healthz")
    page = (ROOT / "docs" / "operations.md").read_text()
    named = set(re.findall(r"`(regrow_\w+)`", page))
    families = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for name, _ in told(service)
        if name.startswith("regrow_") and not name.endswith("_created")
    }
    assert named == families
