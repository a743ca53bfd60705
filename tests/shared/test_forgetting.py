"""Images are forgotten with all that came from them, and nothing else is."""

from dataclasses import replace

import pytest
from rows import PRIOR, add_dataset, claim, counts, new_image, result
from sqlalchemy import select

from shared import archives, forgetting, items, jobs, trash
from shared.datasets import NewImage
from shared.db import Sessions
from shared.errors import Conflict, NotFound
from shared.forgetting import Wish
from shared.items import Work
from shared.models import Archive, Dataset, Image, Item, Job, Prior, Receipt, Training
from shared.spec import ExpansionSpec
from shared.states import ArchiveState, ItemState, TrainingState
from shared.storage import Folder, archive_key, source_key


def make_set(sessions: Sessions, storage: Folder, *images: NewImage, owner: str = "local") -> str:
    """A dataset whose originals and masks are stored."""
    with sessions.write() as session:
        dataset_id = add_dataset(session, *images, owner=owner)
    for image in images:
        for sha256 in filter(None, (image.sha256, image.mask_sha256)):
            storage.write(source_key(sha256), b"pixels")
    return dataset_id


def make_job(sessions: Sessions, dataset_id: str, owner: str = "local", **spec: object) -> str:
    asked = ExpansionSpec.model_validate({"dataset_id": dataset_id, "variants": 2, **spec})
    with sessions.write() as session:
        return jobs.create(session, owner, asked, PRIOR, 10_000).id


def settle(sessions: Sessions, storage: Folder, work: Work) -> bool:
    made = result(work)
    storage.write(made.key, b"new pixels")
    with sessions.write() as session:
        return items.settle(session, work, made)


def finish(sessions: Sessions, storage: Folder, job_id: str) -> None:
    """All items done, the archive built."""
    for work in claim(sessions, 1000):
        assert settle(sessions, storage, work)
    conclude(sessions)
    build(sessions, storage, job_id)


def build(sessions: Sessions, storage: Folder, job_id: str) -> None:
    with sessions.write() as session:
        taken = archives.claim(session, 30)
        assert taken is not None
        assert taken.id == job_id
        key = archive_key(taken.id, taken.token)
        storage.write(key, b"zip")
        assert archives.settle(session, taken, key=key, sha256="z" * 64, size=3)


def conclude(sessions: Sessions) -> None:
    with sessions.write() as session:
        jobs.conclude(session)


def forget(sessions: Sessions, dataset_id: str, wish: Wish, owner: str = "local") -> str | None:
    with sessions.write() as session:
        receipt = forgetting.forget(session, owner, "anna", dataset_id, wish)
        return receipt and receipt.id


def body(sessions: Sessions, receipt_id: str | None) -> dict:
    with sessions.read() as session:
        return session.get_one(Receipt, receipt_id).body


def sweep(sessions: Sessions, storage: Folder) -> None:
    with sessions.write() as session:
        while trash.empty(session, storage):
            pass


def stored(storage: Folder) -> set[str]:
    return {str(path.relative_to(storage.root)) for path in storage.root.rglob("*") if path.is_file()}


def paths(sessions: Sessions, dataset_id: str) -> list[str]:
    with sessions.read() as session:
        return list(session.scalars(select(Image.path).where(Image.dataset_id == dataset_id).order_by(Image.path)))


