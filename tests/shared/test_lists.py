"""A header no longer names what was taken out of a set."""

from shared.formats import FORMATS, lists


def test_the_lists_of_voc_lose_the_lines_of_what_is_gone() -> None:
    of_class = "ImageSets/Main/cast_train.txt"
    texts = {
        "ImageSets/Main/train.txt": "\ufeffa\r\nb\r\n\r\na b\r\n",
        of_class: "a  1\nb -1\nc 1",
    }
    gone, kept = {"JPEGImages/a.jpg": "train"}, {"JPEGImages/b.jpg": "train", "JPEGImages/a b.jpg": "train"}
    left = lists.unpack(FORMATS["voc"].without(lists.pack(texts), gone, kept))
    assert left == {
        "ImageSets/Main/train.txt": "\ufeffb\r\n\r\na b\r\n",
        of_class: "b -1\nc 1",
    }


def test_the_lists_of_darknet_lose_the_lines_of_what_is_gone() -> None:
    texts = {"train.txt": "data/obj/a.jpg\ndata/obj/b.jpg\n", "valid.txt": "data/other/a.jpg\n", "obj.names": "a\nb\n"}
    gone, kept = {"obj/a.jpg": "train"}, {"obj/b.jpg": "train", "other/a.jpg": "valid"}
    left = lists.unpack(FORMATS["darknet"].without(lists.pack(texts), gone, kept))
    assert left == {"train.txt": "data/obj/b.jpg\n", "valid.txt": "data/other/a.jpg\n", "obj.names": "a\nb\n"}


def test_a_header_that_names_no_image_stays() -> None:
    for kind in ("yolo", "coco"):
        assert FORMATS[kind].without(b"header", {"a.jpg": "train"}, {}) == b"header"
