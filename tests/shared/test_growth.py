"""What a dataset has that its parent has not."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared.growth import LISTED, Seen, difference


def seen(path: str, bytes_: str, labels: str = "l", split: str = "train") -> Seen:
    return Seen(path, split, bytes_, (labels,))


def counts(old: list[Seen], new: list[Seen]) -> dict[str, int]:
    found = difference(old, new)
    return {"unchanged": found["unchanged"]} | {k: v["count"] for k, v in found.items() if k != "unchanged"}


def test_an_image_is_known_by_its_bytes() -> None:
    old = [seen("same", "1"), seen("other_labels", "2"), seen("old_name", "3"), seen("edited", "4"), seen("gone", "5")]
    old += [seen("to_valid", "6"), seen("renamed_and_relabelled", "7")]
    new = [
        seen("new", "8"),
        seen("edited", "9"),
        seen("new_name", "3"),
        seen("other_labels", "2", "m"),
        seen("same", "1"),
    ]
    new += [seen("to_valid", "6", split="valid"), seen("x", "7", "m")]
    assert difference(old, new) == {
        "unchanged": 1,
        "moved": {"count": 2, "examples": [("to_valid", "to_valid"), ("old_name", "new_name")]},
        "relabelled": {"count": 2, "examples": ["other_labels", "x"]},
        "added": {"count": 2, "examples": ["new", "edited"]},
        "removed": {"count": 2, "examples": ["edited", "gone"]},
    }


def test_of_several_copies_those_with_the_same_labels_are_paired() -> None:
    old = [seen("a", "1", "x"), seen("b", "1", "y")]
    assert counts(old, [seen("c", "1", "y"), seen("d", "1", "x")]) == {
        "unchanged": 0,
        "moved": 2,
        "relabelled": 0,
        "added": 0,
        "removed": 0,
    }
    assert counts(old, [seen("c", "1", "y")]) == {"unchanged": 0, "moved": 1, "relabelled": 0, "added": 0, "removed": 1}
    assert counts(old[:1], [seen("a", "1", "x"), seen("c", "1", "x")])["added"] == 1


def test_only_the_first_are_named_and_all_are_counted() -> None:
    found = difference([], [seen(f"{n:03}", str(n)) for n in range(50)])
    assert found["added"] == {"count": 50, "examples": [f"{n:03}" for n in range(LISTED)]}


IMAGES = st.lists(
    st.builds(seen, st.sampled_from("abcdef"), st.sampled_from("123"), st.sampled_from("xy"), st.sampled_from("tv")),
    unique_by=lambda image: image.path,
)


@given(IMAGES, IMAGES, st.randoms(use_true_random=False))
def test_every_image_is_counted_once_in_whatever_order(old: list[Seen], new: list[Seen], chance: random.Random) -> None:
    found = counts(old, new)
    both = found["unchanged"] + found["moved"] + found["relabelled"]
    assert both + found["removed"] == len(old)
    assert both + found["added"] == len(new)
    assert both == (Counter(i.sha256 for i in old) & Counter(i.sha256 for i in new)).total()
    assert counts(old, old) == {"unchanged": len(old), "moved": 0, "relabelled": 0, "added": 0, "removed": 0}
    shuffled = chance.sample(new, len(new))
    assert counts(old, shuffled)["added"] == found["added"]
