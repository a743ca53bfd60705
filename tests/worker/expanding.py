"""Claimed items made images of, for tests: batch by batch, or all there are."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared.models import Item
from worker import expand
from worker.overlap import overlapping
from worker.priors.diffusers import BUILTIN
from worker.psld.prior import LatentPrior
from worker.studio import Studio

with_the_real_prior = pytest.mark.parametrize("prior_folder", [BUILTIN], ids=["real"], indirect=True)
"""For a test that is about pictures: the prior named builtin is the one that comes with Regrow."""


def nothing() -> None:
    """Nobody is to be woken or told."""


def expand_next(studio: Studio, wake: Callable[[], None] = nothing) -> int:
    """One batch, which is settled when this returns."""
    with overlapping(nothing) as overlap:
        return expand.expand_next(studio, overlap, wake)


def run(studio: Studio, ended: Callable[[], None] = nothing) -> None:
    """All, as a worker's task does it: one batch is settled while the next is sampled."""
    with overlapping(ended) as overlap:
        while expand.expand_next(studio, overlap, nothing):
            pass


def items(studio: Studio) -> list[Item]:
    with studio.sessions.read() as session:
        rows = session.scalars(select(Item).order_by(Item.id)).all()
        for row in rows:
            _ = row.image.path
        return list(rows)


class Prior:
    """The built-in prior with one method of it replaced."""

    def __init__(self, prior: LatentPrior, **replaced: Any) -> None:
        self._prior, self._replaced = prior, replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(self._prior, name)


class Priors:
    def __init__(self, prior: Any) -> None:
        self._prior = prior

    def get(self, *_: object) -> Any:
        return self._prior

    def loaded(self, _device: str) -> set[Path]:
        return set()

    def keep(self, _folders: object) -> bool:
        return False

    def weighs(self, _folders: object) -> int:
        return 0


def with_prior(studio: Studio, **replaced: Any) -> Studio:
    folder, _ = studio.prior_folders["builtin"]
    prior = Prior(studio.priors.get(folder, "cpu"), **replaced)
    return dataclasses.replace(studio, priors=Priors(prior))
