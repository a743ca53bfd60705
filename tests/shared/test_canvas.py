"""How large the canvas is where nobody says so."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import PRIOR, add_dataset, new_image
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from shared import datasets, jobs, proposals
from shared.canvas import MOST_UNASKED, following
from shared.db import Sessions
from shared.models import Dataset, Image, Item
from shared.spec import ExpansionSpec


@pytest.mark.parametrize(
    ("images_side", "native_size", "multiple", "side"),
    [
        (454, 128, 16, 448),  # FracAtlas
        (640, 128, 16, 512),
        (9000, 128, 16, 512),
        (136, 128, 16, 128),
        (137, 128, 16, 144),
        (40, 128, 16, 128),
        (0, 128, 16, 128),  # a dataset without images
        (454, 512, 64, 512),  # Stable Diffusion 1.x
        (2000, 768, 64, 768),
        (600, 96, 96, 480),  # no multiple of it is 512
    ],
)
def test_it_follows_the_images_between_the_priors_size_and_the_most(
    images_side: int, native_size: int, multiple: int, side: int
) -> None:
    assert following(images_side, native_size, multiple) == side


@given(images_side=st.integers(0, 20_000), multiple=st.integers(1, 64), times=st.integers(1, 40))
def test_it_is_a_size_that_the_prior_can_work_on_and_the_nearest_to_the_images_in_its_bounds(
    images_side: int, multiple: int, times: int
) -> None:
    native_size = multiple * times
    side = following(images_side, native_size, multiple)
    assert side % multiple == 0
    assert native_size <= side <= max(native_size, MOST_UNASKED)
    allowed = range(native_size, max(native_size, MOST_UNASKED) + 1, multiple)
    assert abs(side - images_side) == min(abs(each - images_side) for each in allowed)


def add(session: Session, *sizes: tuple[int, int], first: int = 0, parent: str | None = None) -> str:
    """A dataset with images of these sizes, by turns to train and to validate; its id."""
    images = [
        replace(new_image(str(first + n), split=("train", "valid")[n % 2]), width=width, height=height)
        for n, (width, height) in enumerate(sizes)
    ]
    dataset_id = add_dataset(session, *images)
    if parent is not None:
        session.get_one(Dataset, dataset_id).options = {"parent": parent}
    return dataset_id


def side(session: Session, dataset_id: str) -> int:
    return datasets.long_side(session, session.get_one(Dataset, dataset_id))


@pytest.mark.parametrize(
    ("sizes", "median"),
    [
        ([(300, 200)], 300),
        ([(200, 300), (300, 200), (300, 100)], 300),  # lying or upright
        ([(100, 90), (2000, 1500), (400, 300)], 400),
        ([(100, 100), (200, 200), (300, 300), (400, 400)], 200),  # of two in the middle, the smaller
    ],
)
def test_a_dataset_has_the_median_of_its_images_long_sides(
    sessions: Sessions, sizes: Sequence[tuple[int, int]], median: int
) -> None:
    with sessions.write() as session:
        add(session, (5000, 5000))  # another's
        assert side(session, add(session, *sizes)) == median


def test_a_dataset_without_images_has_none(sessions: Sessions) -> None:
    with sessions.write() as session:
        dataset_id = add(session, (300, 200))
        session.execute(delete(Image))
        assert side(session, dataset_id) == 0


def test_a_set_that_grew_has_that_of_the_oldest_that_is_there(sessions: Sessions) -> None:
    with sessions.write() as session:
        first = add(session, (300, 200))
        second = add(session, (300, 200), (500, 400), (600, 400), parent=first)
        third = add(session, (700, 700), parent=second)
        assert [side(session, each) for each in (first, second, third)] == [300, 300, 300]
        jobs.delete_dataset(session, "local", first)
    with sessions.read() as session:
        assert [side(session, each) for each in (second, third)] == [500, 500]


def test_so_what_was_made_for_the_smaller_set_is_taken_over(sessions: Sessions) -> None:
    with sessions.write() as session:
        parent = add(session, (300, 200))
        grown = add(session, (300, 200), (500, 400), (600, 400), (600, 400), parent=parent)
        keys = []
        for dataset_id in (parent, grown):
            job = jobs.create(session, "local", ExpansionSpec(dataset_id=dataset_id), PRIOR, 100)
            assert job.resolved["long_side"] == 304
            keys.append(set(session.scalars(select(Item.work_key).where(Item.job_id == job.id))))
        assert keys[0] < keys[1]


def test_it_is_decided_when_a_job_is_made_and_whatever_of_the_set_it_expands(sessions: Sessions) -> None:
    with sessions.write() as session:
        # Three to train, two to validate.
        dataset_id = add(session, (200, 100), (420, 400), (200, 100), (420, 400), (450, 200))
        made = [
            jobs.create(session, "local", ExpansionSpec.model_validate({"dataset_id": dataset_id} | more), PRIOR, 100)
            for more in ({}, {"splits": ["valid"]}, {"max_images": 1}, {"canvas": {"long_side": 256}})
        ]
        told = proposals.of(session, "local", ExpansionSpec(dataset_id=dataset_id), PRIOR, 100)
        session.execute(update(Image).values(width=1000))
    with sessions.read() as session:
        sides = [jobs.get(session, "local", job.id).resolved["long_side"] for job in made]
    assert sides == [416, 416, 416, 256]
    assert told.resolved.long_side == 416
