"""Whose key it is, and signing in with it in a browser."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api import auth
from api.deps import CallerDep, SessionsDep
from api.problems import documented
from shared import keys

router = APIRouter(prefix=auth.SESSION, tags=["session"])


class SignIn(BaseModel):
    """A key, to be exchanged for a cookie."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] = Field(
        description="The key, as `regrow keys create` has told it."
    )


class Who(BaseModel):
    """Who is asking."""

    project: str = Field(description="Owns what is made and asked for. `local` for those who come without a key.")
    name: str = Field(description="The person or script that the key is for.")


@router.post("", summary="Sign in with a key", responses=documented(400, 413, 422))
def sign_in(asked: SignIn, sessions: SessionsDep, request: Request, response: Response) -> Who:
    """For browsers: sets a cookie (HttpOnly, SameSite=Lax, Secure under TLS), which counts for twelve hours at most and
    ends with the key. Changes under it must come from a page of this service, as browsers say in `Origin`."""
    with sessions.write() as session:
        holder = keys.holder(session, asked.key)
        keys.note_use(session, holder.key_id)
        token = keys.sign_in(session, holder)
    auth.set_cookie(request, response, token)
    return Who(project=holder.project, name=holder.name)


@router.get("", summary="Who am I?")
def get_session(caller: CallerDep) -> Who:
    """The project and the name that the key or the cookie stands for."""
    return Who(project=caller.project, name=caller.name)


@router.delete("", status_code=204, summary="Sign out")
def sign_out(sessions: SessionsDep, request: Request, response: Response) -> None:
    """The cookie counts no more, and the browser forgets it."""
    token = request.cookies.get(auth.COOKIE)
    if token is not None:
        with sessions.write() as session:
            keys.sign_out(session, token)
        auth.forget_cookie(request, response)
