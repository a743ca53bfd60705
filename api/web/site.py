"""What all pages share: templates, static files, and errors as pages."""

from collections.abc import Callable, Coroutine, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from api import VERSION, auth
from api.web import words
from shared.errors import Fault, RegrowError, told

_HERE = Path(__file__).parent
_SEE_OTHER = 303

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def router() -> APIRouter:
    """A router for pages: none is part of the REST API's description, and what they refuse is told as a page."""
    return APIRouter(include_in_schema=False, route_class=_Page, default_response_class=HTMLResponse)


def install(app: FastAPI) -> None:
    """Serve the files that pages are made of at `/static`."""
    app.mount("/static", GZipMiddleware(_Static(directory=_HERE / "static")), name="static")


def show(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A template of `templates/` as a page. `values` are what it is told."""
    # On what is open to all nobody has asked who it is.
    who = getattr(request.state, "caller", auth.NOBODY).name
    told = {"path": request.url.path, "version": VERSION, "who": "" if who == auth.NOBODY.name else who}
    text = _templates().get_template(template).render(**told, **values)
    return HTMLResponse(text, status, {"Cache-Control": "no-cache"})


def go(path: str) -> Response:
    """Where to go on after a form was taken."""
    return RedirectResponse(path, _SEE_OTHER)


class _Page(APIRoute):
    """A route whose refusals are pages. What is no refusal but a failure goes its usual way."""

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except RegrowError as error:
                return _refusal(request, error.status, error.title, error.detail, error.faults)
            except RequestValidationError as error:
                faults = told([{**each, "loc": each["loc"][-1:]} for each in error.errors()])
                return _refusal(request, 422, "Invalid request", "Some of what was sent cannot be.", faults)
            except HTTPException as error:
                return _refusal(request, error.status_code, "Not possible", error.detail)

        return answered


class _Static(StaticFiles):
    """Files that a browser keeps, and asks about each time: an upgrade is seen at once."""

    def file_response(self, full_path: Any, stat_result: Any, scope: Scope, status_code: int = 200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _refusal(request: Request, status: int, title: str, detail: str, faults: Iterable[Fault] = ()) -> Response:
    return show(request, "problem.html", status=status, title=title, detail=detail, faults=list(faults))


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= words.FILTERS
    return environment
