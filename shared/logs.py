"""Lines of the log: JSON where a program reads them, words where a person does, each with the ids of what it is about.

Modules log by `logging`; what uvicorn and Celery say takes the same way. No line holds a secret, nor what a user has
named: an exception's words are left out unless its kind quotes nothing, and rows tell their owner the rest.
"""

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Literal, TextIO

import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from structlog.typing import Processor

Form = Literal["auto", "json", "text"]
Level = Literal["debug", "info", "warning", "error"]
_Event = MutableMapping[str, Any]

_WITHHELD = "(not in the log, as it may quote what a user has named)"
_SECRETS = (
    (re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@"), r"\1:***@"),
    (re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]{6,}"), r"\1 ***"),
    (re.compile(r"\b(rg_|whsec_)[\w+/=-]{6,}"), r"\1***"),
)


@contextmanager
def about(**ids: str | int | None) -> Iterator[None]:
    """All that is logged in the block, by this thread, carries these ids; None is left out."""
    with structlog.contextvars.bound_contextvars(**{name: value for name, value in ids.items() if value is not None}):
        yield


def note(**ids: str | int) -> None:
    """The same until the block around this ends, or the request."""
    structlog.contextvars.bind_contextvars(**ids)


def request_id() -> str | None:
    """The id of the request that is being answered, if any is."""
    found: str | None = structlog.contextvars.get_contextvars().get("request")
    return found


def configure(process: str, form: Form, level: Level) -> None:
    """Send all lines of this process, which calls itself `process`, to standard error.

    `auto` is text on a terminal and JSON elsewhere. May be called again.
    """
    handler = _ToStandardError()
    handler.setFormatter(_formatter(process, as_json=is_json(form)))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _ToStandardError)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    # They have handlers of their own by the time this is called.
    for name in ("uvicorn", "uvicorn.error", "celery", "celery.task"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # Its lines hold whole paths; `api.follow` writes one a request that does not.
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
    # It names each address that is asked, with all that is in it.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # It says at each look at the database's revision that it looks.
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)


def is_json(form: Form) -> bool:
    """Whether lines are to be JSON."""
    return form == "json" or (form == "auto" and not sys.stderr.isatty())


class _ToStandardError(logging.StreamHandler[TextIO]):
    """Asks for standard error at each line, as tests exchange it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def _formatter(process: str, *, as_json: bool) -> logging.Formatter:
    def who(_logger: Any, _method: str, event: _Event) -> _Event:
        event.update(process=process, pid=os.getpid())
        return event

    last: Processor = (
        structlog.processors.JSONRenderer(default=str)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="at")
    )
    return _Formatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            who,
        ],
        processors=[
            _without_arguments,
            _with_traceback,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _without_secrets,
            last,
        ],
        pass_foreign_args=True,
    )


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Exceptions among a line's arguments are told by their `words` too."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            record = logging.makeLogRecord(record.__dict__)
            record.args = tuple(words(arg) if isinstance(arg, BaseException) else arg for arg in record.args or ())
        return super().format(record)


def _without_arguments(_logger: Any, _method: str, event: _Event) -> _Event:
    """Celery puts an exception's words and traceback into the line itself."""
    given = event.pop("positional_args", None)
    if event.get("logger") == "celery.app.trace" and isinstance(given, dict) and "exc" in given:
        event["event"] = f"{given.get('name')} {given.get('description')}"
    return event


def _with_traceback(_logger: Any, _method: str, event: _Event) -> _Event:
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_told(error))
    return event


def _told(error: BaseException) -> Iterator[str]:
    """An exception as Python tells it, but for words that may not be in a log."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _told(before)
        yield "The above led to:"
    yield "Traceback (most recent call last):"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
    yield f"{type(error).__module__}.{type(error).__qualname__}: {words(error)}"


def words(error: BaseException) -> str:
    """What an exception says, if its kind quotes nothing that a user has named."""
    if isinstance(error, OperationalError | InterfaceError):
        # The driver's first line: after that come values, and SQLAlchemy adds the statement.
        return next(iter(str(error.orig).splitlines()), "")
    if isinstance(error, DBAPIError):
        return _WITHHELD
    system = isinstance(error, OSError) and error.errno is not None
    of_the_broker = type(error).__module__.partition(".")[0] in ("redis", "kombu")
    if system or of_the_broker or isinstance(error, RuntimeError | MemoryError | SystemExit):
        return str(error)
    return _WITHHELD


def _without_secrets(_logger: Any, _method: str, event: _Event) -> _Event:
    for name in ("event", "exception"):
        if name in event:
            text = str(event[name])
            for secret, instead in _SECRETS:
                text = secret.sub(instead, text)
            event[name] = text
    return event
