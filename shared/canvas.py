"""The picture the model works on: how large it is where a spec says so, and where it does not."""

from pydantic import Field

from shared.strict import Strict

MOST_UNASKED = 512
"""Pixels of a long side that nobody asked for: time and memory grow with the area, so more is for who wants it."""


class Canvas(Strict):
    """The picture the model works on."""

    long_side: int | None = Field(
        None,
        ge=32,
        le=2048,
        description="Long side in pixels; time and memory grow with its square. Left out, it follows the dataset: the "
        "median long side of all its images (of the oldest `parent` that is there, if it grew), in the prior's "
        f"multiples, from the prior's native size to {MOST_UNASKED} or that. The preset `reference` takes the native "
        "size.",
    )


def following(images_side: int, native_size: int, multiple: int) -> int:
    """The long side where none is asked for, for images whose own is `images_side` in the median; 0: there are none.

    In multiples of `multiple`, of which `native_size` is one; at least that, and at most the larger of it and
    MOST_UNASKED.
    """
    most = max(native_size, MOST_UNASKED // multiple * multiple)
    return min(max(round(images_side / multiple) * multiple, native_size), most)
