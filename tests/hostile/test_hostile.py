"""Whatever is uploaded is refused by the name of what is wrong with it, or read right, and harms nobody."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import CASES, Case
from door import Door
from packing import GOOD, packed


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's home: `data` is its own, beside it lies what it must not touch, and it stands `here`."""
    made = tmp_path_factory.mktemp("hostile")
    for folder in ("here", "images/train", "labels/train"):
        (made / folder).mkdir(parents=True)
    for name in ("evil.txt", "here/data.yaml", "images/train/a.png"):
        (made / name).write_text("not to be touched")
    return made


@pytest.fixture(scope="module")
def door(home: Path) -> Iterator[Door]:
    made = Door(home)
    made.upload(bytes(packed(GOOD)))
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # zipfile warns of the archive that is wanted here
def test_what_a_stranger_uploads_harms_nobody(case: Case, door: Door, home: Path) -> None:
    data = bytes(case.build())
    before = beside(home)
    answer = door.upload(data)
    assert (answer.outcome, bool(re.search(case.said, answer.said))) == (case.outcome, True), answer
    assert answer.outcome == "ready" or "Traceback" not in answer.said
    assert beside(home) == before
    assert not Path("/tmp/regrow-evil.txt").exists()  # noqa: S108
    assert list((home / "data/storage/uploads").iterdir()) == []
    after = door.upload(bytes(packed(GOOD)))
    assert (after.outcome, after.body["counts"]["boxes"]) == ("ready", {"cat": {"train": 1}, "dog": {"train": 0}})


def test_there_are_many_of_them_and_no_two_are_of_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


def beside(home: Path) -> dict[str, tuple[int, int]]:
    """All files but those of the service: their times and sizes."""
    found = (path for path in home.rglob("*") if path.is_file() and home / "data" not in path.parents)
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}