def test_it_goes_with_all_that_came_from_it_and_nothing_else_does(sessions: Sessions, storage: Folder) -> None:
    gone = replace(new_image("1"), mask_sha256="a" * 64)
    dataset_id = make_set(sessions, storage, gone, new_image("2"), new_image("3", split="valid"))
    job_id = make_job(sessions, dataset_id)
    finish(sessions, storage, job_id)
    before = stored(storage)
    with sessions.read() as session:
        seen = forgetting.look(session, "local", "anna", dataset_id, Wish("1.png"))
        lost = set(session.scalars(select(Item.result_key).join(Item.image).where(Image.path == gone.path)))
        lost.add(session.get_one(Archive, job_id).key)
    assert stored(storage) == before, "a look changes nothing"
    assert paths(sessions, dataset_id) == ["images/train/1.png", "images/train/2.png", "images/valid/3.png"]

    receipt = forget(sessions, dataset_id, Wish("1.png"))
    assert body(sessions, receipt) == seen
    assert seen["by"] == "anna"
    assert seen["counts"] == {"images": 1, "variants": 2, "unfinished": 0, "archives": 1, "files": 5}
    (named,) = seen["images"]
    assert (named["path"], named["sha256"], named["mask_sha256"]) == (gone.path, gone.sha256, "a" * 64)
    assert [(each["job"], each["variant"]) for each in named["variants"]] == [(job_id, 1), (job_id, 2)]
    assert paths(sessions, dataset_id) == ["images/train/2.png", "images/valid/3.png"]
    assert counts(sessions, job_id) == {ItemState.DONE: 2}
    with sessions.read() as session:
        assert session.get_one(Archive, job_id).state == ArchiveState.BUILDING
        left = session.get_one(Dataset, dataset_id)
        assert left.counts["images"] == {"train": 1, "valid": 1}
        assert left.counts["boxes"] == {"a": {"train": 1, "valid": 1}}
        assert forgetting.waiting(session, [receipt]) == {receipt: 6}

    # Whatever died since: the files go with the next sweep.
    sweep(sessions, storage)
    assert before - stored(storage) == {*lost, source_key(gone.sha256), source_key("a" * 64)}
    with sessions.read() as session:
        assert forgetting.waiting(session, [receipt]) == {}


def test_a_second_time_nothing_is_meant(sessions: Sessions, storage: Folder) -> None:
    dataset_id = make_set(sessions, storage, new_image("1"), new_image("2"))
    assert forget(sessions, dataset_id, Wish("1.png"))
    assert forget(sessions, dataset_id, Wish("1.png")) is None
    with sessions.read() as session:
        assert len(session.scalars(select(Receipt)).all()) == 1
        assert forgetting.look(session, "local", "anna", dataset_id, Wish("1.png"))["images"] == []


def test_a_file_that_another_dataset_has_stays_and_is_named(sessions: Sessions, storage: Folder) -> None:
    first = make_set(sessions, storage, new_image("1"), new_image("2"))
    finish(sessions, storage, make_job(sessions, first))
    # The child takes over the variants; somebody else has the same image too.
    child = make_set(sessions, storage, new_image("1"), new_image("9"))
    taken_over = make_job(sessions, child)
    theirs = make_set(sessions, storage, new_image("1"), owner="somebody")
    shared_image = source_key(new_image("1").sha256)
    with sessions.read() as session:
        reused = session.scalars(
            select(Item.result_key).where(Item.job_id == taken_over, Item.result_key.is_not(None))
        ).all()
    assert len(reused) == 2

    told = body(sessions, forget(sessions, first, Wish("1.png")))
    assert told["copies"] == [{"dataset": child, "path": "images/train/1.png", "sha256": new_image("1").sha256}]
    assert told["counts"]["files"] == 1, "the archive"
    sweep(sessions, storage)
    assert {shared_image, *reused} <= stored(storage)

    # Everywhere: of one's own datasets.
    told = body(sessions, forget(sessions, child, Wish("1.png", everywhere=True)))
    assert told["copies"] == []
    sweep(sessions, storage)
    assert not set(reused) & stored(storage)
    assert shared_image in stored(storage)
    assert paths(sessions, theirs) == ["images/train/1.png"]
    assert paths(sessions, child) == ["images/train/9.png"]


