"""Installed priors."""

from fastapi import APIRouter
from sqlalchemy import select

from api import schemas
from api.deps import SessionsDep
from shared.models import Prior

router = APIRouter(prefix="/v1/priors", tags=["priors"])


@router.get("", summary="List the installed priors")
def list_priors(sessions: SessionsDep) -> schemas.Priors:
    """A prior is the model that regrows what is hidden. Workers register those they find when they start."""
    with sessions.read() as session:
        rows = session.scalars(select(Prior).order_by(Prior.name)).all()
        return schemas.Priors(items=[schemas.Prior.from_row(row) for row in rows])
