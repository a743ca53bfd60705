"""A stranger's zip is refused for what is wrong with it, by the member's name, and nothing else goes wrong."""

import contextlib
import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadArchive
from shared.formats.faults import LISTED
from shared.formats.zips import Limits, SafeZip

FILES = {"images/a.jpg": b"a" * 500, "labels/a.txt": b"0 0.5 0.5 0.2 0.2\n", "data.yaml": b"names: [cat]\n"}


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return bytearray(buffer.getvalue())


def member(name: str, change: Callable[[zipfile.ZipInfo], object] = lambda info: None, data: bytes = b"x") -> bytearray:
    """A zip of FILES and one more member, changed before it is written."""
    buffer = io.BytesIO(packed(FILES))
    info = zipfile.ZipInfo("placeholder")
    info.filename = name  # as it is: the constructor would mend it
    change(info)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(info, data)
    return bytearray(buffer.getvalue())


def directory_entry(data: bytes, name: str) -> int:
    """Where the member's entry in the table of contents begins: 46 bytes before its name, which is there last."""
    return data.rindex(name.encode()) - 46


def patched(data: bytearray, name: str, offset: int, form: str, value: int) -> bytearray:
    struct.pack_into(form, data, directory_entry(data, name) + offset, value)
    return data


def opened(data: bytes, limits: Limits | None = None) -> SafeZip:
    return SafeZip(io.BytesIO(data), limits)


def mode(kind: int) -> Callable[[zipfile.ZipInfo], None]:
    def change(info: zipfile.ZipInfo) -> None:
        info.external_attr = (kind | 0o644) << 16

    return change


def test_a_good_zip_gives_its_files_back_from_memory_and_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "good.zip"
    path.write_bytes(packed(FILES))
    for source in (path, io.BytesIO(path.read_bytes())):
        with SafeZip(source) as archive:
            assert archive.members == tuple(FILES)
            assert {name: archive.read(name) for name in archive.members} == FILES
            assert [archive.size(name) for name in archive.members] == [len(data) for data in FILES.values()]


def test_folders_and_what_operating_systems_leave_behind_are_no_members() -> None:
    junk = ["images/", "__MACOSX/images/._a.jpg", "images/.DS_Store", "Thumbs.db", "images/._a.jpg"]
    with opened(packed({**dict.fromkeys(junk, b""), **FILES})) as archive:
        assert archive.members == tuple(FILES)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.txt", "leads out of its folder"),
        ("images/../../evil.txt", "leads out of its folder"),
        ("images\\..\\..\\evil.txt", "leads out of its folder"),
        ("/etc/evil.txt", "absolute path"),
        ("\\\\server\\evil.txt", "absolute path"),
        ("C:/evil.txt", "absolute path"),
        ("c:evil.txt", "absolute path"),
        ("images\\evil.txt", "backslash"),
        ("images//evil.txt", "empty folder name"),
        ("./evil.txt", "single dot"),
        ("images./evil.txt", "ends in a dot"),
        ("evil\n.txt", "control character"),
        ("evil\u2028.txt", "control character"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, reason: str) -> None:
    escaped = name.replace("\n", "\\n").replace("\u2028", "\\u2028")
    with pytest.raises(BadArchive, match=reason) as refused:
        opened(member(name))
    assert escaped in refused.value.detail
    assert [fault.where for fault in refused.value.faults] == [escaped]


def test_a_name_that_is_cut_at_a_nul_is_refused() -> None:
    data = member("evil.txtXimages")
    with pytest.raises(BadArchive, match=r"evil\.txt\\x00images: has a control character"):
        opened(data.replace(b"evil.txtX", b"evil.txt\0"))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (stat.S_IFLNK, "a symbolic link"),
        (stat.S_IFCHR, "a device"),
        (stat.S_IFBLK, "a device"),
        (stat.S_IFIFO, "a device"),
    ],
)
def test_links_and_devices_are_refused(kind: int, reason: str) -> None:
    with pytest.raises(BadArchive, match=rf"evil\.txt: is {reason}"):
        opened(member("evil.txt", mode(kind), b"/etc/passwd"))


