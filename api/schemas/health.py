"""How the service is."""

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """Whether work can be done, and if not, what is missing."""

    ready: bool
    parts: dict[str, str] = Field(
        description="`database`, `migrations`, `broker`, `storage` and `workers`: `ok`, or why not.",
        examples=[
            {
                "database": "ok",
                "migrations": "ok",
                "broker": "ok",
                "storage": "ok",
                "workers": "no worker seen on queue gpu in the last 30 s",
            }
        ],
    )
