"""Signing in and out with a key."""

from typing import Annotated

from fastapi import Form, Query, Request, Response

from api import auth
from api.deps import SessionsDep
from api.routes import session as rest
from api.web.site import go, router, show
from shared.errors import Unauthorized

pages = router()

_Then = Annotated[str, Query(max_length=2000, description="Where to go on, a path of ours.")]


@pages.get(auth.SIGN_IN, name="page_sign_in")
def show_sign_in(request: Request, then: _Then = "/datasets") -> Response:
    """Where a key is asked for."""
    return show(request, "sign-in.html", then=_ours(then), wrong="")


@pages.post(auth.SIGN_IN, name="page_signed_in")
def sign_in(
    request: Request,
    sessions: SessionsDep,
    key: Annotated[str, Form(max_length=200)] = "",
    then: Annotated[str, Form(max_length=2000)] = "/datasets",
) -> Response:
    """Exchange a key for a cookie, and go on to where one wanted to."""
    answer = go(_ours(then))
    try:
        rest.sign_in(rest.SignIn(key=key or "-"), sessions, request, answer)
    except Unauthorized as error:
        return show(request, "sign-in.html", status=error.status, then=_ours(then), wrong=error.detail)
    return answer


@pages.post("/sign-out", name="page_sign_out")
def sign_out(request: Request, sessions: SessionsDep) -> Response:
    """Take the cookie back."""
    answer = go(auth.SIGN_IN)
    rest.sign_out(sessions, request, answer)
    return answer


def _ours(path: str) -> str:
    """The path, if it is one of this service's and of no other's: `//evil` and `/\\evil` are another's."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/datasets"