def test_encrypted_members_are_refused() -> None:
    with pytest.raises(BadArchive, match=r"labels/a\.txt: is encrypted"):
        opened(patched(packed(FILES), "labels/a.txt", 8, "<H", 1))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_inflate_without_bounds_are_refused(method: int) -> None:
    with pytest.raises(BadArchive, match=rf"a\.txt: is compressed by method {method}"):
        opened(packed({"a.txt": b"x"}, method))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("images/A.JPG", "is the same file as images/a.jpg"),
        ("images/a.jpg/", "is the same file as images/a.jpg"),
        ("images/stra\u00dfe.jpg", "is the same file as images/STRASSE.jpg"),
        ("images/cafe\u0301.jpg", "is the same file as images/caf\u00e9.jpg"),
    ],
)
def test_two_names_of_one_file_are_refused(name: str, reason: str) -> None:
    with pytest.raises(BadArchive) as refused:
        opened(packed({**FILES, "images/STRASSE.jpg": b"", "images/caf\u00e9.jpg": b"", name: b""}))
    assert f"{name}: {reason}" in refused.value.detail


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # zipfile warns of the archive that is wanted here
def test_a_name_that_is_there_twice_is_refused() -> None:
    with pytest.raises(BadArchive, match=r"labels/a\.txt: is there twice"):
        opened(member("labels/a.txt"))


def test_members_that_share_bytes_are_refused() -> None:
    data = packed({"a.bin": b"a" * 100, "b.bin": b"b" * 100}, zipfile.ZIP_STORED)
    first = struct.unpack_from("<L", data, directory_entry(data, "a.bin") + 42)[0]
    with pytest.raises(BadArchive, match=r"b\.bin: overlaps with a\.bin"):
        opened(patched(data, "b.bin", 42, "<L", first))


def test_a_member_that_encloses_others_is_refused_for_each_of_them() -> None:
    inner = bytes(packed({"b.bin": b"b" * 100, "c.bin": b"c" * 100}, zipfile.ZIP_STORED))
    inner = inner[: inner.index(b"PK\x01\x02")]
    data = packed({"a.bin": inner, "b.bin": b"b" * 100, "c.bin": b"c" * 100}, zipfile.ZIP_STORED)
    within = data.index(inner)
    patched(data, "b.bin", 42, "<L", within)
    with pytest.raises(BadArchive) as refused:
        opened(patched(data, "c.bin", 42, "<L", within + inner.rindex(b"PK\x03\x04")))
    assert [str(fault) for fault in refused.value.faults] == [
        "b.bin: overlaps with a.bin",
        "c.bin: overlaps with a.bin",
    ]


def test_a_member_that_reaches_into_the_table_of_contents_is_refused() -> None:
    data = packed({"a.bin": b"a" * 100}, zipfile.ZIP_STORED)
    with pytest.raises(BadArchive, match=r"a\.bin: reaches into the archive's table of contents"):
        opened(patched(patched(data, "a.bin", 20, "<L", 101), "a.bin", 24, "<L", 101))


@pytest.mark.parametrize("offset", [3, 2**32 - 2])
def test_a_member_without_a_header_is_refused(offset: int) -> None:
    with pytest.raises(BadArchive, match=r"labels/a\.txt: has no readable header"):
        opened(patched(packed(FILES), "labels/a.txt", 42, "<L", offset))


def test_a_bomb_is_refused_by_its_ratio_and_repeated_label_lines_are_not() -> None:
    with pytest.raises(BadArchive, match=r"bomb\.png: unpacks to more than 200 times its size"):
        opened(packed({**FILES, "bomb.png": bytes(2**21)}))
    lines = b"0 0.5 0.5 0.2 0.2\n" * 20_000
    with opened(packed({"labels/a.txt": lines})) as archive:
        assert archive.read("labels/a.txt") == lines
        assert len(packed({"labels/a.txt": lines})) * 200 < len(lines)


def test_a_bomb_of_many_small_members_is_refused_by_its_ratio() -> None:
    with pytest.raises(BadArchive, match="archive: unpacks to more than 200 times its size"):
        opened(packed({f"{i}.png": bytes(2**20) for i in range(3)}))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(members=2), "more than 2 members"),
        (Limits(directory_bytes=100), "table of contents has over 100 bytes"),
        (Limits(bytes=400), "archive: unpacks to 531 bytes; at most 400"),
        (Limits(member_bytes=400), "images/a.jpg: unpacks to 500 bytes; at most 400"),
    ],
)
def test_more_than_the_limits_is_refused(limits: Limits, reason: str) -> None:
    with pytest.raises(BadArchive, match=reason):
        opened(packed(FILES), limits)


