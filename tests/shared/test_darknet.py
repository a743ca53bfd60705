"""A set with labels beside its images, as Darknet, CVAT and labelImg make it, is read and written whole."""

import pytest
from format_files import originals, read, variant, written
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadArchive, BadLabels
from shared.formats.samples import Box

LINE = b"1 0.5 0.5 0.2 0.2\r\n"
SET = {
    "obj.data": b"classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
    "obj.names": b"zebra\nape\n",
    "train.txt": b"data/obj_train_data/a.jpg\ndata/obj_train_data/p/a.jpg\n",
    "valid.txt": b"data/obj_valid_data/b.jpg",
    "obj_train_data/a.jpg": b"",
    "obj_train_data/a.txt": LINE,
    "obj_train_data/p/a.jpg": b"",
    "obj_valid_data/b.jpg": b"",
    "obj_valid_data/b.txt": b"",
}


@pytest.mark.parametrize("top", ["", "export/set 1/"])
def test_cvats_export_is_read_whole(top: str) -> None:
    contents = read({f"{top}{name}": data for name, data in SET.items()})
    assert (contents.format, contents.splits, contents.names) == ("darknet", ("train", "valid"), ("zebra", "ape"))
    assert (contents.warnings, contents.unpaired) == ((), ())
    assert [(s.image, s.split, s.label, s.member) for s in contents.samples] == [
        ("obj_train_data/a.jpg", "train", "obj_train_data/a.txt", f"{top}obj_train_data/a.jpg"),
        ("obj_train_data/p/a.jpg", "train", None, f"{top}obj_train_data/p/a.jpg"),
        ("obj_valid_data/b.jpg", "valid", "obj_valid_data/b.txt", f"{top}obj_valid_data/b.jpg"),
    ]
    assert contents.samples[0].boxes == (Box(1, 0.4, 0.4, 0.6, 0.6),)


def test_labelimgs_folder_is_all_training_images() -> None:
    contents = read({"scans/a.png": b"", "scans/a.txt": LINE, "scans/classes.txt": b"x\ny\n", "scans/b.png": b""})
    assert (contents.splits, contents.names) == (("train",), ("x", "y"))
    assert [(s.image, s.label) for s in contents.samples] == [("a.png", "a.txt"), ("b.png", None)]


def test_roboflows_darknet_export_is_read() -> None:
    files = {
        f"{split}/{name}": data for split in ("train", "valid") for name, data in (("a.jpg", b""), ("a.txt", LINE))
    }
    contents = read({**files, "train/_darknet.labels": b"x\ny\n", "valid/_darknet.labels": b"x\ny\n"})
    assert (contents.splits, contents.names, contents.layout) == (("train", "valid"), ("x", "y"), "{split}")
    assert len(written(contents, originals(contents))) == 6


def test_folders_called_as_splits_are_splits() -> None:
    contents = read({"train/a.jpg": b"", "train/a.txt": LINE, "val/a.jpg": b""})
    assert (contents.splits, contents.layout, contents.names) == (("train", "val"), "{split}", ("class_0", "class_1"))


def test_a_variant_is_listed_with_its_source() -> None:
    contents = read(SET)
    entries = originals(contents)
    files = written(contents, [*entries, variant(contents, entries[0]), variant(contents, entries[2])])
    assert files["obj_train_data/a_rg1.txt"] == LINE
    assert files["train.txt"] == SET["train.txt"] + b"data/obj_train_data/a_rg1.png\n"
    assert files["valid.txt"] == b"data/obj_valid_data/b.jpg\ndata/obj_valid_data/b_rg1.png\n"
    assert files["train.originals.txt"] == SET["train.txt"]
    assert {name: files[name] for name in ("obj.data", "obj.names")} == {
        name: SET[name] for name in ("obj.data", "obj.names")
    }
    again = read(files)
    assert [(s.image, s.split) for s in again.samples if "_rg1" in s.image] == [
        ("obj_train_data/a_rg1.png", "train"),
        ("obj_valid_data/b_rg1.png", "valid"),
    ]


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"obj_train_data/a.txt": b"2 0.5 0.5 0.2 0.2"}, "obj_train_data/a.txt:1: class index 2 is too large"),
        ({"valid.txt": b"data/obj_train_data/a.jpg"}, "valid.txt:1: obj_train_data/a.jpg is in train too"),
        ({"train.txt": b"a.jpg\n"}, "train.txt:1: can be any of several images"),
        ({"train.txt": b"\xff\xff"}, "train.txt: is not UTF-8 text (byte 0)"),
    ],
)  # fmt: skip
def test_a_fault_names_the_file_and_the_line(more: dict[str, bytes], fault: str) -> None:
    with pytest.raises(BadLabels) as refused:
        read({**SET, **more})
    assert str(refused.value.faults[0]).startswith(fault)


def test_lists_that_name_no_image_are_refused() -> None:
    with pytest.raises(BadArchive, match="None of the listed images"):
        read({**SET, "train.txt": b"x.jpg", "valid.txt": b""})


@pytest.mark.parametrize(
    ("lines", "labels"),
    [
        (["0 .5 .5 .2 .2", "0 .5 .5 .2 .2 .9"], "boxes"),
        (["0 .1 .1 .2 .1 .2 .2 .1 .2", "0 .1 .1 .2 .1 .2 .2 .1 .2"], "oriented boxes"),
        (["0 .1 .1 .2 .1 .2 .2 .1 .2", "0 .1 .1 .2 .1 .2 .2"], "polygons"),
    ],
)
def test_what_the_labels_are_is_decided_for_the_set_and_not_for_a_line(lines: list[str], labels: str) -> None:
    beside = {f"{at}.jpg": b"" for at in range(2)} | {f"{at}.txt": line.encode() for at, line in enumerate(lines)}
    folders = {f"images/{at}.jpg": b"" for at in range(2)}
    folders |= {f"labels/{at}.txt": line.encode() for at, line in enumerate(lines)}
    assert read(beside, "darknet").labels == read(folders).labels == labels


STEM = st.text("abc 1ä", min_size=1, max_size=5).map(str.strip).filter(bool)
NUMBER = st.floats(0.001, 1).map(lambda value: f"{value:.6f}")
LABEL = st.lists(st.tuples(st.integers(0, 1), NUMBER, NUMBER, NUMBER, NUMBER), max_size=3)


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(STEM, LABEL | st.none(), min_size=1, max_size=5), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_any_set_comes_out_as_it_went_in(
    labels: dict[str, list[tuple[object, ...]] | None], split: bool, end: str
) -> None:
    files = {"obj.names": f"zebra{end}ape{end}".encode()}
    for at, (stem, lines) in enumerate(labels.items()):
        files[f"obj_train_data/{stem}.jpg"] = b""
        if lines is not None:
            files[f"obj_train_data/{stem}.txt"] = "".join(" ".join(map(str, line)) + end for line in lines).encode()
        name = "valid.txt" if split and at % 2 else "train.txt"
        files[name] = files.get(name, b"") + f"data/obj_train_data/{stem}.jpg{end}".encode()
    contents = read(files)
    assert {name: data for name, data in written(contents, originals(contents)).items() if not name.endswith("g")} == {
        name: data for name, data in files.items() if not name.endswith("g")
    }
