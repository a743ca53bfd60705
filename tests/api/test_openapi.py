"""What the API says of itself."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service import Service

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@pytest.fixture
def document(service: Service) -> dict[str, Any]:
    made: dict[str, Any] = service.get("/openapi.json")
    return made


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def test_operations_are_named_as_clients_call_them(document: dict[str, Any]) -> None:
    assert [operation["operationId"] for _, operation in operations(document)] == [
        "create_dataset",
        "list_datasets",
        "get_dataset",
        "delete_dataset",
        "list_images",
        "get_image_file",
        "get_image_preview",
        "ask_about_uploads",
        "create_upload",
        "list_uploads",
        "get_upload",
        "add_to_upload",
        "delete_upload",
        "preview_mask",
        "create_job",
        "list_jobs",
        "estimate_job",
        "get_job",
        "delete_job",
        "cancel_job",
        "pause_job",
        "resume_job",
        "retry_job",
        "upgrade_job",
        "listen_to_job",
        "list_items",
        "get_item",
        "get_item_image",
        "get_item_preview",
        "get_item_pair",
        "get_item_difference",
        "get_item_mask",
        "judge_items",
        "count_verdicts",
        "begin_review",
        "list_reviews",
        "get_review",
        "answer_review",
        "get_card_picture",
        "get_measures",
        "preview_filters",
        "get_report",
        "get_methods",
        "get_archive",
        "pack_job",
        "forget_images",
        "list_receipts",
        "get_receipt",
        "list_priors",
        "create_prior",
        "fetch_prior",
        "get_prior",
        "delete_prior",
        "get_prior_facts",
        "get_prior_samples",
        "list_trainings",
        "get_training",
        "delete_training",
        "get_training_preview",
        "get_training_history",
        "cancel_training",
        "retry_training",
        "list_fetches",
        "get_fetch",
        "delete_fetch",
        "cancel_fetch",
        "list_audit",
        "get_session",
        "sign_in",
        "sign_out",
        "get_health",
        "get_readiness",
        "get_metrics",
    ]


def test_every_operation_says_what_it_does_and_how_it_may_fail(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    for path, operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
        answers = operation["responses"]
        assert {"403", "500", "503"} <= set(answers)
        if "{" in path:
            assert "404" in answers
        if "requestBody" in operation:
            assert {"400", "413", "422"} <= set(answers)
        if "parameters" in operation:
            assert "422" in answers
        for status, answer in answers.items():
            if int(status) >= 400 and (path, status) != ("/readyz", "503"):
                assert answer["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                }


def test_every_field_of_a_request_says_what_it_is_for(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for request in ("ExpansionSpec", "TrainingSpec"):
        fields = schemas[request]["properties"]
        assert len(fields) > 10
        for field in fields.values():
            kind = schemas.get(field.get("$ref", "").rpartition("/")[2], {})
            assert field.get("description") or kind["description"]
    for _, operation in operations(document):
        assert all(parameter["description"] for parameter in operation.get("parameters", []))


def test_the_version_is_that_of_the_project(document: dict[str, Any]) -> None:
    assert document["info"]["version"] == tomllib.loads(PYPROJECT.read_text())["project"]["version"]


def test_the_front_page_leads_to_the_datasets_and_the_documentation_is_there(service: Service) -> None:
    answer = service.client.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/datasets")
    assert service.client.get("/docs").status_code == 200


def test_all_operations_need_a_key_but_those_that_are_open(document: dict[str, Any]) -> None:
    assert [list(way) for way in document["security"]] == [["key"], ["cookie"]]
    assert set(document["components"]["securitySchemes"]) == {"key", "cookie"}
    unasked = {operation["operationId"] for _, operation in operations(document) if operation.get("security") == []}
    assert unasked == {"get_health", "get_readiness", "sign_in"}
