"""The client listens to the real API."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow import Client
from regrow.client import over
from regrow.errors import ProblemError
from regrow.events import Message, Progress, Settled, StateChanged, messages
from shared import jobs


def items_of(told):
    return {event.item["id"]: event.item["state"] for event in told if isinstance(event, Settled)}


def test_a_job_is_listened_to_from_its_beginning_to_its_archive(client, service, dataset_id):
    service.open.clear()
    job = client.create_job({"dataset_id": dataset_id, "reuse": False})
    told = []
    for event in client.events(job["id"]):
        told.append(event)
        service.open.set()
    assert told[0] == Progress(job)
    assert told[-1] == Progress(client.job(job["id"]))
    assert over(told[-1].job)
    assert items_of(told) == {item["id"]: "done" for item in client.items(job["id"])}
    assert len(items_of(told)) == 6
    assert StateChanged("succeeded") in told


def test_a_job_that_is_over_is_told_in_one_event(client, finished):
    assert list(client.events(finished["id"])) == [Progress(finished)]


def test_a_broken_connection_is_made_again_and_nothing_is_missed(client, service, dataset_id):
    service.open.clear()
    service.line.cut = [1, 4000, 6000]
    job = client.create_job({"dataset_id": dataset_id, "variants": 5, "reuse": False})
    told = []
    for event in client.events(job["id"]):
        told.append(event)
        service.open.set()
        if len(told) == 1:
            service.line.busy = 2
    assert items_of(told) == {item["id"]: "done" for item in client.items(job["id"])}
    assert [event for event in told if isinstance(event, Progress)][-1] == Progress(client.job(job["id"]))
    requests = [request for request in service.line.requests("GET", "/events") if request.answered == 200]
    assert len(requests) == 4
    assert ["Last-Event-ID" in request.headers for request in requests] == [False, False, True, True]


def test_a_job_that_is_not_there_is_a_problem(client):
    with pytest.raises(ProblemError, match="There is no job") as caught:
        next(client.events("0" * 32))
    assert caught.value.status == 404


def test_a_job_that_is_deleted_while_one_listens_is_a_problem(client, service, dataset_id):
    service.open.clear()
    job = client.create_job({"dataset_id": dataset_id})
    events = client.events(job["id"])
    next(events)
    with service.sessions.write() as session:
        jobs.delete(session, jobs.get(session, "local", job["id"]))
    with pytest.raises(ProblemError, match="There is no job"):
        list(events)


def test_an_answer_that_is_no_stream_of_events_is_not_taken_for_one():
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<h1>hello</h1>")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with Client(url) as client, pytest.raises(ProblemError, match="not as Regrow does"):
            list(client.events("0" * 32))
        server.shutdown()


@given(st.lists(st.integers(0, 200)))
def test_a_stream_says_the_same_however_it_is_cut_into_pieces(cuts):
    line_ends_in_a_name = '{"path": "a\u2028b\x85c\x0bd: e.png"}'
    stream = f": ping\n\nid: 1.5\nevent: item\ndata: {line_ends_in_a_name}\n\n: ping\n\nevent: state\ndata: {{}}\n\n"
    data = stream.encode()
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    assert list(messages(pieces)) == [Message("1.5", "item", line_ends_in_a_name), Message("", "state", "{}")]
