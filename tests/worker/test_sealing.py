"""A zip that was hashed on its way is the zip that a file would be, and its hash."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import IO, BinaryIO, cast

import pytest

from worker.sealing import Sealed

MEMBERS = {"a.txt": b"one", "empty": b"", "b/c.png": bytes(range(256)) * 5000, "ü.txt": b"two"}


def pack(file: BinaryIO, sealed: Sealed | None = None) -> None:
    with zipfile.ZipFile(cast(IO[bytes], sealed or file), "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(zipfile.ZipInfo(name), data)
            if sealed:
                sealed.seal()
    if sealed:
        sealed.seal()


def test_the_bytes_are_those_of_a_plain_file_and_so_is_the_hash(tmp_path: Path) -> None:
    plain = io.BytesIO()
    pack(plain)
    with (tmp_path / "sealed.zip").open("wb") as file:
        sealed = Sealed(file)
        pack(file, sealed)
    written = (tmp_path / "sealed.zip").read_bytes()
    assert written == plain.getvalue()
    assert (sealed.size, sealed.sha256()) == (len(written), hashlib.sha256(written).hexdigest())
    with zipfile.ZipFile(tmp_path / "sealed.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS
        assert not any(info.flag_bits & 0x08 for info in archive.infolist()), "sizes stand in front of the data"


def test_what_is_sealed_cannot_be_gone_back_to() -> None:
    sealed = Sealed(io.BytesIO())
    sealed.write(b"abc")
    sealed.seek(1)
    sealed.write(b"X")
    sealed.seal()
    with pytest.raises(io.UnsupportedOperation):
        sealed.seek(2)
    assert (sealed.size, sealed.sha256()) == (3, hashlib.sha256(b"aXc").hexdigest())
