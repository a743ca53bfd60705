"""Requests that nobody thought of: what the OpenAPI document allows, and what it does not, is answered as it says.

`make fuzz` looks for longer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import serving
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks
from service import Service

from api import tus
from api.main import create_app
from migrations import upgrade
from shared.db import make_sessions
from shared.fetches import FetchSpec
from shared.models import Fetch, Prior, Training
from shared.settings import Settings
from shared.storage import Folder

_CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
_UNFIT = {
    # Its 503 is an answer.
    "GET /readyz": not_a_server_error,
    # The document speaks of the stream's text, schemathesis of each event in it.
    "GET /v1/jobs/{job_id}/events": checks.response_schema_conformance,
}


@schemathesis.serializer(tus.PIECE)
def as_it_is(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def document() -> dict[str, Any]:
    app = create_app(Settings(_env_file=None), make_sessions("sqlite://"), Folder(Path("none")), print, print)
    return app.openapi()


def last(label: str) -> int:
    """What only looks is asked before what changes something, and that before what deletes."""
    return 2 if label.startswith("DELETE") or label.endswith("/forget") else int(not label.startswith("GET"))


_FOUND = [each.ok() for each in schemathesis.openapi.from_dict(document()).get_all_operations()]
OPERATIONS = {each.label: each for each in sorted(_FOUND, key=lambda each: last(each.label))}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all, on a real port."""
    data = tmp_path_factory.mktemp("service")
    sessions, storage = make_sessions(f"sqlite:///{data / 'regrow.db'}"), Folder(data / "storage")
    upgrade(sessions.engine)
    with sessions.write() as session:
        session.add(Prior(name="builtin", sha256="a" * 64, native_size=128, multiple=16, size=7, card="# Built-in"))
    some = Settings(data=data, max_upload_bytes=5000, max_items=500, hub_allow="*/*", _env_file=None)
    app = create_app(some, sessions, storage, lambda _: None, lambda: None)
    with serving(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        yield Service(client, sessions, storage, [])
    sessions.dispose()


@pytest.fixture(scope="module")
def ids(live: Service) -> dict[str, Any]:
    """Of what there is."""
    return there(live)


def there(service: Service) -> dict[str, Any]:
    """Ids of what there is: a dataset, a job that is over and has its archive, a training, an upload."""
    dataset = service.ready(3)
    job = service.job(dataset, variants=1)["id"]
    service.do(3)
    service.pack(b"PK")
    review = service.client.post(f"/v1/jobs/{job}/reviews", json={"count": 2}).json()
    receipt = service.client.post(f"/v1/datasets/{dataset}/forget", json={"match": "*002*"}).json()["id"]
    service.pack(b"PK")
    upload = service.client.post("/v1/uploads", headers={"Tus-Resumable": tus.VERSION, "Upload-Length": "4000"})
    with service.sessions.write() as session:
        training = Training(owner="local", name="mine", dataset_id=dataset, request_sha256="", settings={}, images=3)
        fetch = Fetch(
            owner="local",
            name="coming",
            repo="lab/sd",
            revision="0" * 40,
            options=FetchSpec(repo="lab/sd", revision="0" * 40).options,
        )
        session.add_all([training, fetch])
    return {
        "dataset_id": dataset,
        "job_id": job,
        "image_id": service.get(f"/v1/datasets/{dataset}/images")["items"][0]["id"],
        "item_id": service.get(f"/v1/jobs/{job}/items")["items"][0]["id"],
        "receipt_id": receipt,
        "review_id": review["id"],
        "card_id": review["cards"][0]["id"],
        "upload_id": upload.json()["id"],
        "training_id": training.id,
        "fetch_id": fetch.id,
        "name": "builtin",
    }


@pytest.mark.parametrize("label", OPERATIONS)
def test_whatever_is_asked_is_answered_as_the_document_says(live: Service, ids: dict[str, Any], label: str) -> None:
    cases = st.one_of(OPERATIONS[label].as_strategy(mode) for mode in GenerationMode)
    # Whether it is about what there is, or about what was made up: then most is not found.
    about = st.sampled_from([{}, ids])

    @settings(
        max_examples=max(6, settings().max_examples // 100),
        deadline=None,
        database=None,
        derandomize=settings().max_examples == 100,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases, about)
    def ask(case: Any, about: dict[str, Any]) -> None:
        case.headers.pop("Authorization", None)
        for values in (case.path_parameters, case.body):
            if isinstance(values, dict):
                values.update({name: about[name] for name in values if name in about})
        answer = case.call(base_url=str(live.client.base_url).rstrip("/"), allow_redirects=False)
        case.validate_response(answer, checks=[check for check in _CHECKS if check is not _UNFIT.get(label)])

    ask()
