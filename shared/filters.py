"""Filters: which of a job's images are left out of its archive by their measures. They are chosen when the measures are
there, and can be chosen anew for each archive."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.measures import MEASURES
from shared.models import Image, Item, Verdict
from shared.states import Decision, ItemState
from shared.strict import Strict
from shared.verdicts import stands

UNLABELLED = ""
"""Stands for the class of images without a label."""
BINS = 24
MOST = 20
"""Thresholds of one archive."""


def _measure(name: str) -> str:
    if name not in MEASURES:
        raise ValueError(f"there is no measure {name!r}; there are {', '.join(MEASURES)}")
    return name


_Bound = Annotated[float | None, Field(allow_inf_nan=False)]


class Threshold(Strict):
    """Images whose measure is below `min` or above `max` are left out. One that has no such measure stays."""

    measure: Annotated[str, AfterValidator(_measure)] = Field(
        description="Its name.", examples=["psnr_kept"], json_schema_extra={"enum": list(MEASURES)}
    )
    min: _Bound = Field(None, description="The least that is let through.")
    max: _Bound = Field(None, description="The most that is let through.")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("say min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    def passes(self, value: float | None) -> bool:
        """Whether an image with this value stays."""
        if value is None:
            return True
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def __str__(self) -> str:
        bounds = [f"{sign} {bound:g}" for sign, bound in (("<", self.min), (">", self.max)) if bound is not None]
        return f"{self.measure} {' or '.join(bounds)}"


Thresholds = Sequence[Threshold]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that was made, as filters see it. `classes` has each of its labels' class indices."""

    item_id: int
    image_id: int
    split: str
    measures: Mapping[str, float]
    classes: tuple[int, ...]
    rejected: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an archive with some thresholds holds. What was rejected is left out whatever they say, and not counted as
    dropped. `by_class` has for each class the images with a label of it, and how many of them are dropped."""

    total: int
    rejected: int
    dropped: int
    by_class: dict[str, tuple[int, int]]
    by_threshold: list[tuple[Threshold, int]]

    @property
    def kept(self) -> int:
        return self.total - self.rejected - self.dropped


def candidates(session: Session, job_id: str) -> Iterator[Candidate]:
    """The images that a job has made."""
    rows = session.execute(
        select(Item.id, Item.image_id, Image.split, Item.measures, Item.seconds, Image.boxes, Verdict.decision)
        .join(Item.image)
        .outerjoin(Verdict, stands())
        .where(Item.job_id == job_id, Item.state == ItemState.DONE)
        .order_by(Item.id)
    ).yield_per(1000)
    for item_id, image_id, split, measures, seconds, boxes, decision in rows:
        classes = tuple(int(index) for index, *_ in boxes)
        yield Candidate(item_id, image_id, split, numbers(measures, seconds), classes, decision == Decision.REJECT)


def numbers(measures: Mapping[str, Any] | None, seconds: float | None) -> dict[str, float]:
    """The measures of an item, its seconds among them."""
    known = {name: float(value) for name, value in (measures or {}).items() if name in MEASURES}
    return known if seconds is None else known | {"seconds": seconds}


def failed(measures: Mapping[str, float], thresholds: Thresholds) -> list[Threshold]:
    """Those of some thresholds that an image does not pass."""
    return [threshold for threshold in thresholds if not threshold.passes(measures.get(threshold.measure))]


def outlook(made: Iterable[Candidate], thresholds: Thresholds, classes: Sequence[str]) -> Outlook:
    """What an archive with these thresholds holds."""
    total = rejected = dropped = 0
    of_class, lost, by_threshold = Counter[str](), Counter[str](), [0] * len(thresholds)
    for one in made:
        total += 1
        names = {classes[index] for index in one.classes} or {UNLABELLED}
        of_class.update(names)
        if one.rejected:
            rejected += 1
            continue
        passed = [threshold.passes(one.measures.get(threshold.measure)) for threshold in thresholds]
        by_threshold = [count + (not passes) for count, passes in zip(by_threshold, passed, strict=True)]
        if not all(passed):
            dropped += 1
            lost.update(names)
    order = [name for name in (*classes, UNLABELLED) if of_class[name]]
    by_class = {name: (of_class[name], lost[name]) for name in order}
    return Outlook(total, rejected, dropped, by_class, list(zip(thresholds, by_threshold, strict=True)))


@dataclass(frozen=True, slots=True)
class Spread:
    """How a measure is spread: `bins` counts, in equal steps from `lowest` to `highest`."""

    measure: str
    count: int
    lowest: float
    median: float
    highest: float
    bins: tuple[int, ...]


def spreads(made: Iterable[Mapping[str, float]]) -> list[Spread]:
    """How each measure is spread that any image has, in the order of `MEASURES`."""
    values: dict[str, list[float]] = {name: [] for name in MEASURES}
    for measures in made:
        for name, value in measures.items():
            if math.isfinite(value):
                values[name].append(value)
    return [_spread(name, sorted(its)) for name, its in values.items() if its]


def _spread(name: str, values: Sequence[float]) -> Spread:
    lowest, highest, middle = values[0], values[-1], len(values) // 2
    median = values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
    width = (highest - lowest) / BINS
    # All equal: one bin holds them.
    counted = Counter(min(BINS - 1, int((value - lowest) / width)) if width else 0 for value in values)
    return Spread(name, len(values), lowest, median, highest, tuple(counted[bin_] for bin_ in range(BINS)))
