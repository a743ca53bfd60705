"""All pages, for the application to take in."""

from fastapi import Depends, FastAPI

from api.deps import counted
from api.web import datasets, door, expansions, jobs, priors, review, site


def install(app: FastAPI) -> None:
    """Add the pages to an application, and the files they are made of."""
    app.include_router(door.pages)
    for router in (datasets.pages, expansions.pages, expansions.pictures, review.pages, jobs.pages, priors.pages):
        app.include_router(router, dependencies=[Depends(counted)])
    site.install(app)