def test_limits_are_what_may_just_be_reached() -> None:
    with opened(packed(FILES), Limits(members=3, bytes=531, member_bytes=500)) as archive:
        assert archive.read("images/a.jpg", 500) == FILES["images/a.jpg"]
        with pytest.raises(BadArchive, match=r"images/a\.jpg: has 500 bytes; at most 499 are read"):
            archive.read("images/a.jpg", 499)


@pytest.mark.parametrize("claimed", [10, 499, 501, 2000])
def test_a_member_that_lies_about_its_size_is_refused_when_it_is_read(claimed: int) -> None:
    archive = opened(patched(packed(FILES), "images/a.jpg", 24, "<L", claimed))
    with pytest.raises(BadArchive, match=r"^images/a\.jpg: (is damaged|holds 500 bytes where the archive says)"):
        archive.read("images/a.jpg")


def test_reading_a_member_never_unpacks_more_than_it_says() -> None:
    bomb = patched(packed({"a.bin": bytes(2**20)}), "a.bin", 24, "<L", 1000)
    struct.pack_into("<L", bomb, directory_entry(bomb, "a.bin") + 16, zlib.crc32(bytes(1000)))
    with opened(bomb) as archive:
        assert archive.read("a.bin") == bytes(1000)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("position", range(4))
def test_a_damaged_member_is_refused_when_it_is_read(compression: int, position: int) -> None:
    data = packed(FILES, compression)
    data[data.index(b"images/a.jpg") + len("images/a.jpg") + position] ^= 0xFF
    with opened(data) as archive:
        assert archive.read("data.yaml") == FILES["data.yaml"]
        with pytest.raises(BadArchive, match=r"images/a\.jpg: is damaged"):
            archive.read("images/a.jpg")


@pytest.mark.parametrize(
    "data",
    [b"", b"not a zip", b"\x89PNG\r\n\x1a\n" * 100, bytes(packed(FILES)[:-30]), bytes(packed(FILES)[60:])],
    ids=["empty", "text", "image", "cut at the end", "cut at the beginning"],
)
def test_what_is_no_whole_zip_is_refused(data: bytes) -> None:
    with pytest.raises(BadArchive, match=r"not a zip|no readable header"):
        opened(data)


def test_a_truncated_table_of_contents_is_refused() -> None:
    data = packed(FILES)
    end = data.rindex(b"PK\x05\x06")
    del data[end - 20 : end]
    struct.pack_into("<L", data, end - 20 + 12, struct.unpack_from("<L", data, end - 20 + 12)[0] - 20)
    with pytest.raises(BadArchive, match="Truncated central directory"):
        opened(data)


def test_all_faults_are_counted_and_the_first_are_listed() -> None:
    with pytest.raises(BadArchive) as refused:
        opened(packed({f"../{i}": b"" for i in range(LISTED + 50)}))
    assert len(refused.value.faults) == LISTED
    assert "../0" in refused.value.detail
    assert re.search(rf"{LISTED + 50} faults in all", refused.value.detail)


def test_a_refused_archive_of_a_path_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    path.write_bytes(packed({"../a": b""}))
    with pytest.raises(BadArchive):
        SafeZip(path)  # an open file would be a ResourceWarning, and warnings are errors


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_a_damaged_zip_is_read_right_or_refused_and_nothing_else(data: st.DataObject) -> None:
    archive = packed(FILES, data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])))
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(archive) - 1), st.integers(0, 255)), min_size=1, max_size=4)
    ):
        archive[position] = value
    cut = data.draw(st.one_of(st.just(0), st.integers(0, len(archive))))
    contents: set[bytes] = set()
    with contextlib.suppress(BadArchive), opened(archive[cut:]) as opened_archive:
        contents = {opened_archive.read(name) for name in opened_archive.members}
    assert contents <= {*FILES.values(), b""}
