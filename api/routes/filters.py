"""Measures of a job's new images, and what filters would do. `api.routes.archives` orders archives with filters."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.deps import Caller, SessionsDep
from api.problems import documented
from api.routes import HexId
from shared import filters, jobs
from shared.filters import Threshold
from shared.measures import MEASURES
from shared.strict import Strict

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["review"])


class Filters(Strict):
    """Thresholds over measures."""

    filters: Annotated[list[Threshold], Field(max_length=filters.MOST, description="An image must pass all of them.")]


class ClassOutlook(BaseModel):
    """What becomes of the images with a label of one class."""

    class_name: str = Field(description="Empty: images without a label.")
    images: int
    dropped: int


class ThresholdOutlook(BaseModel):
    """How many images do not pass one threshold, whatever the others say."""

    filter: Threshold
    dropped: int


class FilterOutlook(BaseModel):
    """What an archive with these filters would hold."""

    total: int = Field(description="Images that are made so far.")
    rejected: int = Field(description="Left out anyway, by verdict.")
    dropped: int = Field(description="Left out by the filters.")
    kept: int
    by_class: list[ClassOutlook]
    by_filter: list[ThresholdOutlook]


class Spread(BaseModel):
    """A measure, and how it is spread over the images that have it."""

    name: str
    title: str
    meaning: str
    unit: str
    digits: int = Field(description="How many are worth showing after the point.")
    count: int
    lowest: float
    median: float
    highest: float
    bins: list[int] = Field(description="How many images lie in each of equal steps from `lowest` to `highest`.")


class Measures(BaseModel):
    """The measures that any image of a job has."""

    items: list[Spread]


@router.get("/measures", summary="What was measured of a job's images", responses=documented(404, 422))
def get_measures(job_id: HexId, caller: Caller, sessions: SessionsDep) -> Measures:
    """Of the images that are made so far."""
    with sessions.read() as session:
        job = jobs.get(session, caller, job_id)
        found = filters.spreads(one.measures for one in filters.candidates(session, job.id))
    return Measures(
        items=[
            Spread(
                name=spread.measure,
                title=MEASURES[spread.measure].title,
                meaning=MEASURES[spread.measure].meaning,
                unit=MEASURES[spread.measure].unit,
                digits=MEASURES[spread.measure].digits,
                count=spread.count,
                lowest=spread.lowest,
                median=spread.median,
                highest=spread.highest,
                bins=list(spread.bins),
            )
            for spread in found
        ]
    )


@router.post("/filters/preview", summary="What filters would leave out", responses=documented(400, 404, 413, 422))
def preview_filters(job_id: HexId, wanted: Filters, caller: Caller, sessions: SessionsDep) -> FilterOutlook:
    """Nothing is changed: "would drop 83 of 1,400, by class"."""
    with sessions.read() as session:
        job = jobs.get(session, caller, job_id)
        seen = filters.outlook(filters.candidates(session, job.id), wanted.filters, job.dataset.classes)
    return FilterOutlook(
        total=seen.total,
        rejected=seen.rejected,
        dropped=seen.dropped,
        kept=seen.kept,
        by_class=[ClassOutlook(class_name=name, images=n, dropped=lost) for name, (n, lost) in seen.by_class.items()],
        by_filter=[ThresholdOutlook(filter=threshold, dropped=n) for threshold, n in seen.by_threshold],
    )
