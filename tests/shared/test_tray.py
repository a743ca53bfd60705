"""A zip taken from a tray in parts is the zip that a file would be."""

import io
import zipfile
from collections.abc import Iterator
from typing import IO, cast

import pytest

from shared.tray import Tray

MEMBERS = {"a.txt": b"one", "empty": b"", "b/c.png": bytes(range(256)) * 5000, "ü.txt": b"two"}


def parts() -> Iterator[bytes]:
    tray = Tray()
    with zipfile.ZipFile(cast(IO[bytes], tray), "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(zipfile.ZipInfo(name), data)
            yield tray.take()
    yield tray.take()


def test_the_bytes_are_those_of_a_plain_file() -> None:
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    taken = list(parts())
    assert b"".join(taken) == plain.getvalue()
    assert len(taken) == len(MEMBERS) + 1
    with zipfile.ZipFile(io.BytesIO(b"".join(taken))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS
        assert not any(info.flag_bits & 0x08 for info in archive.infolist()), "sizes stand in front of the data"


def test_what_was_taken_cannot_be_gone_back_to() -> None:
    tray = Tray()
    tray.write(b"abc")
    tray.seek(1)
    tray.write(b"X")
    assert tray.take() == b"aXc"
    with pytest.raises(io.UnsupportedOperation):
        tray.seek(2)
    assert tray.tell() == 3
