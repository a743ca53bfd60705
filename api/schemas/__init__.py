"""What crosses the wire, a noun a module: `schemas.jobs.Job` is what is told of a job, whose row is a `models.Job`."""

from api.schemas import archives, audit, datasets, fetches, items, jobs, priors, trainings, uploads

__all__ = ["archives", "audit", "datasets", "fetches", "items", "jobs", "priors", "trainings", "uploads"]
