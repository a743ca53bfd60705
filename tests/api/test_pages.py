"""Lists, page by page."""

import pytest
from service import Service, on_both_databases
from sqlalchemy import update

from shared.models import Dataset


def datasets(service: Service) -> str:
    for _ in range(5):
        service.ready(1)
    with service.sessions.write() as session:
        # Made in the same instant: then the id decides.
        session.execute(update(Dataset).values(created_at=1_700_000_000.125))
    return "/v1/datasets"


def jobs(service: Service) -> str:
    dataset_id = service.ready(1)
    for _ in range(5):
        service.job(dataset_id)
    return "/v1/jobs"


def images(service: Service) -> str:
    return f"/v1/datasets/{service.ready(5)}/images"


def items(service: Service) -> str:
    return f"/v1/jobs/{service.job(service.ready(5), variants=1)['id']}/items"


def audit(service: Service) -> str:
    dataset_id = service.ready(1)
    for _ in range(5):
        service.job(dataset_id)
    return "/v1/audit"


@pytest.fixture(params=[datasets, jobs, images, items, audit])
def path(request: pytest.FixtureRequest, service: Service) -> str:
    """A list of five."""
    made: str = request.param(service)
    return made


@on_both_databases
def test_the_pages_are_the_list(service: Service, path: str) -> None:
    whole = service.get(path)
    assert whole["next"] is None
    assert len({entry["id"] for entry in whole["items"]}) == 5
    for limit in (1, 2, 5):
        found, url = [], f"{path}?limit={limit}"
        while url:
            answer = service.client.get(url)
            assert len(answer.json()["items"]) <= limit
            found += answer.json()["items"]
            assert len(found) <= 5
            url = answer.links.get("next", {}).get("url", "")
            assert bool(url) == bool(answer.json()["next"])
        assert found == whole["items"]


def test_what_is_made_meanwhile_shifts_no_page(service: Service) -> None:
    dataset_id = service.ready(1)
    old = [service.job(dataset_id)["id"] for _ in range(3)]
    first = service.get("/v1/jobs?limit=2")
    service.job(dataset_id)
    second = service.get(f"/v1/jobs?limit=2&cursor={first['next']}")
    assert [job["id"] for job in first["items"] + second["items"]] == old[::-1]


def test_a_link_to_the_next_page_keeps_what_was_asked_for(service: Service) -> None:
    path = f"/v1/datasets/{service.ready(2, valid=3)}/images?split=valid&limit=2"
    following = service.client.get(service.client.get(path).links["next"]["url"]).json()
    assert [image["split"] for image in following["items"]] == ["valid"]


def test_a_cursor_that_is_none_is_refused_by_name(service: Service, path: str) -> None:
    other = "/v1/jobs" if path.endswith(("images", "items")) else f"/v1/datasets/{service.ready(2)}/images"
    if other == "/v1/jobs":
        for _ in range(2):
            service.job(service.ready(1))
    of_another_list = service.get(f"{other}?limit=1")["next"]
    for cursor in ("nonsense", "é", "", "W10", "WzFd.", "WzFlOTk5LCAiYSJd", of_another_list):
        problem = service.get(f"{path}?cursor={cursor}", 422)
        assert problem["errors"][0]["where"] == "query.cursor"


@pytest.mark.parametrize("limit", ["0", "501", "-1", "many"])
def test_a_limit_out_of_range_is_refused_by_name(service: Service, limit: str) -> None:
    assert service.get(f"/v1/jobs?limit={limit}", 422)["errors"][0]["where"] == "query.limit"


@on_both_databases
def test_a_longer_list_takes_no_more_queries(service: Service) -> None:
    dataset_id = service.ready(1)
    asked = []
    for more in (2, 18):
        for _ in range(more):
            service.job(dataset_id, reuse=False)
        service.do(1)
        with service.queries() as queries:
            assert service.get("/v1/jobs")["items"]
        asked.append(len(queries))
    assert asked[0] == asked[1]
