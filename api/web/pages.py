"""All pages, for the application to take in."""

from fastapi import FastAPI

from api.web import datasets, expansions, jobs, priors, site


def install(app: FastAPI) -> None:
    """Add the pages to an application, and the files they are made of."""
    for router in (datasets.pages, expansions.pages, expansions.pictures, jobs.pages, priors.pages):
        app.include_router(router)
    site.install(app)