def test_everywhere_takes_the_copies_in_other_datasets_along(sessions: Sessions, storage: Folder) -> None:
    first = make_set(sessions, storage, new_image("1"), new_image("2"))
    copy = replace(new_image("1"), path="images/train/copy.png")
    other = make_set(sessions, storage, new_image("1"), copy, new_image("3"))
    finish(sessions, storage, job_id := make_job(sessions, other))
    told = body(sessions, forget(sessions, first, Wish("1.png", everywhere=True)))
    assert [(image["dataset"], image["path"]) for image in told["images"]] == [
        (first, "images/train/1.png"),
        (other, "images/train/1.png"),
        (other, "images/train/copy.png"),
    ]
    assert counts(sessions, job_id) == {ItemState.DONE: 2}
    assert paths(sessions, other) == ["images/train/3.png"]
    sweep(sessions, storage)
    assert source_key(new_image("1").sha256) not in stored(storage)


def test_what_runs_on_other_images_goes_on(sessions: Sessions, storage: Folder) -> None:
    dataset_id = make_set(sessions, storage, *(new_image(str(n)) for n in (1, 2)))
    job_id = make_job(sessions, dataset_id)
    batch = claim(sessions, 3)
    assert [work.path[-5:] for work in batch] == ["1.png", "1.png", "2.png"]
    told = body(sessions, forget(sessions, dataset_id, Wish("1.png")))
    assert told["counts"]["unfinished"] == 2
    with sessions.write() as session:
        assert items.renew(session, batch[0].token, 1, 30), "the batch is still its worker's"
    assert [settle(sessions, storage, work) for work in batch] == [False, False, True]
    assert counts(sessions, job_id) == {ItemState.DONE: 1, ItemState.PENDING: 1}
    conclude(sessions)
    with sessions.read() as session:
        assert session.get_one(Job, job_id).finished_at is None


def test_a_job_of_which_nothing_is_left_is_over(sessions: Sessions, storage: Folder) -> None:
    dataset_id = make_set(sessions, storage, new_image("1"))
    live, over = make_job(sessions, dataset_id), make_job(sessions, dataset_id, seed=1)
    with sessions.write() as session:
        jobs.pause(session, session.get_one(Job, live))
    finish(sessions, storage, over)
    forget(sessions, dataset_id, Wish("*"))
    conclude(sessions)
    with sessions.read() as session:
        assert session.get_one(Job, live).finished_at is not None
        assert session.scalars(select(Archive)).all() == []
        assert session.get_one(Dataset, dataset_id).counts["images"] == {}


def test_an_archive_that_is_being_built_is_lost_to_its_worker(sessions: Sessions, storage: Folder) -> None:
    dataset_id = make_set(sessions, storage, new_image("1"), new_image("2"))
    job_id = make_job(sessions, dataset_id)
    for work in claim(sessions, 10):
        settle(sessions, storage, work)
    conclude(sessions)
    with sessions.write() as session:
        at_work = archives.claim(session, 30)
    assert at_work is not None
    forget(sessions, dataset_id, Wish("1.png"))
    with sessions.write() as session:
        assert not archives.settle(session, at_work, key="archives/old.zip", sha256="z" * 64, size=3)
    build(sessions, storage, job_id)


def test_no_report_or_warning_tells_of_it(sessions: Sessions, storage: Folder) -> None:
    one = replace(new_image("p1_1"), group="p1")
    dataset_id = make_set(sessions, storage, one, replace(new_image("p12_1"), group="p12"))
    child = make_set(sessions, storage, new_image("3"))
    job_id = make_job(sessions, dataset_id)
    told = {"across": [[one.path, "images/train/p12_1.png"]], "groups": ["p1", "p12"], "count": 2}
    with sessions.write() as session:
        for each in (dataset_id, child):
            row = session.get_one(Dataset, each)
            row.report, row.warnings = told, [f"Look at {one.path}, p12."]
        session.get_one(Dataset, child).options = {"parent": dataset_id}
        session.get_one(Job, job_id).warnings = [f"{one.path} is small."]
    forget(sessions, dataset_id, Wish(group="p1"))
    covered = {"across": [["(forgotten)", "images/train/p12_1.png"]], "groups": ["(forgotten)", "p12"], "count": 2}
    with sessions.read() as session:
        assert session.get_one(Dataset, dataset_id).report == covered | {"forgotten": 1}
        assert session.get_one(Dataset, child).report == covered
        assert session.get_one(Dataset, child).warnings == ["Look at (forgotten), p12."]
        assert session.get_one(Job, job_id).warnings == ["(forgotten) is small."]


