"""What a line of the log says, and what it does not."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from shared import logs
from shared.db import Sessions, make_sessions
from shared.errors import BadImage

PATIENT = "Anna_Mueller.png"
log = logging.getLogger("of.a.test")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests log as they did."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """The lines so far, each an object."""
    logs.configure("api", "auto", "info")
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


Lines = Callable[[], list[dict[str, Any]]]


def test_a_line_says_when_who_and_about_what(lines: Lines) -> None:
    with logs.about(job="j1", request=None), logs.about(item=7):
        log.warning("it took %d s", 3)
    log.info("afterwards")
    first, second = lines()
    assert {**first, "at": "", "pid": 0} == {
        "event": "it took 3 s",
        "level": "warning",
        "logger": "of.a.test",
        "process": "api",
        "job": "j1",
        "item": 7,
        "at": "",
        "pid": 0,
    }
    assert first["at"].endswith("Z")
    assert not {"job", "item"} & set(second)


def test_a_person_at_a_terminal_reads_words(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("api", "text", "info")
    with logs.about(job="j1"):
        log.info("hello")
    said = capsys.readouterr().err
    assert "hello" in said
    assert "job=j1" in said
    assert not said.startswith("{")


def test_less_than_the_level_is_not_written(lines: Lines) -> None:
    log.debug("small")
    assert lines() == []


def test_configured_twice_each_line_is_written_once(lines: Lines) -> None:
    logs.configure("api", "json", "info")
    log.info("once")
    assert len(lines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        BadImage(f"{PATIENT}: it is cut off"),
        ValueError(PATIENT),
        KeyError(PATIENT),
        UnicodeEncodeError("x", PATIENT, 0, 1, ""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_is_told_by_kind_and_place_without_what_it_quotes(lines: Lines, error: Exception) -> None:
    with pytest.raises(ValueError, match="because") as caught:
        _raise(ValueError(f"because of {PATIENT}"), error)
    log.error("it went wrong", exc_info=caught.value)
    (line,) = lines()
    assert type(error).__name__ in line["exception"]
    assert "test_logs.py" in line["exception"]
    assert "Mueller" not in json.dumps(line)


def test_what_the_machine_says_is_told(lines: Lines) -> None:
    log.error("storing failed", exc_info=OSError(28, "No space left on device", "storage/jobs/1"))
    assert "No space left on device: 'storage/jobs/1'" in lines()[0]["exception"]


def test_celerys_line_about_a_failed_task_holds_no_exception(lines: Lines) -> None:
    context = {"name": "regrow.expand", "id": "x", "description": "raised unexpected", "exc": f"KeyError('{PATIENT}')"}
    form = "Task %(name)s[%(id)s] %(description)s: %(exc)s"
    logging.getLogger("celery.app.trace").error(form, context)
    (line,) = lines()
    assert line["event"] == "regrow.expand raised unexpected"
    assert "Mueller" not in json.dumps(line)


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("cannot reach redis://:hunter22@broker:6379/0", "cannot reach redis://:***@broker:6379/0"),
        ("postgresql://regrow:hunter22@db/regrow", "postgresql://regrow:***@db/regrow"),
        ("sent Authorization: Bearer rg_abcdefgh12345678", "sent Authorization: Bearer ***"),
        ("the key rg_abcdefgh12345678 is unknown", "the key rg_*** is unknown"),
        ("signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "signed with whsec_***"),
    ],
)
def test_secrets_are_blotted_out(lines: Lines, said: str, written: str) -> None:
    log.error("%s", said)
    assert lines()[0]["event"] == written


def test_what_the_database_complains_of_holds_no_values(sessions: Sessions, lines: Lines) -> None:
    statement = text("INSERT INTO upload (id, owner, name) VALUES ('1', 'a', :name)")
    with pytest.raises(DBAPIError) as caught, sessions.write() as session:
        session.execute(statement, {"name": PATIENT})
    log.error("it does not want it: %s", logs.words(caught.value), exc_info=caught.value)
    # Nor where an exception is logged as it is.
    log.error("%s", caught.value)
    first, second = lines()
    assert "IntegrityError" in first["exception"]
    assert "Mueller" not in json.dumps([first, second])


def test_a_database_that_is_away_is_told_in_the_drivers_words(lines: Lines, tmp_path: Any) -> None:
    (tmp_path / "db").mkdir()
    away = make_sessions(f"sqlite:///{tmp_path / 'db'}")
    with pytest.raises(OperationalError) as caught, away.read() as session:
        session.execute(text("SELECT 1"))
    assert logs.words(caught.value) == "unable to open database file"
    away.dispose()


def test_uvicorns_own_lines_take_the_same_way(lines: Lines) -> None:
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logs.configure("api", "json", "info")
    logger.error("Exception in ASGI application")
    assert [(line["logger"], line["process"]) for line in lines()] == [("uvicorn.error", "api")]


def _raise(error: Exception, because: Exception) -> None:
    raise error from because