def test_the_priors_that_have_learned_from_it_are_named(sessions: Sessions, storage: Folder) -> None:
    dataset_id = make_set(sessions, storage, new_image("1"), new_image("2"))
    learned = [new_image("1").sha256, "f" * 64]
    about = {"native_size": 64, "multiple": 8, "size": 1, "card": ""}
    with sessions.write() as session:
        made = Training(owner="local", name="mine", dataset_id=dataset_id, request_sha256="r", settings={}, images=2)
        made.state, made.finished_at = TrainingState.DONE, 1234.5
        session.add(made)
        session.flush()
        session.add(
            Prior(owner="local", name="mine", sha256="1" * 64, training_id=made.id, trained_on=learned, **about)
        )
        session.add(Prior(owner="somebody", name="theirs", sha256="4" * 64, trained_on=learned, **about))
        session.add(Prior(name="brought", sha256="2" * 64, trained_on=learned, **about))
        session.add(Prior(name="other", sha256="3" * 64, trained_on=["f" * 64], **about))
    assert body(sessions, forget(sessions, dataset_id, Wish("1.png")))["priors"] == [
        {"name": "brought", "sha256": "2" * 64, "trained_at": None, "images": 1},
        {"name": "mine", "sha256": "1" * 64, "trained_at": 1234.5, "images": 1},
    ]


@pytest.mark.parametrize("state", sorted(set(TrainingState) - {TrainingState.DONE}))
def test_nothing_is_forgotten_while_a_training_holds_on_to_it(
    sessions: Sessions, storage: Folder, state: TrainingState
) -> None:
    dataset_id, other = make_set(sessions, storage, new_image("1")), make_set(sessions, storage, new_image("1"))
    with sessions.write() as session:
        training = Training(owner="local", name="mine", dataset_id=other, request_sha256="r", settings={}, images=1)
        training.state = state
        session.add(training)
    with pytest.raises(Conflict, match=f"'mine' on these images is {state} and"):
        forget(sessions, dataset_id, Wish("*", everywhere=True))
    assert paths(sessions, dataset_id) == ["images/train/1.png"]
    assert forget(sessions, dataset_id, Wish("*"))


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("a1.png", ["x/a1.png", "y/a1.png"]),
        ("x/a1.png", ["x/a1.png"]),
        ("*/a1.png", ["x/a1.png", "y/a1.png"]),
        ("a?.png", ["x/a1.png", "x/a2.png", "y/a1.png"]),
        ("x/*", ["x/[a].png", "x/a1.png", "x/a2.png", "x/b.a1.png"]),
        ("[a].png", ["x/[a].png"]),
        ("A1.png", []),
        ("a1", []),
        ("*.a1*", ["x/b.a1.png"]),
    ],
)
def test_a_pattern_means_a_path_or_a_name(pattern: str, meant: list[str]) -> None:
    fits = Wish(pattern).fits()
    every = ["x/[a].png", "x/a1.png", "x/a2.png", "x/b.a1.png", "y/a1.png"]
    assert [path for path in every if fits(path, "g")] == meant


def test_what_is_not_ones_own_or_not_ready_is_refused(sessions: Sessions, storage: Folder) -> None:
    theirs = make_set(sessions, storage, new_image("1"), owner="somebody")
    with pytest.raises(NotFound):
        forget(sessions, theirs, Wish("*"))
    with sessions.write() as session:
        session.add(checking := Dataset(owner="local", name="new"))
    with pytest.raises(Conflict):
        forget(sessions, checking.id, Wish("*"))
    receipt = forget(sessions, theirs, Wish("*"), owner="somebody")
    with sessions.read() as session, pytest.raises(NotFound):
        forgetting.get(session, "local", str(receipt))
